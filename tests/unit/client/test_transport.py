from __future__ import annotations

import socket

import pytest
import requests
from urllib3.exceptions import ConnectTimeoutError

from bzctrl_provider.client import sockets
from bzctrl_provider.client.transport import BzCtrlAdapter, BzCtrlHTTPConnection, BzCtrlHTTPSConnection


def get_pool(adapter, url, verify=True, proxies=None):
    request = requests.Request("POST", url).prepare()
    return adapter.get_connection_with_tls_context(request, verify, proxies)


@pytest.mark.parametrize(
    ("url", "verify", "proxies"),
    [
        ("https://other.example.com/a", True, None),
        ("https://bzctrl.example.com:8443/a", True, None),
        ("https://bzctrl.example.com/a", False, None),
        ("https://bzctrl.example.com/a", True, {"https": "http://proxy.example.com:3128"}),
    ],
)
def test_adapter_other_settings_have_another_pool(url, verify, proxies):
    """Another host, another trust and another proxy have a pool of their own; the same settings have the same one."""
    adapter = BzCtrlAdapter(connections=1)
    first = get_pool(adapter, "https://bzctrl.example.com/a")
    assert get_pool(adapter, url, verify, proxies) is not first
    assert get_pool(adapter, "https://bzctrl.example.com/a") is first
    adapter.close()


class DeadSocket:
    """Connects to nobody, and notes how long it would have waited."""

    waits: list[float]

    def settimeout(self, seconds):
        self.waits.append(seconds)

    def connect(self, address):
        raise TimeoutError("timed out")

    def setsockopt(self, *option): ...

    def close(self): ...


@pytest.mark.parametrize("kind", [BzCtrlHTTPConnection, BzCtrlHTTPSConnection])
@pytest.mark.parametrize("addresses", [1, 4])
def test_connection_several_addresses_share_the_timeout(monkeypatch, kind, addresses):
    """A name with four dead addresses takes no longer than one; otherwise Airflow would end a callback before it can spool."""
    DeadSocket.waits = []
    found = [(socket.AF_INET, socket.SOCK_STREAM, 6, "", (f"192.0.2.{n}", 443)) for n in range(addresses)]
    monkeypatch.setattr(sockets, "_look_up", lambda *_: found)
    monkeypatch.setattr(socket, "socket", lambda *_: DeadSocket())
    with pytest.raises(ConnectTimeoutError):
        kind("bzctrl.example.com", 443, timeout=30.0).connect()
    assert DeadSocket.waits == [pytest.approx(30.0 / addresses, rel=0.01)] * addresses
