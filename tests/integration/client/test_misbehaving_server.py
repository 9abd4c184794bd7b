from __future__ import annotations

import datetime as dt
import socket
import threading
import time
from email.utils import format_datetime

import pytest
from support.errors import get_error
from support.scripted_server import CREATED, TOKEN, Server, close, drip, hang, reply, reset

from bzctrl_provider.client.retry import Deadline
from bzctrl_provider.exceptions import (
    BzCtrlAuthError,
    BzCtrlBadAnswerError,
    BzCtrlRateLimitError,
    BzCtrlRejectedError,
    BzCtrlServerError,
    BzCtrlTransportError,
)

# --- not connected ---------------------------------------------------------------------------------------------------


def closed_port():
    with socket.create_server(("127.0.0.1", 0)) as taken:
        return taken.getsockname()[1]


def test_create_todo_no_connection_is_retried(new_client, fields, waits):
    """A refused connection and a name that does not exist: all attempts, growing waits, nothing was sent."""
    for host in ["127.0.0.1", "no-such-host.invalid"]:
        waits.clear()
        error = get_error(new_client(f"http://{host}:{closed_port()}"), fields)
        assert type(error) is BzCtrlTransportError
        assert not error.outcome_unknown
        assert "no connection (attempts: 3; " in str(error)
        assert "BzCtrlHTTPConnection" not in str(error)
        assert waits == [1.0, 2.0]


def test_create_todo_connection_at_later_attempt_creates_todo(new_client, fields, waits, monkeypatch):
    """BzCtrl comes back between two attempts: the todo is created, once."""
    other = Server()
    other.stop()

    def start(_, seconds):
        waits.append(seconds)
        other.start(other.port)

    monkeypatch.setattr(Deadline, "wait", start)
    client = new_client(f"http://127.0.0.1:{other.port}")
    assert client.create_todo(fields).key == "EXA-CON-BUS-WOR-03"
    assert waits == [1.0]
    assert len(other.sent("create")) == 1
    other.stop()


def test_create_request_no_connection_is_sent_again(server, new_client, fields, waits):
    """The same after the token was granted: not connected means not sent, so it is safe."""
    server.token = [TOKEN.replace(b"Content-Length", b"Connection: close\r\nContent-Length")]
    client = new_client()
    client.authenticate()
    server.stop()
    error = get_error(client, fields)
    assert "todo request" in str(error)
    assert not error.outcome_unknown
    assert waits == [1.0, 2.0]
    assert server.sent("create") == []


# --- sent, no whole answer -------------------------------------------------------------------------------------------

NO_WHOLE_ANSWER = {
    "reset": reset,
    "closed": close,
    "silent": hang,
    "cut in the body": lambda connection: connection.sendall(reply(body=b'{"taskLink": "', length=500)),
    "no HTTP": lambda connection: connection.sendall(b"\x15\x03\x01\x00\x02\x02\x50\r\n\r\n"),
    "dripping headers": drip(b"HTTP/1.1 200 OK\r\n" + b"X-Padding: 1\r\n" * 1000),
    "dripping body": drip(reply(body=b" " * 10_000)),
    "cut chunks": lambda connection: connection.sendall(
        b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\n12345\r\n"
    ),
}


@pytest.mark.security
def test_create_request_no_whole_response_is_not_sent_again(server, new_client, fields, waits):
    """However the answer fails to come, the request went out once, in bounded time, and its outcome is unknown."""
    for how in NO_WHOLE_ANSWER.values():
        server.reset()
        waits.clear()
        server.create = [how]
        began = time.monotonic()
        error = get_error(new_client(timeout_s=0.3), fields)
        assert type(error) is BzCtrlTransportError
        assert error.outcome_unknown
        assert "may exist in BzCtrl all the same" in str(error)
        assert len(server.sent("create")) == 1
        assert waits == []
        assert time.monotonic() - began < 2


def test_token_request_no_whole_response_is_sent_again(server, new_client, fields, waits):
    """A token can be asked for twice: nothing is created by it."""
    for how in NO_WHOLE_ANSWER.values():
        server.reset()
        waits.clear()
        server.token = [how, how, TOKEN]
        assert new_client(timeout_s=1).create_todo(fields).key == "EXA-CON-BUS-WOR-03"
        assert len(server.sent("token")) == 3
        assert waits == [1.0, 2.0]


