"""Hostile requests and many connections: none of them may block other clients, or ``stop``."""

from __future__ import annotations

import json
import socket
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

import pytest

from bzctrl_provider.sandbox import Sandbox, http_server
from bzctrl_provider.sandbox.http_server import MAX_BODY_BYTES

if TYPE_CHECKING:
    from collections.abc import Callable

TOKEN = "/bzctrl-core-api/oauth/token"
CREATE = "/bzctrl-core-api/api/v1/task/add-task"
JSON = {"Content-Type": "application/json"}
LINE = f"POST {TOKEN} HTTP/1.1\r\nHost: x\r\n".encode()

PROMPT_S = 5
"""Longer than any of these requests takes; each took minutes, or blocked all others, with quadratic work."""


def connect(url: str, sent: bytes = b"") -> socket.socket:
    host, port = urlsplit(url).netloc.split(":")
    connection = socket.create_connection((host, int(port)), timeout=10)
    connection.sendall(sent)
    return connection


def receive_all(connection: socket.socket) -> bytes:
    received = b""
    with connection:
        while piece := connection.recv(65536):
            received += piece
    return received


def longest_wait(caller: Any, hostile: Callable[[], Any]) -> tuple[Any, float]:
    """Run a hostile request beside others; return its result, and the longest time that one of the others took."""
    waits = [0.0]
    with ThreadPoolExecutor(1) as pool:
        result = pool.submit(hostile)
        while not result.done():
            began = time.monotonic()
            assert caller.send("GET", "/sandbox/health").status_code == 200
            waits.append(time.monotonic() - began)
    return result.result(), max(waits)


@pytest.mark.parametrize(
    "body",
    [
        b"{" + b",".join(b'"a%d": 1, "a%d": 1' % (n, n) for n in range(50_000)) + b"}",
        b"{" + b",".join(b'"a%d": 1' % n for n in range(100_000)) + b"}",
        b'{"' + b"a" * 1_000_000 + b'": 1}',
        b'{"title": ' + b"9" * 1_000_000 + b"}",
        b'{"title": 0.' + b"9" * 1_000_000 + b"}",
        b'{"title": 1e999}',
        b"[" * 1_000_000,
        b"[" * 101 + b"]" * 101,
        b'{"category": [' + b",".join([b"1"] * 200_000) + b"]}",
        b'{"impact": ' + b"[" * 90 + b"0," * 200_000 + b"0" + b"]" * 90 + b"}",
    ],
    ids=[
        "duplicate keys",
        "unknown keys",
        "long key",
        "huge integer",
        "long fraction",
        "infinite number",
        "unclosed brackets",
        "deep list",
        "many items",
        "wide and deep value",
    ],
)
def test_create_with_hostile_json_blocks_no_other_client(caller: Any, make_caller: Any, body: bytes) -> None:
    """The body is refused in a short time with a short response, and is recorded, while other requests are answered."""
    other = make_caller(caller.url)
    response, wait = longest_wait(other, lambda: caller.create(data=body, headers=JSON))
    assert response.status_code == 400
    assert len(response.content) < 100_000 or b'"' + b"a" * 1_000_000 in body
    assert response.elapsed.total_seconds() < PROMPT_S
    assert wait < PROMPT_S
    [record] = other.send("GET", "/sandbox/requests").json()
    assert len(json.dumps(record["body"])) < 200_000


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("description", "http://a.example/" + "(" * 50_000 + ")" * 100_000),
        ("description", "http://a.example/" + "])" * 100_000),
        ("description", "http://a.example/" + ".,;" * 100_000),
        ("financialImpact", "9" * 200_000),
    ],
    ids=["brackets", "closing brackets", "punctuation", "amount"],
)
def test_page_of_a_todo_with_hostile_text_blocks_no_other_client(
    caller: Any, make_caller: Any, todo: dict[str, Any], field: str, value: str
) -> None:
    """A long address of brackets, or a huge amount, is shown in a short time while other requests are answered."""
    assert caller.create(todo | {field: value}).status_code == 200
    path = "/app/todo/EXA-CON-BUS-WOR-01"
    response, wait = longest_wait(make_caller(caller.url), lambda: caller.send("GET", path))
    assert response.status_code == 200
    assert max(response.elapsed.total_seconds(), wait) < PROMPT_S


