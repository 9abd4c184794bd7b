"""The retry table of the documents, row by row: how many requests go out, and what comes of them."""

from __future__ import annotations

import ssl

import pytest
import requests
from support.bzctrl import ACC, LINK, TOKEN, new_client
from urllib3.exceptions import MaxRetryError, NewConnectionError, ProtocolError

from bzctrl_provider.client import requester
from bzctrl_provider.exceptions import (
    BzCtrlAuthError,
    BzCtrlBadAnswerError,
    BzCtrlError,
    BzCtrlRateLimitError,
    BzCtrlRejectedError,
    BzCtrlServerError,
    BzCtrlTransportError,
)

GRANTED = {"json": {"access_token": TOKEN, "expires_in": 3600}}
CREATED = {"json": {"taskLink": LINK}}


def status(code, **headers):
    return {"status_code": code, "headers": headers}


def failure(exc):
    return {"exc": exc}


NOT_CONNECTED = failure(
    requests.ConnectionError(MaxRetryError(None, "/", NewConnectionError(None, "Connection refused")))
)
RESET = failure(requests.ConnectionError(ProtocolError("Connection aborted.", OSError("reset by peer"))))
SILENT = failure(requests.ReadTimeout("read timed out"))
UNTRUSTED = failure(requests.exceptions.SSLError(ssl.SSLCertVerificationError("self-signed certificate")))
UNSENDABLE = [
    failure(requests.exceptions.InvalidURL("bad host")),
    failure(requests.exceptions.InvalidProxyURL("bad proxy")),
    failure(requests.exceptions.InvalidSchema("no SOCKS")),
    failure(OSError("no CA file")),
]
NO_TODO = [
    {"text": "<html>fine</html>"},
    {"text": ""},
    {"status_code": 204},
    {"json": [1]},
    {"text": "[" * 100_000},
    {"content": b"\xff\xfe\x00"},
    {"json": {"title": "x" * 1024 * 1024}},
    {"json": {}},
    {"json": {"timestamp": "2026-11-30T08:00:00Z", "status": 500, "error": "Internal Server Error"}},
    {"json": dict.fromkeys(("title", "taskType", "description", "taskLink", "tags"))},
]


@pytest.fixture
def attempt(requests_mock, fields, waits, monkeypatch):
    """Return a function that creates a todo with a new client, and returns it or the error, and how many requests were sent."""
    monkeypatch.setattr(requester, "random", lambda: 1.0)

    def run(*, token=(GRANTED,), create=(CREATED,), limit_s=None):
        requests_mock.reset_mock()
        waits.clear()
        requests_mock.post(ACC.token_url, list(token))
        requests_mock.post(ACC.create_url, list(create))
        client = new_client()
        try:
            result = client.create_todo(fields, limit_s=limit_s)
        except BzCtrlError as exc:
            result = exc
        client.close()
        urls = [request.url for request in requests_mock.request_history]
        return result, (urls.count(ACC.token_url), urls.count(ACC.create_url))

    return run


def test_create_todo_failure_that_may_pass_is_sent_again(attempt, waits):
    """A token request after each failure that may pass, a todo only if it was not taken on; after one and two seconds."""
    for row in (NOT_CONNECTED, status(429), status(503)):
        created, sent = attempt(create=[row, row, CREATED])
        assert (created.link, sent, waits) == (LINK, (1, 3), [1.0, 2.0])
    for row in (NOT_CONNECTED, RESET, SILENT, *map(status, (429, 500, 502, 503, 504))):
        created, sent = attempt(token=[row, row, GRANTED])
        assert (created.link, sent, waits) == (LINK, (3, 1), [1.0, 2.0])


