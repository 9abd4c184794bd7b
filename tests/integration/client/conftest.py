from __future__ import annotations

import pytest
from support import bzctrl
from support.authority import new_authority
from support.scripted_server import Server

from bzctrl_provider.client import requester
from bzctrl_provider.client.config import Endpoints
from bzctrl_provider.client.retry import Deadline


@pytest.fixture
def server():
    server = Server()
    yield server
    server.stop()


@pytest.fixture
def waits(monkeypatch):
    """Return the seconds that the client would have slept."""
    seconds = []
    monkeypatch.setattr(Deadline, "wait", lambda _, wait_s: seconds.append(wait_s))
    monkeypatch.setattr(requester, "random", lambda: 1.0)
    return seconds


@pytest.fixture
def new_client(server):
    """Return a maker of clients of that server, which close at the end."""
    clients = []

    def make(url=None, **settings):
        endpoints = Endpoints.from_host(url or f"http://127.0.0.1:{server.port}", allow_http=True)
        clients.append(bzctrl.new_client(endpoints, **({"timeout_s": 5.0} | settings)))
        return clients[-1]

    yield make
    for client in clients:
        client.close()


@pytest.fixture
def authority(tmp_path):
    """Return a server's TLS context for 127.0.0.1, and the file of the authority that vouches for it."""
    return new_authority(tmp_path)
