"""Each row of the retry table (docs/contract.md), rehearsed with the sandbox's faults."""

from __future__ import annotations

import pytest
from support.bzctrl import new_client

from bzctrl_provider.client.config import Endpoints
from bzctrl_provider.client.retry import Deadline
from bzctrl_provider.exceptions import (
    BzCtrlAuthError,
    BzCtrlBadAnswerError,
    BzCtrlError,
    BzCtrlRateLimitError,
    BzCtrlRejectedError,
    BzCtrlServerError,
    BzCtrlTransportError,
)

TODO = {
    "todo_type": "INCIDENT",
    "domain_workspace": "EXA-CON-BUS-WOR",
    "title": "t",
    "description": "d",
    "reporter": "reporter@example.com",
    "order_id": "o",
}
ALWAYS = 99


@pytest.fixture
def client(bzctrl_sandbox, monkeypatch):
    monkeypatch.setattr(Deadline, "wait", lambda *_: None)
    client = new_client(Endpoints.from_host(bzctrl_sandbox.url), timeout_s=0.5)
    yield client
    client.close()


def sent(sandbox, path):
    return len([request for request in sandbox.requests if request.path.endswith(path)])


RETRIED = {
    # the fault, how often, of which request: how many requests of each kind there are in the end
    "token: reset": ("reset_before", 2, "token", 3, 1),
    "token: cut off": ("cut", 2, "token", 3, 1),
    "token: silent": ("slow", 1, "token", 2, 1),
    "token: 429": (429, 2, "token", 3, 1),
    "token: 503": (503, 2, "token", 3, 1),
    "token: 500": (500, 2, "token", 3, 1),
    "token: 502": (502, 1, "token", 2, 1),
    "token: 504": (504, 1, "token", 2, 1),
    "create: 401": (401, 1, "create", 2, 2),
    "create: 429": (429, 2, "create", 1, 3),
    "create: 503": (503, 2, "create", 1, 3),
}


@pytest.mark.parametrize(("fault", "times", "on", "tokens", "creates"), RETRIED.values(), ids=RETRIED)
def test_call_with_a_temporary_fault_creates_one_todo(
    bzctrl_sandbox, client, fault, times, on, tokens, creates
):
    """The sandbox has one todo, after the number of requests in the table."""
    bzctrl_sandbox.fail_next(fault, times=times, on=on, delay_s=5 if fault == "slow" else 0)
    created = client.create_todo(TODO)
    assert [todo["key"] for todo in bzctrl_sandbox.todos] == [created.key]
    assert (sent(bzctrl_sandbox, "/token"), sent(bzctrl_sandbox, "/add-task")) == (tokens, creates)


FATAL = {
    # the fault, of which request, more of it: the error, whether the outcome is unknown, requests, todos
    "token: reset": ("reset_before", "token", {}, BzCtrlTransportError, False, (3, 0), 0),
    "token: 401": (401, "token", {}, BzCtrlAuthError, False, (1, 0), 0),
    "token: 403": (403, "token", {}, BzCtrlRejectedError, False, (1, 0), 0),
    "token: 302": (302, "token", {}, BzCtrlRejectedError, False, (1, 0), 0),
    "token: 429": (429, "token", {"retry_after_s": 7}, BzCtrlRateLimitError, False, (3, 0), 0),
    "token: 500": (500, "token", {}, BzCtrlServerError, False, (3, 0), 0),
    "token: html": ("html", "token", {}, BzCtrlBadAnswerError, False, (1, 0), 0),
    "token: empty": ("empty", "token", {}, BzCtrlBadAnswerError, False, (1, 0), 0),
    "create: reset before": ("reset_before", "create", {}, BzCtrlTransportError, True, (1, 1), 0),
    "create: reset after": ("reset_after", "create", {}, BzCtrlTransportError, True, (1, 1), 1),
    "create: cut off": ("cut", "create", {}, BzCtrlTransportError, True, (1, 1), 1),
    "create: silent": ("slow", "create", {"delay_s": 5}, BzCtrlTransportError, True, (1, 1), 1),
    "create: 401": (401, "create", {}, BzCtrlAuthError, False, (2, 2), 0),
    "create: 429": (429, "create", {"retry_after_s": 7}, BzCtrlRateLimitError, False, (1, 3), 0),
    "create: 503": (503, "create", {}, BzCtrlServerError, False, (1, 3), 0),
    "create: 500 before": (500, "create", {}, BzCtrlServerError, True, (1, 1), 0),
    "create: 500 after": (500, "create", {"after_creation": True}, BzCtrlServerError, True, (1, 1), 1),
    "create: 502": (502, "create", {}, BzCtrlServerError, True, (1, 1), 0),
    "create: 504": (504, "create", {}, BzCtrlServerError, True, (1, 1), 0),
    "create: 400": (400, "create", {}, BzCtrlRejectedError, False, (1, 1), 0),
    "create: 307": (307, "create", {}, BzCtrlRejectedError, False, (1, 1), 0),
    "create: html": ("html", "create", {}, BzCtrlBadAnswerError, True, (1, 1), 0),
    "create: empty": ("empty", "create", {"after_creation": True}, BzCtrlBadAnswerError, True, (1, 1), 1),
}


@pytest.mark.parametrize(
    ("fault", "on", "more", "error", "unknown", "requests", "todos"), FATAL.values(), ids=FATAL
)
def test_create_todo_rehearsed_fault_ends_as_documented(
    bzctrl_sandbox, client, fault, on, more, error, unknown, requests, todos
):
    """The error of the table, with what is known of the outcome, after exactly so many requests."""
    bzctrl_sandbox.fail_next(fault, times=ALWAYS, on=on, **more)
    with pytest.raises(BzCtrlError) as caught:
        client.create_todo(TODO)
    assert type(caught.value) is error
    assert caught.value.outcome_unknown is unknown
    assert (sent(bzctrl_sandbox, "/token"), sent(bzctrl_sandbox, "/add-task")) == requests
    assert len(bzctrl_sandbox.todos) == todos
    if error is BzCtrlRateLimitError:
        assert caught.value.retry_after_s == 7.0
    if not unknown:
        assert todos == 0


def test_create_todo_sandbox_not_running_is_not_connected(bzctrl_sandbox, client):
    """All attempts, and certainly nothing was sent."""
    closed = new_client(Endpoints.from_host("http://127.0.0.1:9"))
    with pytest.raises(BzCtrlTransportError, match="attempts: 3") as caught:
        closed.create_todo(TODO)
    assert not caught.value.outcome_unknown
