"""Open a socket within a time that includes the look-up of the name.

``getaddrinfo`` has no timeout: with a broken resolver it takes 15 s and more, and Airflow ends the process of a callback
after 50 s. So a name is looked up in a daemon thread, and the caller stops waiting for it at the end of its time.
"""

from __future__ import annotations

import ipaddress
import os
import socket
import threading
import time
from typing import TYPE_CHECKING, Any

from urllib3.util.connection import allowed_gai_family

if TYPE_CHECKING:
    from collections.abc import Iterable

_LOOKUPS_MAX = 16
"""How many look-ups may hang at a time; each is a thread, and one for each name."""


class LookupTimeoutError(socket.gaierror):
    """Report that a name was not looked up in time."""


class _Lookup:
    """Hold a look-up in progress, and its result for every thread that waits for it."""

    def __init__(self, host: str, port: int) -> None:
        self.key = (host, port)
        self.done = threading.Event()
        self.addresses: list[Any] = []
        self.error: Exception | None = None

    def run(self) -> None:
        try:
            self.addresses = _look_up(*self.key)
        except Exception as exc:  # noqa: BLE001 - raised in the threads that wait
            self.error = exc
        finally:
            with _lock:
                _lookups.pop(self.key, None)
            self.done.set()


_lookups: dict[tuple[str, int], _Lookup] = {}
_lock = threading.Lock()


def _forget_lookups() -> None:
    """Begin without look-ups in a forked child, which has none of its parent's threads."""
    global _lock  # noqa: PLW0603 - a thread that is not in the child may hold the old one
    _lock = threading.Lock()
    _lookups.clear()


os.register_at_fork(after_in_child=_forget_lookups)


def _look_up(host: str, port: int) -> list[Any]:
    return socket.getaddrinfo(host, port, allowed_gai_family(), socket.SOCK_STREAM)


def resolve(host: str, port: int, *, timeout_s: float | None) -> list[Any]:
    """Return the addresses of a host, like ``socket.getaddrinfo``.

    :param timeout_s: the seconds to wait for them, None for no limit.
    :raises LookupTimeoutError: there was no result in time.
    :raises OSError: the look-up failed.
    """
    host = host.strip("[]")
    if _is_address(host) or timeout_s is None:
        return _look_up(host, port)
    with _lock:
        lookup = _lookups.get((host, port))
        if lookup is None:
            if len(_lookups) >= _LOOKUPS_MAX:
                raise LookupTimeoutError(socket.EAI_AGAIN, f"{_LOOKUPS_MAX} look-ups of names hang already")
            lookup = _lookups[host, port] = _Lookup(host, port)
            threading.Thread(target=lookup.run, name="bzctrl-lookup", daemon=True).start()
    if not lookup.done.wait(timeout_s):
        raise LookupTimeoutError(
            socket.EAI_AGAIN, f"the look-up of the name took longer than {timeout_s:.3g} s"
        )
    if lookup.error:
        # One object for several threads would mix up their tracebacks.
        raise type(lookup.error)(*lookup.error.args)
    return lookup.addresses


def _is_address(host: str) -> bool:
    try:
        ipaddress.ip_address(host)
    except ValueError:
        return False
    return True


def open_socket(
    host: str, port: int, *, timeout_s: float | None, socket_options: Iterable[Any] = ()
) -> socket.socket:
    """Connect to the first address of a host that accepts, and return the socket.

    All addresses share the time: a name with four dead ones takes no longer than a name with one.

    :param timeout_s: seconds for the look-up and all addresses together, None for no limit.
    :param socket_options: arguments of ``setsockopt``.
    :return: a socket whose timeout is what is left of the time.
    :raises OSError: why there is no connection, of the last address.
    """
    began = time.monotonic()
    addresses = resolve(host, port, timeout_s=timeout_s)
    remaining_s = None if timeout_s is None else max(timeout_s - (time.monotonic() - began), 0.001)
    error: OSError = socket.gaierror(socket.EAI_NONAME, "the name has no address")
    for address in addresses:
        try:
            sock = _connect(address, remaining_s and remaining_s / len(addresses), socket_options)
        except OSError as exc:
            error = exc
        else:
            left_s = None if timeout_s is None else max(timeout_s - (time.monotonic() - began), 0.001)
            sock.settimeout(left_s)
            return sock
    raise error


def _connect(address: Any, timeout_s: float | None, socket_options: Iterable[Any]) -> socket.socket:
    family, kind, protocol, _, name = address
    sock = socket.socket(family, kind, protocol)
    try:
        for option in socket_options:
            sock.setsockopt(*option)
        sock.settimeout(timeout_s)
        sock.connect(name)
    except BaseException:
        sock.close()
        raise
    return sock
