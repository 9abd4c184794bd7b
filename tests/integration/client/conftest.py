from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
from pydantic import SecretStr
from support.authority import new_authority
from support.scripted_server import Server

from bzctrl_provider.client.api import BzCtrlClient
from bzctrl_provider.client.auth import TokenSource
from bzctrl_provider.client.endpoints import Endpoints

if TYPE_CHECKING:
    from collections.abc import Callable


@pytest.fixture
def server():
    server = Server()
    yield server
    server.stop()


@pytest.fixture
def waits():
    """Return the seconds that the client would have slept."""
    return []


@pytest.fixture
def new_client(server, waits) -> Callable[..., BzCtrlClient]:
    """Return a maker of clients of that server, which close at the end."""
    clients = []

    def make(url=None, **changes):
        settings = {
            "username": "user@example.com",
            "password": SecretStr("the-password"),
            "timeout_s": 5.0,
            "tokens": TokenSource(),
            "sleep": waits.append,
            "jitter": lambda: 1.0,
        }
        endpoints = Endpoints.from_host(url or f"http://127.0.0.1:{server.port}", allow_http=True)
        clients.append(BzCtrlClient(endpoints, **(settings | changes)))
        return clients[-1]

    yield make
    for client in clients:
        client.close()


@pytest.fixture
def authority(tmp_path):
    """Return a server's TLS context for 127.0.0.1, and the file of the authority that vouches for it."""
    return new_authority(tmp_path)
