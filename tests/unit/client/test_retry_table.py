"""The retry table of the documents, row by row: how many requests go out, and what comes of them."""

from __future__ import annotations

import ssl

import pytest
import requests
from pydantic import SecretStr
from support.bzctrl import ACC, LINK
from urllib3.exceptions import MaxRetryError, NewConnectionError, ProtocolError

from bzctrl_provider.client.api import BzCtrlClient
from bzctrl_provider.client.auth import TokenSource
from bzctrl_provider.exceptions import (
    BzCtrlAuthError,
    BzCtrlBadAnswerError,
    BzCtrlError,
    BzCtrlRateLimitError,
    BzCtrlRejectedError,
    BzCtrlServerError,
    BzCtrlTransportError,
)

TOKEN = {"json": {"access_token": "made-up-token", "expires_in": 3600}}
CREATED = {"json": {"taskLink": LINK}}

NOT_CONNECTED = {
    "exc": requests.ConnectionError(MaxRetryError(None, "/", NewConnectionError(None, "Connection refused")))
}
RESET = {"exc": requests.ConnectionError(ProtocolError("Connection aborted.", OSError("reset by peer")))}
SILENT = {"exc": requests.ReadTimeout("read timed out")}
UNTRUSTED = {"exc": requests.exceptions.SSLError(ssl.SSLCertVerificationError("self-signed certificate"))}


@pytest.fixture
def client():
    client = BzCtrlClient(
        ACC, username="user", password=SecretStr("made-up"), tokens=TokenSource(), jitter=lambda: 1.0
    )
    yield client
    client.close()


def answer(requests_mock, *, token=(TOKEN,), create=(CREATED,)):
    requests_mock.post(ACC.token_url, list(token))
    requests_mock.post(ACC.create_url, list(create))


def count_requests(requests_mock):
    urls = [request.url for request in requests_mock.request_history]
    return urls.count(ACC.token_url), urls.count(ACC.create_url)


def status(code, **headers):
    return {"status_code": code, "headers": headers}


@pytest.mark.parametrize("row", [NOT_CONNECTED, status(429), status(503)], ids=["refused", "429", "503"])
def test_create_todo_not_taken_on_is_sent_again(requests_mock, client, fields, waits, row):
    """Nothing was created, so the third attempt may create it, after a wait of one and of two seconds."""
    answer(requests_mock, create=[row, row, CREATED])
    assert client.create_todo(fields).link == LINK
    assert count_requests(requests_mock) == (1, 3)
    assert waits == [1.0, 2.0]


@pytest.mark.parametrize(
    "row",
    [NOT_CONNECTED, RESET, SILENT, *map(status, (429, 500, 502, 503, 504))],
    ids=["refused", "reset", "silent", "429", "500", "502", "503", "504"],
)
def test_token_request_any_passing_failure_is_sent_again(requests_mock, client, fields, waits, row):
    """A token request creates nothing, so it is repeated after each failure that may pass."""
    answer(requests_mock, token=[row, row, TOKEN])
    assert client.create_todo(fields).link == LINK
    assert count_requests(requests_mock) == (3, 1)
    assert waits == [1.0, 2.0]


@pytest.mark.parametrize(
    ("row", "error", "unknown", "creates"),
    [
        (NOT_CONNECTED, BzCtrlTransportError, False, 3),
        (UNTRUSTED, BzCtrlTransportError, False, 1),
        (RESET, BzCtrlTransportError, True, 1),
        (SILENT, BzCtrlTransportError, True, 1),
        (status(429), BzCtrlRateLimitError, False, 3),
        (status(503), BzCtrlServerError, False, 3),
        (status(500), BzCtrlServerError, True, 1),
        (status(502), BzCtrlServerError, True, 1),
        (status(504), BzCtrlServerError, True, 1),
        (status(501), BzCtrlServerError, True, 1),
        (status(400), BzCtrlRejectedError, False, 1),
        (status(408), BzCtrlRejectedError, False, 1),
        (status(307, Location="https://elsewhere.example"), BzCtrlRejectedError, False, 1),
        ({"text": "<html>"}, BzCtrlBadAnswerError, True, 1),
        ({"json": [1]}, BzCtrlBadAnswerError, True, 1),
    ],
)
def test_create_todo_final_failure_is_the_error_of_the_table(
    requests_mock, client, fields, row, error, unknown, creates
):
    """The error, what is known of the outcome, and exactly so many create requests."""
    answer(requests_mock, create=[row])
    with pytest.raises(BzCtrlError) as caught:
        client.create_todo(fields)
    assert type(caught.value) is error
    assert caught.value.outcome_unknown is unknown
    assert count_requests(requests_mock) == (1, creates)


@pytest.mark.parametrize(
    ("row", "error", "tokens"),
    [
        (NOT_CONNECTED, BzCtrlTransportError, 3),
        (UNTRUSTED, BzCtrlTransportError, 1),
        (RESET, BzCtrlTransportError, 3),
        (status(401), BzCtrlAuthError, 1),
        (status(403), BzCtrlRejectedError, 1),
        (status(429), BzCtrlRateLimitError, 3),
        (status(500), BzCtrlServerError, 3),
        ({"text": "<html>"}, BzCtrlBadAnswerError, 1),
    ],
)
def test_token_request_final_failure_is_the_error_of_the_table(
    requests_mock, client, fields, row, error, tokens
):
    """No todo was sent, so its outcome is known."""
    answer(requests_mock, token=[row])
    with pytest.raises(BzCtrlError) as caught:
        client.create_todo(fields)
    assert type(caught.value) is error
    assert not caught.value.outcome_unknown
    assert count_requests(requests_mock) == (tokens, 0)


def test_create_todo_401_is_replayed_once(requests_mock, client, fields):
    """A fresh token and one replay, then the error."""
    answer(requests_mock, create=[status(401)])
    with pytest.raises(BzCtrlAuthError):
        client.create_todo(fields)
    assert count_requests(requests_mock) == (2, 2)


@pytest.mark.parametrize(
    ("retry_after", "wait_s"), [("7", 7.0), ("3600", 60.0), ("0", 0.0), ("soon", 1.0), (None, 1.0)]
)
def test_create_todo_retry_after_is_granted_up_to_a_minute(
    requests_mock, client, fields, waits, retry_after, wait_s
):
    """The header counts if it can be read, otherwise the exponential wait."""
    headers = {"Retry-After": retry_after} if retry_after else {}
    answer(requests_mock, create=[status(429, **headers), CREATED])
    client.create_todo(fields)
    assert waits == [wait_s]


def test_create_todo_wait_outlasts_limit_is_not_begun(requests_mock, client, fields, waits):
    """With a limit of 49 s, a wait of 50 s is not begun: the last response is the error."""
    answer(requests_mock, create=[status(429, **{"Retry-After": "50"})])
    with pytest.raises(BzCtrlRateLimitError):
        client.create_todo(fields, limit_s=49.0)
    assert waits == []
    assert count_requests(requests_mock) == (1, 1)


def test_create_todo_limit_is_used_up_sends_nothing(requests_mock, client, fields):
    """A call without time is an error before any request; the client's own bound stays as it is."""
    answer(requests_mock)
    before = client.total_s
    with pytest.raises(BzCtrlTransportError, match="the 0 s for this call are used up") as caught:
        client.create_todo(fields, limit_s=0.0)
    assert not caught.value.outcome_unknown
    assert requests_mock.request_history == []
    assert client.total_s == before