def test_page_with_a_long_address_of_brackets_is_refused_or_shown(caller: Any) -> None:
    """An address of 20,000 percent-encoded brackets is an unknown todo, and one over 64 KiB gets a 414."""
    assert caller.send("GET", "/app/todo/" + "[(" * 10_000).status_code == 404
    response = receive_all(connect(caller.url, b"GET /" + b"[" * 70_000 + b" HTTP/1.1\r\nHost: x\r\n\r\n"))
    assert response.startswith(b"HTTP/1.1 414 ")


@pytest.mark.parametrize(
    ("sent", "status"),
    [
        (b"Content-Length: %d\r\n\r\n" % (MAX_BODY_BYTES + 1), 413),
        (b"Transfer-Encoding: chunked\r\n\r\n%x\r\n" % (MAX_BODY_BYTES + 1), 413),
        (b"Content-Length: 1\r\nTransfer-Encoding: chunked\r\n\r\n", 400),
        (b"Content-Length: 1\r\nContent-Length: 2\r\n\r\n", 400),
        (b"Content-Length: -1\r\n\r\n", 400),
        (b"Transfer-Encoding: gzip\r\n\r\n", 501),
        (b"Transfer-Encoding: chunked\r\n\r\nzz\r\n", 400),
        (b"Transfer-Encoding: chunked\r\n\r\n1\r\nab\r\n", 400),
        (b"Transfer-Encoding: chunked\r\n\r\n0\r\n" + b"A: b\r\n" * 101, 431),
        (b"Host: y\r\n\r\n", 400),
        (b"no colon\r\n\r\n", 400),
        (b"a b: c\r\n\r\n", 400),
        (b"Folded: a\r\n b\r\n\r\n", 400),
        (b"".join(b"A%d: " % n + b"a" * 10_000 + b"\r\n" for n in range(10)) + b"\r\n", 431),
        (b"".join(b"A%d: b\r\n" % n for n in range(101)) + b"\r\n", 431),
    ],
)
def test_request_that_breaks_http_gets_an_error_and_the_end(
    sandbox: Sandbox, sent: bytes, status: int
) -> None:
    """A malformed or oversized request is refused with JSON, and its connection ends."""
    connection = connect(sandbox.url, LINE + sent)
    connection.shutdown(socket.SHUT_WR)
    head, _, body = receive_all(connection).partition(b"\r\n\r\n")
    assert head.startswith(b"HTTP/1.1 %d " % status)
    assert b"Connection: close" in head
    assert set(json.loads(body)) == {"error", "error_description"}


@pytest.mark.parametrize(
    ("line", "status"),
    [
        (b"GET /app/\r\n\r\n", 400),
        (b"GET /app/ HTTP/2.0\r\n\r\n", 505),
        (b"GET /app/ HTTP/1.1\r\n\r\n", 400),
        (b"GET /app/ HTTP/1.1\r\nHost: a<b>\r\n\r\n", 400),
        (b"BREW /app/ HTTP/1.1\r\nHost: x\r\n\r\n", 501),
        (b"nonsense\r\n\r\n", 400),
    ],
)
def test_request_line_that_breaks_http_gets_an_error(sandbox: Sandbox, line: bytes, status: int) -> None:
    """A request of another version, without a valid Host, or with an unknown method is refused."""
    connection = connect(sandbox.url, line)
    connection.shutdown(socket.SHUT_WR)
    assert receive_all(connection).startswith(b"HTTP/1.1 %d " % status)


def test_chunked_request_is_read_and_the_connection_kept(sandbox: Sandbox) -> None:
    """A body in chunks, with an extension and a trailer, counts as one body; a second request follows it."""
    chunked = (
        LINE + b"Content-Type: application/x-www-form-urlencoded\r\nTransfer-Encoding: chunked\r\n\r\n"
        b"13;x=y\r\ngrant_type=password\r\nF\r\n&username=u&pas\r\n6\r\nsword=\r\n1\r\np\r\n0\r\nTrailer: x\r\n\r\n"
    )
    last = b"GET /sandbox/health HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n"
    received = receive_all(connect(sandbox.url, chunked + chunked + last))
    assert received.count(b"HTTP/1.1 200 OK") == 3
    assert [record.body["username"] for record in sandbox.requests] == ["u", "u"]