def test_token_request_no_response_at_all_raises(server, new_client, fields):
    """After all attempts; no todo was sent, so its outcome is known."""
    server.token = [reset]
    error = get_error(new_client(), fields)
    assert type(error) is BzCtrlTransportError
    assert not error.outcome_unknown
    assert len(server.sent("token")) == 3


# --- statuses --------------------------------------------------------------------------------------------------------


@pytest.mark.security
def test_create_todo_busy_is_retried_after_retry_after(server, new_client, fields, waits):
    """Seconds count up to a minute; what cannot be read leaves the exponential wait."""
    for kind in ["token", "create"]:
        for status in [429, 503]:
            for retry_after, first_wait in [
                ("7", 7.0),
                ("3600", 60.0),
                ("0", 0.0),
                ("soon", 1.0),
                (None, 1.0),
            ]:
                server.reset()
                waits.clear()
                headers = [f"Retry-After: {retry_after}"] if retry_after else []
                setattr(server, kind, [reply(status, headers=headers), *getattr(server, kind)])
                assert new_client().create_todo(fields).key == "EXA-CON-BUS-WOR-03"
                assert waits == [first_wait]
                assert len(server.sent(kind)) == 2


def test_create_todo_retry_after_as_date_is_granted(server, new_client, fields, waits):
    """The HTTP date of half a minute ahead is half a minute, but for the seconds that the test takes."""
    at = dt.datetime.now(dt.UTC) + dt.timedelta(seconds=30)
    server.create = [reply(429, headers=[f"Retry-After: {format_datetime(at, usegmt=True)}"]), CREATED]
    new_client().create_todo(fields)
    assert waits[0] == pytest.approx(29, abs=1.5)


def test_token_request_server_errors_are_retried(server, new_client, fields, waits):
    """The three attempts reach over two failures."""
    for status in [500, 502, 504]:
        server.reset()
        waits.clear()
        server.token = [reply(status), reply(status), TOKEN]
        assert new_client().create_todo(fields).key == "EXA-CON-BUS-WOR-03"
        assert waits == [1.0, 2.0]


def test_create_request_each_status_is_sent_as_often_as_safe(server, new_client, fields):
    """A request that may have created the todo is not repeated; other temporary failures are retried."""
    for status, error, unknown, requests in [
        (500, BzCtrlServerError, True, 1),
        (502, BzCtrlServerError, True, 1),
        (504, BzCtrlServerError, True, 1),
        (503, BzCtrlServerError, False, 3),
        (429, BzCtrlRateLimitError, False, 3),
        (413, BzCtrlRejectedError, False, 1),
        (400, BzCtrlRejectedError, False, 1),
        (404, BzCtrlRejectedError, False, 1),
    ]:
        server.reset()
        server.create = [reply(status, headers=["Retry-After: 1"])]
        caught = get_error(new_client(), fields)
        assert type(caught) is error
        assert caught.outcome_unknown is unknown
        assert caught.status_code == status
        assert len(server.sent("create")) == requests


def test_create_todo_max_attempts_counts_the_first_one(server, new_client, fields):
    """`max_attempts` counts the first one as well."""
    for attempts in [1, 2, 5]:
        server.reset()
        server.create = [reply(429)]
        get_error(new_client(max_attempts=attempts), fields)
        assert len(server.sent("create")) == attempts


def test_create_todo_repeated_401_is_replayed_once(server, new_client, fields):
    """Two token requests and two create requests, then an error."""
    server.create = [reply(401)]
    assert type(get_error(new_client(), fields)) is BzCtrlAuthError
    assert [len(server.sent(kind)) for kind in ("token", "create")] == [2, 2]


@pytest.mark.security
def test_create_todo_redirect_status_is_not_followed(server, new_client, fields):
    """Neither password nor token goes to another host, nor again to the same one."""
    for status in [301, 302, 303, 307, 308]:
        for kind in ["token", "create"]:
            server.reset()
            elsewhere = Server()
            location = f"Location: http://localhost:{elsewhere.port}/bzctrl-core-api/oauth/token"
            setattr(server, kind, [reply(status, headers=[location])])
            error = get_error(new_client(), fields)
            assert type(error) is BzCtrlRejectedError
            assert "none is followed" in str(error)
            assert elsewhere.connections == 0
            assert len(server.sent(kind)) == 1
            elsewhere.stop()


