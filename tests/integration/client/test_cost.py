from __future__ import annotations

import json
import socket
import threading

import pytest
from support.scripted_server import CREATED, Server, reply

from bzctrl_provider.client import auth
from bzctrl_provider.hooks.bzctrl import BzCtrlHook


@pytest.fixture
def hook(server, monkeypatch):
    """Return a hook whose connection leads to the server."""
    given = {
        "conn_type": "bzctrl",
        "login": "user@example.com",
        "password": "made-up-password",
        "host": f"http://127.0.0.1:{server.port}",
    }
    monkeypatch.setenv("AIRFLOW_CONN_BZCTRL_DEFAULT", json.dumps(given))
    hook = BzCtrlHook()
    yield hook
    hook.get_conn().close()


def test_hook_several_todos_cost_one_request_each_and_one_token(server, hook, fields):
    """N todos are N + 1 requests over a single connection."""
    for _ in range(25):
        hook.create_todo(fields)
    assert len(server.sent("token")) == 1
    assert len(server.sent("create")) == 25
    assert server.connections == 1


def test_hook_several_threads_share_a_token_and_keep_connections(server, hook, fields):
    """W threads are one token request and at most W connections, however many todos there are."""
    for threads in [1, 5, 16]:
        server.reset()
        auth._sources.clear()
        results = BzCtrlHook().create_todos([fields] * 100, max_workers=threads)
        assert all(result.key for result in results)
        assert len(server.sent("token")) == 1
        assert len(server.sent("create")) == 100
        assert server.connections <= threads


def test_connection_response_is_retried_is_used_again(server, new_client, fields, waits):
    """The answer is read whole, with and without a body, so the next attempt needs no new connection."""
    for answer in [
        reply(503, body=b"out of order"),
        reply(429, headers=["Retry-After: 1"]),
        reply(503, body=b"", headers=["Set-Cookie: session=1"]),
    ]:
        server.reset()
        waits.clear()
        server.create = [answer, CREATED]
        client = new_client()
        assert client.create_todo(fields).title == "t"
        assert client.create_todo(fields).title == "t"
        assert len(waits) == 1
        assert server.connections == 1
        assert not any("Cookie" in headers for _, _, headers, _ in server.requests)


def test_connection_error_response_is_used_again(server, new_client, fields):
    """A refused todo leaves the connection as it was."""
    server.create = [reply(400, body=b"no such workspace"), reply(404), CREATED]
    client = new_client()
    for _ in range(2):
        with pytest.raises(Exception, match="was answered with 40"):
            client.create_todo(fields)
    assert client.create_todo(fields).title == "t"
    assert server.connections == 1


class Tunnel(Server):
    """A proxy that connects a client with the address that it asks for, and sees nothing of what is said."""

    def _answer(self, connection):
        request = self._receive(connection)
        if request is None:
            return False
        self.requests.append(request)
        host, _, port = request[1].rpartition(":")
        with socket.create_connection((host, int(port)), timeout=10) as other:
            connection.sendall(b"HTTP/1.1 200 Connected\r\n\r\n")
            back = threading.Thread(target=self._relay, args=[other, connection], daemon=True)
            back.start()
            self._relay(connection, other)
            back.join(10)
        return False

    @staticmethod
    def _relay(source, target):
        try:
            while data := source.recv(65536):
                target.sendall(data)
            target.shutdown(socket.SHUT_WR)
        except OSError:
            pass  # the other side went first


def test_create_todo_tls_through_proxy_of_environment_is_trusted(
    server, new_client, fields, monkeypatch, authority
):
    """HTTPS_PROXY gets one CONNECT for all todos, and REQUESTS_CA_BUNDLE vouches for the server behind it."""
    server.tls, ca_bundle = authority
    proxy = Tunnel()
    for name in ("NO_PROXY", "no_proxy", "https_proxy", "CURL_CA_BUNDLE"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("HTTPS_PROXY", f"http://127.0.0.1:{proxy.port}")
    monkeypatch.setenv("REQUESTS_CA_BUNDLE", ca_bundle)
    client = new_client(f"https://127.0.0.1:{server.port}")
    assert [client.create_todo(fields).title for _ in range(3)] == ["t"] * 3
    assert [(method, path) for method, path, _, _ in proxy.requests] == [
        ("CONNECT", f"127.0.0.1:{server.port}")
    ]
    assert len(server.sent("create")) == 3
    client.close()
    proxy.stop()


def test_client_closed_connects_again(server, new_client, fields):
    """Its connections are closed, and the next todo uses a new one."""
    client = new_client()
    client.create_todo(fields)
    client.close()
    assert client.create_todo(fields).title == "t"
    assert server.connections == 2
