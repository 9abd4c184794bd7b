"""The command `bzctrl-sandbox`."""

from __future__ import annotations

import argparse
import ipaddress
import shlex
import signal
import sys
import threading
from contextlib import contextmanager
from typing import TYPE_CHECKING

from bzctrl_provider.sandbox.connection import CONNECTION_VARIABLE, PASSWORD, connection_json
from bzctrl_provider.sandbox.server import Sandbox

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence
    from types import FrameType


def parser() -> argparse.ArgumentParser:
    """Return the parser of the command line."""
    made = argparse.ArgumentParser(
        prog="bzctrl-sandbox",
        description="Run a stand-in BzCtrl on this machine, to try the Airflow provider out.",
    )
    made.add_argument("--host", default="127.0.0.1", help="address to listen at (default: %(default)s)")
    made.add_argument(
        "--port", type=int, default=8137, help="port, 0 for any free one (default: %(default)s)"
    )
    made.add_argument(
        "--data", metavar="FILE.sqlite", help="keep the todos in this file (default: in memory)"
    )
    made.add_argument("--username", help="accept this username only (default: any)")
    made.add_argument("--password", help="the password that goes with --username")
    made.add_argument(
        "--token-lifetime",
        type=float,
        default=3600,
        metavar="SECONDS",
        help="seconds after which a token is refused (default: %(default)s)",
    )
    return made


def is_loopback(host: str) -> bool:
    """Say whether only this machine can reach a server that listens at this address.

    :param host: an address or a name.
    """
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"


def greeting(url: str, *, username: str | None, loopback: bool) -> str:
    """Return what is printed at the start: where the sandbox is, and how Airflow is pointed at it.

    :param url: the sandbox's address.
    :param username: the only one accepted, if any; its password is not repeated.
    :param loopback: whether only this machine reaches it; else the connection must allow clear text.
    """
    if username is None:
        connection = connection_json(url, allow_http=not loopback)
    else:
        connection = connection_json(url, login=username, password="<the password>", allow_http=not loopback)  # noqa: S106 - a placeholder
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
def _told_to_stop() -> Iterator[threading.Event]:
    """Set the event when Ctrl-C or SIGTERM comes, and leave the signals as they were found."""
    told = threading.Event()

    def tell(_number: int, _frame: FrameType | None) -> None:
        told.set()

    before = {number: signal.signal(number, tell) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield told
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def main(argv: Sequence[str] | None = None) -> int:
    """Run the sandbox until Ctrl-C or SIGTERM.

    :param argv: the arguments; by default those of the process.
    :return: 0 after an orderly end, 1 where it could not start, with one line that says why.
    """
    arguments = parser().parse_args(argv)
    loopback = is_loopback(arguments.host)
    with _told_to_stop() as told:
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
        except (ImportError, OSError, ValueError) as exc:
            reason = exc.strerror if isinstance(exc, OSError) and exc.strerror else str(exc)
            sys.stderr.write(f"bzctrl-sandbox: {reason}\n")
            return 1
        if not loopback:
            sys.stderr.write(
                f"Warning: {arguments.host} is not this machine alone. Everybody on the network can reach the sandbox, "
                "read and create todos, and reset it.\n",
            )
            sys.stderr.flush()
        try:
            sys.stdout.write(greeting(sandbox.url, username=arguments.username, loopback=loopback))
            sys.stdout.flush()
            # In short waits: on Windows a wait without an end cannot be interrupted.
            while not told.wait(0.5):
                pass
        finally:
            sandbox.stop()
    return 0