def test_head_of_a_page_has_its_length_and_no_body(sandbox: Sandbox, stranger: Any) -> None:
    """HEAD has the headers of GET, and the connection stays in step."""
    received = receive_all(
        connect(sandbox.url, b"HEAD /app/ HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n")
    )
    head, _, body = received.partition(b"\r\n\r\n")
    page = receive_all(connect(sandbox.url, b"GET /app/ HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n"))
    assert body == b""
    shown = page.partition(b"\r\n\r\n")[2]
    assert b"Content-Length: %d\r\n" % len(shown) in head


def test_http_1_0_and_continue_are_served(sandbox: Sandbox) -> None:
    """HTTP/1.0 needs no Host and ends the connection; a client that expects 100 gets it before it sends its body."""
    received = receive_all(connect(sandbox.url, b"GET /sandbox/health HTTP/1.0\r\n\r\n"))
    assert received.startswith(b"HTTP/1.1 200 OK")
    with connect(sandbox.url, LINE + b"Expect: 100-continue\r\nContent-Length: 1\r\n\r\n") as connection:
        assert connection.recv(65536) == b"HTTP/1.1 100 Continue\r\n\r\n"
        connection.sendall(b"x")
        assert connection.recv(65536).startswith(b"HTTP/1.1 415 ")


def test_silent_and_slow_clients_keep_nobody_out(monkeypatch: pytest.MonkeyPatch, make_caller: Any) -> None:
    """Of more connections than are allowed, those that have been waiting longest are closed, and others are served."""
    monkeypatch.setattr(http_server, "MAX_CONNECTIONS", 20)
    # Those of other tests may still run.
    before = threading.active_count()
    with Sandbox() as sandbox:
        silent = [connect(sandbox.url, LINE if number % 2 else b"") for number in range(60)]
        assert make_caller(sandbox.url).token().status_code == 200
        assert threading.active_count() - before < 40
        began = time.monotonic()
    assert time.monotonic() - began < PROMPT_S
    assert receive_all(silent[0]) == b""
    for connection in silent[1:]:
        connection.close()


def test_connection_beside_only_busy_ones_gets_503(monkeypatch: pytest.MonkeyPatch, make_caller: Any) -> None:
    """If every connection waits for its response, a new one gets a 503 that says so."""
    monkeypatch.setattr(http_server, "MAX_CONNECTIONS", 2)
    with Sandbox() as sandbox:
        sandbox.fail_next("slow", on="token", delay_s=60, times=2)
        body = b"grant_type=password&username=u&password=p"
        head = b"Content-Type: application/x-www-form-urlencoded\r\nContent-Length: %d\r\n\r\n" % len(body)
        busy = [connect(sandbox.url, LINE + head + body) for _ in range(2)]
        deadline = time.monotonic() + 5
        while len(sandbox.requests) < 2:
            assert time.monotonic() < deadline
        assert receive_all(connect(sandbox.url)).startswith(b"HTTP/1.1 503 ")
    for connection in busy:
        with pytest.raises(ConnectionResetError):
            receive_all(connection)


def test_stop_with_clients_of_every_kind_is_prompt_and_leaves_nothing() -> None:
    """Silent, half and unread requests do not delay ``stop``, and no thread is left."""
    before = set(threading.enumerate())
    sandbox = Sandbox()
    sandbox.start()
    clients = [
        connect(sandbox.url),
        connect(sandbox.url, b"GET /app"),
        connect(sandbox.url, LINE + b"Content-Length: 100\r\n\r\nhalf"),
        connect(sandbox.url, LINE + b"Transfer-Encoding: chunked\r\n\r\n5\r\nab"),
        # Responses that the client never reads, until the sandbox cannot send any more.
        connect(sandbox.url, b"GET /app/static/sandbox.css HTTP/1.1\r\nHost: x\r\n\r\n" * 5_000),
    ]
    began = time.monotonic()
    sandbox.stop()
    assert time.monotonic() - began < PROMPT_S
    assert set(threading.enumerate()) <= before
    for client in clients:
        client.close()


def test_defect_of_the_sandbox_is_a_500_and_logged(
    sandbox: Sandbox, caller: Any, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """An exception of an endpoint is neither a reset nor silent."""
    monkeypatch.setattr(sandbox._state.todos, "create", lambda *_, **__: 1 / 0)
    response = caller.create()
    assert (response.status_code, response.json()["error"]) == (500, "Internal Server Error")
    assert "ZeroDivisionError" in caplog.text