# --- answers ---------------------------------------------------------------------------------------------------------


def flood(connection):
    """Send a hundred megabytes, and count what was taken."""
    connection.sendall(b"HTTP/1.1 200 OK\r\nContent-Length: 104857600\r\n\r\n")
    flood.taken = 0
    try:
        while flood.taken < 104857600:
            connection.sendall(b" " * 65536)
            flood.taken += 65536
    except OSError:
        pass


@pytest.mark.security
def test_get_response_endless_body_is_read_up_to_1_mib(server, new_client, fields):
    """A mebibyte is taken, and what the sockets hold besides."""
    for kind in ["token", "create"]:
        server.reset()
        setattr(server, kind, [flood])
        error = get_error(new_client(), fields)
        assert type(error) is BzCtrlBadAnswerError
        assert error.outcome_unknown is (kind == "create")
        assert "more than 1 MiB" in str(error)
        assert flood.taken < 20 * 1024 * 1024


@pytest.mark.security
def test_get_response_endless_503_is_dropped_before_the_retry(server, new_client, fields):
    """A large 503 is dropped after its mebibyte, and the todo created with the next attempt."""
    server.create = [reply(503, body=b" " * 30_000_000), CREATED]
    assert new_client().create_todo(fields).key == "EXA-CON-BUS-WOR-03"


def test_get_response_chunked_is_read(server, new_client, fields):
    """Chunked transfer, as many frameworks send it, and the connection is used again."""
    chunked = (
        b'HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n10\r\n{"title": "part"\r\n1\r\n}\r\n0\r\n\r\n'
    )
    server.create = [chunked]
    client = new_client()
    assert [client.create_todo(fields).title for _ in range(3)] == ["part"] * 3
    assert server.connections == 1


# --- time ------------------------------------------------------------------------------------------------------------


def test_create_todo_wait_outlasts_call_is_not_begun(server, new_client, fields, waits):
    """A wait that would outlast the call is not begun: the last answer is the result."""
    server.create = [reply(429, headers=["Retry-After: 50"])]
    client = new_client(timeout_s=1.0)
    assert type(get_error(client, fields, limit_s=49.0)) is BzCtrlRateLimitError
    assert waits == []
    server.create = [CREATED]
    error = get_error(client, fields, limit_s=0.0)
    assert "was not sent: the 0 s for this call are used up" in str(error)
    assert not error.outcome_unknown


def test_create_todo_out_of_time_keeps_the_reason(new_client, fields, waits):
    """The error is that of the attempt, not one about time."""
    client = new_client(f"http://127.0.0.1:{closed_port()}")
    assert "Connection refused" in str(get_error(client, fields, limit_s=0.5))
    assert waits == []


# --- connections and threads -----------------------------------------------------------------------------------------


def test_create_todo_one_after_another_uses_one_connection(server, new_client, fields):
    """N todos cost N + 1 requests and a single connection."""
    client = new_client()
    for _ in range(10):
        client.create_todo(fields)
    assert len(server.requests) == 11
    assert server.connections == 1


def test_create_todos_each_thread_uses_one_connection(server, new_client, fields):
    """W threads ask for one token and open at most W connections."""
    results = new_client().create_todos([fields] * 200, max_workers=16)
    assert all(result.key for result in results)
    assert len(server.sent("token")) == 1
    assert len(server.sent("create")) == 200
    assert server.connections <= 16


def test_create_todos_refused_token_is_replaced_once(server, new_client, fields):
    """When eight threads get a 401 at once, one of them asks for a new token."""
    everybody = threading.Barrier(8)
    # Otherwise a client can take the connection again before it sees that the server has closed it.
    refused = reply(401, headers=["Connection: close"])

    def refuse_together(connection):
        everybody.wait(60)
        connection.sendall(refused)

    server.create = [*[refuse_together] * 8, CREATED]
    # A machine that is busy takes its time to start eight threads.
    results = new_client(timeout_s=60).create_todos([fields] * 8, max_workers=8)
    assert all(result.key for result in results)
    assert len(server.sent("token")) == 2
    assert len(server.sent("create")) == 16


# --- TLS and proxies -------------------------------------------------------------------------------------------------


