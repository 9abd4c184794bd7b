"""Run the command ``bzctrl-sandbox``."""

from __future__ import annotations

import argparse
import ipaddress
import shlex
import signal
import sys
import threading
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from bzctrl_provider.sandbox.connection import CONNECTION_VARIABLE, PASSWORD, make_connection_json
from bzctrl_provider.sandbox.server import Sandbox

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence
    from types import FrameType


def make_parser() -> argparse.ArgumentParser:
    """Return the parser of the command line."""
    parser = argparse.ArgumentParser(
        prog="bzctrl-sandbox",
        description="Run a stand-in BzCtrl on this machine, to try the Airflow provider out.",
    )
    parser.add_argument("--host", default="127.0.0.1", help="address to listen at (default: %(default)s)")
    parser.add_argument(
        "--port", type=int, default=8137, help="port, 0 for any free one (default: %(default)s)"
    )
    parser.add_argument(
        "--data", metavar="FILE.sqlite", help="keep the todos in this file (default: in memory)"
    )
    parser.add_argument("--username", help="accept this username only (default: any)")
    parser.add_argument("--password", help="the password that goes with --username")
    parser.add_argument(
        "--token-lifetime",
        type=float,
        default=3600,
        metavar="SECONDS",
        help="seconds after which a token is refused (default: %(default)s)",
    )
    return parser


def is_loopback(host: str) -> bool:
    """Return whether only this machine can reach a server that listens at this address.

    :param host: an address or a name.
    """
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"


def make_greeting(url: str, *, username: str | None, loopback: bool) -> str:
    """Return the text that is printed at the start: the address, and the connection for Airflow.

    :param url: the sandbox's address.
    :param username: the only one accepted, if any; its password is not repeated.
    :param loopback: whether only this machine reaches it; otherwise the connection must allow clear text.
    """
    options: dict[str, Any] = {"allow_http": not loopback}
    if username is not None:
        options |= {"login": username, "password": "<the password>"}
    connection = make_connection_json(url, **options)
    login = f"username {username}" if username else f"any username and password, such as {PASSWORD!r}"
    return (
        f"BzCtrl sandbox (not the real BzCtrl): {url}\n"
        f"  page         {url}/app/\n"
        f"  accepts      {login}\n"
        f"  point Airflow at it:\n"
        f"export {CONNECTION_VARIABLE}={shlex.quote(connection)}\n"
        f"Ctrl-C stops it.\n"
    )


@contextmanager
def _catch_signals() -> Iterator[threading.Event]:
    """Set the event on Ctrl-C or SIGTERM, and restore the signal handlers afterwards."""
    stop = threading.Event()

    def handle(_number: int, _frame: FrameType | None) -> None:
        stop.set()

    before = {number: signal.signal(number, handle) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield stop
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def main(argv: Sequence[str] | None = None) -> int:
    """Run the sandbox until Ctrl-C or SIGTERM.

    :param argv: the arguments; by default those of the process.
    :return: 0 after an orderly end, 1 if it could not start, with one line that says why.
    """
    arguments = make_parser().parse_args(argv)
    loopback = is_loopback(arguments.host)
    with _catch_signals() as stop:
        try:
            sandbox = Sandbox(
                host=arguments.host,
                port=arguments.port,
                data=arguments.data,
                username=arguments.username,
                password=arguments.password,
                token_lifetime_s=arguments.token_lifetime,
            )
            sandbox.start()
        except (OSError, ValueError) as exc:
            reason = exc.strerror if isinstance(exc, OSError) and exc.strerror else str(exc)
            sys.stderr.write(f"bzctrl-sandbox: {reason}\n")
            return 1
        if not loopback:
            sys.stderr.write(
                f"Warning: {arguments.host} is more than this machine. Everybody on the network can reach the sandbox, "
                "read and create todos, and reset it.\n",
            )
            sys.stderr.flush()
        try:
            sys.stdout.write(make_greeting(sandbox.url, username=arguments.username, loopback=loopback))
            sys.stdout.flush()
            # In short waits: on Windows a wait without an end cannot be interrupted.
            while not stop.wait(0.5):
                pass
        finally:
            sandbox.stop()
    return 0