def test_create_todo_final_failure_is_the_error_of_the_table(attempt):
    """The error with its attributes, what is known of the outcome, and exactly so many create requests."""
    for rows, error, unknown, creates in (
        ([NOT_CONNECTED], BzCtrlTransportError, False, 3),
        ([UNTRUSTED, *UNSENDABLE], BzCtrlTransportError, False, 1),
        ([RESET, SILENT], BzCtrlTransportError, True, 1),
        ([failure(requests.exceptions.ChunkedEncodingError)], BzCtrlTransportError, True, 1),
        ([failure(requests.exceptions.SSLError("broken record"))], BzCtrlTransportError, True, 1),
        ([status(429)], BzCtrlRateLimitError, False, 3),
        ([status(503)], BzCtrlServerError, False, 3),
        (map(status, (500, 501, 502, 504)), BzCtrlServerError, True, 1),
        (map(status, (400, 403, 404, 408)), BzCtrlRejectedError, False, 1),
        ([status(413, **{"Retry-After": "1"})], BzCtrlRejectedError, False, 1),
        ([status(301, Location="https://evil.example/"), status(307)], BzCtrlRejectedError, False, 1),
        (NO_TODO, BzCtrlBadAnswerError, True, 1),
    ):
        for row in rows:
            caught, sent = attempt(create=[row])
            assert (type(caught), caught.outcome_unknown, sent) == (error, unknown, (1, creates)), row
            assert ("may exist in BzCtrl all the same" in str(caught)) is unknown
            if "status_code" in row:
                assert caught.status_code == row["status_code"]


@pytest.mark.security
def test_create_todo_token_request_fails_sends_no_todo(attempt):
    """After any failure of the token request no todo is sent, its outcome is known, and the message says what to do."""
    bad = {"with\r\nInjected: header", "ümlaut", ""}
    for row, error, tokens, said in (
        (NOT_CONNECTED, BzCtrlTransportError, 3, "no connection"),
        (UNTRUSTED, BzCtrlTransportError, 1, "certificate was refused"),
        (RESET, BzCtrlTransportError, 3, "Nothing was created"),
        (status(401), BzCtrlAuthError, 1, "Login and Password"),
        ({"status_code": 401, "json": {"error_description": "locked"}}, BzCtrlAuthError, 1, "locked"),
        ({"status_code": 400, "json": {"error": "invalid_grant"}}, BzCtrlAuthError, 1, "Login and Password"),
        ({"status_code": 400, "json": {"error": "invalid_request"}}, BzCtrlRejectedError, 1, "400"),
        (status(403), BzCtrlRejectedError, 1, "403"),
        (
            status(302, Location="https://evil.example/x?y"),
            BzCtrlRejectedError,
            1,
            "to https://evil.example,",
        ),
        (status(429, **{"Retry-After": "7"}), BzCtrlRateLimitError, 3, "wait 7 s"),
        (status(500), BzCtrlServerError, 3, "500"),
        ({"text": "<html>"}, BzCtrlBadAnswerError, 1, "a web page"),
        ({"text": ""}, BzCtrlBadAnswerError, 1, "no JSON object"),
        ({"json": ["a"]}, BzCtrlBadAnswerError, 1, "no JSON object"),
        ({"json": {"accessToken": TOKEN}}, BzCtrlBadAnswerError, 1, "without a usable access_token"),
        *(
            ({"json": {"access_token": token}}, BzCtrlBadAnswerError, 1, "usable access_token")
            for token in bad
        ),
    ):
        caught, sent = attempt(token=[row])
        assert (type(caught), caught.outcome_unknown, sent) == (error, False, (tokens, 0)), row
        assert said in str(caught)


def test_create_todo_second_401_raises_auth_error(attempt):
    """A fresh token and one replay, then the error, which says that the right to create may be missing."""
    caught, sent = attempt(create=[status(401)])
    assert (type(caught), caught.outcome_unknown, sent) == (BzCtrlAuthError, False, (2, 2))
    assert "again with a fresh token" in str(caught)
    assert "right to create" in str(caught)


def test_create_todo_retry_after_is_granted_up_to_a_minute(attempt, waits):
    """The header counts if it can be read, otherwise the exponential wait; a wait that the call does not survive is not begun."""
    for retry_after, wait_s in {"7": 7.0, "3600": 60.0, "0": 0.0, "soon": 1.0, None: 1.0}.items():
        headers = {"Retry-After": retry_after} if retry_after else {}
        created, _ = attempt(create=[status(429, **headers), CREATED])
        assert (created.link, waits) == (LINK, [wait_s])
    caught, sent = attempt(create=[status(429, **{"Retry-After": "50"})], limit_s=49.0)
    assert (type(caught), sent, waits) == (BzCtrlRateLimitError, (1, 1), [])


def test_create_todo_limit_is_used_up_sends_nothing(attempt):
    """A call without time is an error before any request."""
    caught, sent = attempt(limit_s=0.0)
    assert "the 0 s for this call are used up" in str(caught)
    assert (type(caught), caught.outcome_unknown, sent) == (BzCtrlTransportError, False, (0, 0))