@pytest.mark.security
def test_create_todo_certificate_of_unknown_authority_raises(server, new_client, fields, waits, authority):
    """No second attempt, nothing was sent, and the message names the remedy."""
    server.tls, _ = authority
    error = get_error(new_client(f"https://127.0.0.1:{server.port}"), fields)
    assert type(error) is BzCtrlTransportError
    assert not error.outcome_unknown
    assert "ca_bundle" in str(error)
    assert server.requests == []
    assert server.connections == 1
    assert waits == []


@pytest.mark.security
def test_create_todo_certificate_of_other_host_raises(server, new_client, fields, waits, authority):
    """The authority is known, the name is not the server's."""
    server.tls, ca_bundle = authority
    error = get_error(new_client(f"https://localhost:{server.port}", verify=ca_bundle), fields)
    assert "certificate was refused" in str(error)
    assert waits == []


def test_create_todo_with_ca_bundle_trusts_it(server, new_client, fields, authority):
    """With `ca_bundle` the todo is created, over one connection."""
    server.tls, ca_bundle = authority
    client = new_client(f"https://127.0.0.1:{server.port}", verify=ca_bundle)
    assert [client.create_todo(fields).title for _ in range(3)] == ["t"] * 3
    assert server.connections == 1


@pytest.mark.filterwarnings("ignore::urllib3.exceptions.InsecureRequestWarning")
def test_create_todo_verify_false_trusts_any_server(server, new_client, fields, authority):
    """`verify: false` creates the todo."""
    server.tls, _ = authority
    client = new_client(f"https://127.0.0.1:{server.port}", verify=False)
    assert client.create_todo(fields).title == "t"


def test_create_todo_broken_handshake_was_not_sent(new_client, fields, waits, server):
    """TLS spoken to a clear-text port is tried again and is no unknown outcome: nothing was sent."""
    error = get_error(new_client(f"https://127.0.0.1:{server.port}", timeout_s=0.3), fields)
    assert not error.outcome_unknown
    assert "no connection (attempts: 3; " in str(error)
    assert waits == [1.0, 2.0]


def test_create_todo_tls_breaks_after_sending_has_unknown_outcome(server, new_client, fields, authority):
    """A TLS error after the request was sent is not taken for a refused certificate."""
    server.tls, ca_bundle = authority

    def garbage(connection):
        raw = socket.socket(fileno=connection.detach())
        raw.sendall(b"no TLS record at all, at all")
        raw.close()

    server.create = [garbage]
    error = get_error(new_client(f"https://127.0.0.1:{server.port}", verify=ca_bundle), fields)
    assert error.outcome_unknown
    assert "certificate" not in str(error)


class Proxy(Server):
    """A forward proxy that passes clear text on to the one server there is, and refuses tunnels."""

    def _answer(self, connection):
        request = self._receive(connection)
        if request is None:
            return False
        self.requests.append(request)
        method, path, _, _ = request
        if method == "CONNECT":
            connection.sendall(reply(407))
            return False
        connection.sendall(TOKEN if path.endswith("/oauth/token") else CREATED)
        return True


def test_create_todo_http_proxy_of_environment_is_used(server, new_client, fields, monkeypatch):
    """HTTP_PROXY gets the requests with their whole address, and NO_PROXY takes a host out."""
    proxy = Proxy()
    monkeypatch.setenv("HTTP_PROXY", f"http://127.0.0.1:{proxy.port}")
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")
    monkeypatch.delenv("no_proxy", raising=False)
    new_client().create_todo(fields)
    assert proxy.requests == []
    new_client("http://bzctrl.invalid").create_todo(fields)
    assert [path for _, path, _, _ in proxy.requests] == [
        "http://bzctrl.invalid/bzctrl-core-api/oauth/token",
        "http://bzctrl.invalid/bzctrl-core-api/api/v1/task/add-task",
    ]
    assert proxy.connections == 1
    proxy.stop()


def test_create_todo_rejecting_proxy_keeps_its_password_out_of_the_error(new_client, fields, monkeypatch):
    """A refused tunnel is no connection, and the proxy's own credentials stay out of the error."""
    proxy = Proxy()
    monkeypatch.setenv("HTTPS_PROXY", f"http://proxy-user:proxy-password@127.0.0.1:{proxy.port}")
    error = get_error(new_client("https://bzctrl.invalid"), fields)
    assert not error.outcome_unknown
    assert "407" in str(error)
    assert "proxy-password" not in str(error)
    assert len(proxy.requests) == 3
    proxy.stop()
