"""Run the command ``bzctrl-sandbox``, also as ``python -m bzctrl_provider.sandbox``."""

from __future__ import annotations

import argparse
import shlex
import signal
import sys
import time

from bzctrl_provider.sandbox.app import CONNECTION_VARIABLE, LOGIN, PASSWORD, make_connection_json
from bzctrl_provider.sandbox.server import Sandbox


def make_parser() -> argparse.ArgumentParser:
    """Return the parser of the command line."""
    parser = argparse.ArgumentParser(
        prog="bzctrl-sandbox",
        description="Run a stand-in BzCtrl on this machine, to try the Airflow provider out.",
    )
    add = parser.add_argument
    add("--host", default="127.0.0.1", help="address to listen at (default: %(default)s)")
    add("--port", type=int, default=8137, help="port, 0 for any free one (default: %(default)s)")
    add("--data", metavar="FILE.sqlite", help="keep the todos in this file (default: in memory)")
    add("--username", help="accept this username only (default: any)")
    add("--password", help="the password that goes with --username")
    add(
        "--token-lifetime",
        dest="token_lifetime_s",
        type=float,
        default=3600,
        help="seconds after which a token is refused (default: %(default)s)",
    )
    return parser


def make_greeting(url: str, *, username: str | None, allow_http: bool) -> str:
    """Return the text that is printed at the start: the address, and the connection for Airflow.

    :param url: the sandbox's address.
    :param username: the only one accepted, if any; its password is not repeated.
    :param allow_http: whether other machines reach it, so that the connection has to allow clear text.
    """
    password = "<the password>" if username else PASSWORD
    connection = make_connection_json(url, login=username or LOGIN, password=password, allow_http=allow_http)
    login = f"username {username}" if username else f"any username and password, such as {PASSWORD!r}"
    host, _, port = url.removeprefix("http://").rpartition(":")
    return (
        f"BzCtrl sandbox (not the real BzCtrl): {url}\n"
        f"  page         {url}/app/\n"
        f"  accepts      {login}\n"
        f"  point Airflow at it:\n"
        f"export {CONNECTION_VARIABLE}={shlex.quote(connection)}\n"
        f"  or in its UI: Host {host}, Schema http, Port {port}, and Login, Password and Extra Fields as above\n"
        f"Ctrl-C stops it.\n"
    )


def main(argv: list[str] | None = None) -> int:
    """Run the sandbox until Ctrl-C or SIGTERM.

    :param argv: the arguments; by default those of the process.
    :return: 0 after an orderly end, 1 if it could not start, with one line that says why.
    """
    arguments = make_parser().parse_args(argv)
    allow_http = not (arguments.host == "localhost" or arguments.host.startswith("127."))
    # Both, because a shell's background job begins with an ignored SIGINT.
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, signal.default_int_handler)
    try:
        with Sandbox(**vars(arguments)) as sandbox:
            if allow_http:
                sys.stderr.write(
                    f"Warning: everybody on the network of {arguments.host} can read and create todos, and reset the sandbox.\n"
                )
            sys.stdout.write(make_greeting(sandbox.url, username=arguments.username, allow_http=allow_http))
            sys.stdout.flush()
            # In short waits, which a signal to any thread interrupts.
            while True:
                time.sleep(0.5)
    except KeyboardInterrupt:
        return 0
    except (OSError, ValueError) as exc:
        sys.stderr.write(f"bzctrl-sandbox: {exc}\n")
        return 1


if __name__ == "__main__":
    sys.exit(main())
