from __future__ import annotations

import socket
import threading
import time

import pytest

from bzctrl_provider.client import sockets
from bzctrl_provider.client.sockets import LookupTimeoutError, open_socket, resolve

FOUND = [(socket.AF_INET, socket.SOCK_STREAM, 6, "", ("127.0.0.1", 9))]


@pytest.fixture
def resolver(monkeypatch):
    """Return a resolver that hangs until it is released, and counts what it was asked."""

    class Resolver:
        def __init__(self):
            self.asked = []
            self.released = threading.Event()

        def __call__(self, host, port, *_):
            self.asked.append(host)
            self.released.wait(10)
            return FOUND

    resolver = Resolver()
    monkeypatch.setattr(socket, "getaddrinfo", resolver)
    yield resolver
    resolver.released.set()
    deadline = time.monotonic() + 5
    while sockets._lookups and time.monotonic() < deadline:
        time.sleep(0.01)


def test_resolve_resolver_hangs_ends_in_time(resolver):
    """The caller does not wait longer than its time, whatever the resolver does."""
    began = time.monotonic()
    with pytest.raises(LookupTimeoutError, match=r"took longer than 0\.05 s"):
        resolve("bzctrl.example.com", 443, timeout_s=0.05)
    assert time.monotonic() - began < 1


def test_resolve_same_name_again_starts_no_second_look_up(resolver):
    """All attempts share the look-up that hangs, so threads do not pile up; its late result serves the next one."""
    for _ in range(20):
        with pytest.raises(LookupTimeoutError):
            resolve("bzctrl.example.com", 443, timeout_s=0.001)
    assert resolver.asked == ["bzctrl.example.com"]
    assert len([thread for thread in threading.enumerate() if thread.name == "bzctrl-lookup"]) == 1
    threading.Timer(0.05, resolver.released.set).start()
    assert resolve("bzctrl.example.com", 443, timeout_s=5) == FOUND


def test_resolve_many_names_hang_is_refused(resolver):
    """The number of threads is bounded, also for many names."""
    for number in range(16):
        with pytest.raises(LookupTimeoutError, match="took longer"):
            resolve(f"bzctrl-{number}.example.com", 443, timeout_s=0.001)
    with pytest.raises(LookupTimeoutError, match="16 look-ups of names hang already"):
        resolve("bzctrl.example.com", 443, timeout_s=5)
    assert len(resolver.asked) == 16


@pytest.mark.parametrize("host", ["127.0.0.1", "[::1]", "::1"])
def test_resolve_address_starts_no_thread(monkeypatch, host):
    """An address needs no look-up that could hang."""
    monkeypatch.setattr(threading, "Thread", None)
    assert resolve(host, 443, timeout_s=1)[0][4][1] == 443


def test_resolve_name_does_not_exist_raises_its_error(monkeypatch):
    """The error of the resolver reaches the caller as its own object."""
    error = socket.gaierror(socket.EAI_NONAME, "Name or service not known")

    def fail(*_):
        raise error

    monkeypatch.setattr(socket, "getaddrinfo", fail)
    with pytest.raises(socket.gaierror, match="not known") as caught:
        resolve("bzctrl.example.com", 443, timeout_s=1)
    assert caught.value is not error


def test_open_socket_slow_look_up_counts_against_the_time(monkeypatch):
    """The connection gets what the look-up has left of the time, and the name is looked up once."""
    asked = []
    with socket.create_server(("127.0.0.1", 0)) as server:
        port = server.getsockname()[1]

        def slow(host, *_):
            asked.append(host)
            time.sleep(0.2)
            return [(socket.AF_INET, socket.SOCK_STREAM, 6, "", ("127.0.0.1", port))]

        monkeypatch.setattr(socket, "getaddrinfo", slow)
        with open_socket("bzctrl.example.com", port, timeout_s=10.0) as connection:
            assert connection.gettimeout() <= 9.8
    assert asked == ["bzctrl.example.com"]


def test_open_socket_first_address_is_dead_takes_the_next():
    """As from a name with an IPv6 and an IPv4 address, of which one is served."""
    with socket.create_server(("127.0.0.1", 0)) as server, pytest.MonkeyPatch.context() as patch:
        port = server.getsockname()[1]
        dead = ("127.0.0.1", closed_port())
        found = [(socket.AF_INET, socket.SOCK_STREAM, 6, "", name) for name in (dead, ("127.0.0.1", port))]
        patch.setattr(sockets, "_look_up", lambda *_: found)
        with open_socket("bzctrl.example.com", port, timeout_s=5.0) as connection:
            assert connection.getpeername()[1] == port


def closed_port():
    with socket.create_server(("127.0.0.1", 0)) as taken:
        return taken.getsockname()[1]


def test_open_socket_name_without_address_raises(monkeypatch):
    """An empty result is an error of the look-up."""
    monkeypatch.setattr(sockets, "_look_up", lambda *_: [])
    with pytest.raises(socket.gaierror, match="no address"):
        open_socket("bzctrl.example.com", 443, timeout_s=None)
