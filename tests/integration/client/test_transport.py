"""A BzCtrl that means harm, over real sockets: what it sends is bounded in time and in memory, and goes nowhere else."""

from __future__ import annotations

import gzip
import resource
import time

import pytest
from support.errors import get_error
from support.scripted_server import CREATED, LINK, TOKEN, Server, drip, reply

from bzctrl_provider.client import requester
from bzctrl_provider.exceptions import (
    BzCtrlBadAnswerError,
    BzCtrlRejectedError,
    BzCtrlServerError,
    BzCtrlTransportError,
)

pytestmark = pytest.mark.security


def endless(piece, *, begin=b"HTTP/1.1 200 OK\r\n", pause_s=0.0):
    """Return an answer of the same piece again and again, until the client goes away."""

    def send(connection):
        connection.sendall(begin)
        while True:
            connection.sendall(piece)
            time.sleep(pause_s)

    return send


ENDLESS = {
    "headers": endless(b"X-Padding: 1\r\n"),
    "one header": endless(b"x" * 65536, begin=b"HTTP/1.1 200 OK\r\nX-Padding: "),
    "a status line": endless(b"x" * 65536, begin=b"HTTP/1.1 200 "),
    "100 Continue": endless(b"HTTP/1.1 100 Continue\r\n\r\n" * 1000, begin=b""),
    "early hints": endless(b"HTTP/1.1 103 Early Hints\r\n\r\n" * 100, begin=b"", pause_s=0.01),
    "a chunk's size": endless(b"0" * 65536, begin=b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n"),
    "a chunk's extension": endless(
        b"x" * 65536, begin=b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n1;"
    ),
    "trailers": endless(
        b"X: y\r\n" * 1000, begin=b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n2\r\n{}\r\n0\r\n"
    ),
    "empty chunks, slowly": drip(
        b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n" + b"1\r\n \r\n" * 1000
    ),
}


def test_get_response_unbounded_is_aborted_in_time(server, new_client, fields):
    """Any unbounded part of a response is aborted within the time of an attempt, with an error of the hierarchy and bounded memory."""
    for how in ENDLESS.values():
        for kind in ["token", "create"]:
            server.reset()
            setattr(server, kind, [how])
            before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
            began = time.monotonic()
            error = get_error(new_client(timeout_s=0.5, max_attempts=1), fields)
            assert time.monotonic() - began < 5
            assert isinstance(error, BzCtrlTransportError | BzCtrlBadAnswerError | BzCtrlServerError)
            assert error.outcome_unknown is (kind == "create")
            assert len(server.sent("create")) == (1 if kind == "create" else 0)
            assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 100 * 1024  # KiB


ODD = {
    "another protocol": b"HTTP/9.9 200 OK\r\n\r\n",
    "a status of letters": b"HTTP/1.1 OK OK\r\n\r\n",
    "a status out of range": b"HTTP/1.1 99999 OK\r\nContent-Length: 0\r\n\r\n",
    "a negative length": b"HTTP/1.1 200 OK\r\nContent-Length: -1\r\n\r\n",
    "two lengths": b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\nContent-Length: 3\r\n\r\n{}",
    "a huge length": b"HTTP/1.1 200 OK\r\nContent-Length: 99999999999999999999\r\n\r\n{}",
    "a chunk of letters": b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nxyz\r\n",
    "a negative chunk": b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n-1\r\n\r\n",
    "an unknown packing": b"HTTP/1.1 200 OK\r\nContent-Encoding: zip\r\nContent-Length: 2\r\n\r\n\x00\x01",
    "packed many times": b"HTTP/1.1 200 OK\r\nContent-Encoding: "
    + b"gzip, " * 50
    + b"gzip\r\nContent-Length: 2\r\n\r\n{}",
    "headers without names": b"HTTP/1.1 200 OK\r\n: x\r\n\x00\x01\r\n\r\n",
    "SSH": b"SSH-2.0-OpenSSH_9.2\r\n",
    "a colour": b"\x1b[31mHTTP/1.1 200 OK\x1b[0m\r\n\r\n",
}


def test_get_response_invalid_http_has_unknown_outcome(server, new_client, fields):
    """The todo went out once; the error is one of the tree and its message one of visible characters."""
    for answer in ODD.values():
        server.reset()
        server.create = [lambda connection, answer=answer: connection.sendall(answer)]
        error = get_error(new_client(timeout_s=0.5), fields)
        assert error.outcome_unknown
        assert str(error).isprintable()
        assert len(str(error)) < 1500
        assert len(server.sent("create")) == 1


def test_get_response_with_content_encoding_is_refused_unread(server, new_client, fields):
    """A gigabyte of zeros in a megabyte, encoded once or twice: none was asked for, so not a byte of it is decoded."""
    for kind in ["token", "create"]:
        for encoding in ["gzip", "deflate", "br", "zstd", "gzip, gzip", "x-unknown"]:
            server.reset()
            bomb = gzip.compress(b" " * 100_000_000)
            bomb = gzip.compress(bomb * 10) if encoding == "gzip, gzip" else bomb
            setattr(server, kind, [reply(body=bomb, headers=[f"Content-Encoding: {encoding}"])])
            before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
            error = get_error(new_client(), fields)
            assert type(error) is BzCtrlBadAnswerError
            assert error.outcome_unknown is (kind == "create")
            assert "a compressed body, which was not asked for" in str(error)
            assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 20 * 1024  # KiB
            assert {headers["Accept-Encoding"] for _, _, headers, _ in server.requests} == {"identity"}


def test_get_response_with_identity_encoding_is_read(server, new_client, fields):
    """``Content-Encoding: identity`` says that there is none."""
    server.create = [reply(body={"taskLink": LINK}, headers=["Content-Encoding: identity"])]
    assert new_client().create_todo(fields).link == LINK


LOCATIONS = [
    "http://localhost:{port}/",
    "//localhost:{port}/",
    "/elsewhere",
    "http://user:x@localhost:{port}/",
]


def test_create_todo_redirecting_headers_are_not_followed(server, new_client, fields):
    """Location, Refresh and Link: neither password, token nor todo reaches another host."""
    for location in [*LOCATIONS, "file:///etc/passwd", "javascript:alert(1)", "\x1b[31m"]:
        for kind in ["token", "create"]:
            server.reset()
            elsewhere = Server()
            to = location.format(port=elsewhere.port)
            headers = [
                f"Location: {to}",
                f"Refresh: 0; url={to}",
                f"Link: <{to}>; rel=next",
                f"Alt-Svc: h3={to}",
            ]
            setattr(server, kind, [reply(307, headers=headers)])
            assert type(get_error(new_client(), fields)) is BzCtrlRejectedError
            setattr(
                server, kind, [reply(body={"taskLink": to, "access_token": "t", "next": to}, headers=headers)]
            )
            created = new_client().create_todo(fields)
            assert created.link in ([to, None] if kind == "create" else [LINK])
            assert elsewhere.connections == 0
            assert {path for _, path, _, _ in server.requests} == {
                "/bzctrl-core-api/oauth/token",
                "/bzctrl-core-api/api/v1/task/add-task",
            }
            elsewhere.stop()


def test_create_todo_response_headers_are_not_sent_back(server, new_client, fields):
    """No cookie, no wish for other credentials, no token from a header."""
    headers = ["Set-Cookie: a=b; Path=/", "WWW-Authenticate: Basic realm=x", "Authorization: Bearer other"]
    server.token = [TOKEN.replace(b"Content-Length", "\r\n".join([*headers, "Content-Length"]).encode(), 1)]
    server.create = [reply(401, headers=headers), CREATED]
    new_client().create_todo(fields)
    for _, path, sent, _ in server.requests:
        assert "Cookie" not in sent
        assert sent.get("Authorization") == (None if path.endswith("/oauth/token") else "Bearer token")


def test_create_todo_slow_server_ends_within_the_bound(server, new_client, fields, monkeypatch):
    """Each attempt drips to its end, and all of them together end when the call does."""
    monkeypatch.setattr(requester, "random", lambda: 0.0)
    server.token = [drip(reply(body=b" " * 100_000))]
    client = new_client(timeout_s=0.4, max_attempts=10)
    began = time.monotonic()
    error = get_error(client, fields, limit_s=1.0)
    assert not error.outcome_unknown
    assert time.monotonic() - began < 2
    assert len(server.sent("token")) == 2


def test_create_todo_invalid_ca_file_raises_and_sends_nothing(server, new_client, fields, tmp_path):
    """No request is sent; the message names the extra and does not quote the file."""
    file = tmp_path / "ca.pem"
    file.write_text("root:x:0:0:no certificate at all")
    error = get_error(new_client(f"https://127.0.0.1:{server.port}", verify=str(file)), fields)
    assert not error.outcome_unknown
    assert "root:" not in str(error)
    assert "ca_bundle" in str(error)
    assert server.requests == []


def test_get_response_interim_response_is_no_final_one(server, new_client, fields):
    """103 Early Hints, say: the outcome of a todo is unknown, and the response after it is not that of the next todo."""
    for status in (102, 103, 199):
        server.reset()
        interim = f"HTTP/1.1 {status} Wait\r\nLink: </x>; rel=preload\r\n\r\n".encode()
        server.create = [interim + reply(body={"title": "the first"}), reply(body={"title": "the second"})]
        client = new_client()
        error = get_error(client, fields)
        assert (type(error), error.outcome_unknown) == (BzCtrlBadAnswerError, True)
        assert client.create_todo(fields).title == "the second"
        assert len(server.sent("create")) == 2


def test_get_response_cut_in_the_headers_has_unknown_outcome(server, new_client, fields):
    """A response that ends within its headers is no created todo, and the todo is not sent again."""
    server.create = [lambda connection: connection.sendall(b"HTTP/1.1 200 OK\r\nContent-Le")]
    error = get_error(new_client(), fields)
    assert (type(error), error.outcome_unknown) == (BzCtrlBadAnswerError, True)
    assert len(server.sent("create")) == 1
