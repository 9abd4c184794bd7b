"""Every fault, as a client on the other end of a socket sees it."""

from __future__ import annotations

import errno
import http.client
import json
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime, timedelta
from email.utils import parsedate_to_datetime
from urllib.parse import urlsplit

import pytest
import requests

from bzctrl_provider.sandbox import Sandbox


def seen(sandbox):
    return [(record.status, record.fault) for record in sandbox.requests]


@pytest.mark.parametrize(("name", "created"), [("reset_before", 0), ("reset_after", 1)])
def test_reset_before_or_after_is_a_tcp_reset(sandbox, caller, todo, name, created):
    """The client's operating system reports ECONNRESET, and the todo is created or not as the name says."""
    sandbox.fail_next(name)
    connection = http.client.HTTPConnection(urlsplit(sandbox.url).netloc, timeout=10)
    headers = {"Authorization": caller.session.headers["Authorization"], "Content-Type": "application/json"}
    connection.request("POST", "/bzctrl-core-api/api/v1/task/add-task", json.dumps(todo), headers)
    with pytest.raises(ConnectionResetError) as caught:
        connection.getresponse()
    connection.close()
    assert caught.value.errno == errno.ECONNRESET
    assert len(sandbox.todos) == created
    assert seen(sandbox) == [(None, name)]


def test_cut_response_ends_half_way(sandbox, caller):
    """The todo is created, the response promises more than it sends."""
    sandbox.fail_next("cut")
    with pytest.raises(requests.exceptions.ChunkedEncodingError, match="IncompleteRead"):
        caller.create()
    assert len(sandbox.todos) == 1
    assert seen(sandbox) == [(200, "cut")]
    assert caller.create().status_code == 200


def test_html_empty_or_status_is_sent_before_or_after_the_creation(sandbox, caller):
    """The response is a page, nothing, or an error, and the todo is created only with `after_creation`."""
    for fault, status, text in [
        ("html", 200, "<!DOCTYPE html>"),
        ("empty", 200, ""),
        ("no_todo", 200, '"error"'),
        (502, 502, "502"),
    ]:
        for after_creation in (False, True):
            before = len(sandbox.todos)
            sandbox.fail_next(fault, after_creation=after_creation)
            response = caller.create()
            assert response.status_code == status
            assert text in response.text
            assert (response.text == "") is (fault == "empty")
            assert len(sandbox.todos) - before == int(after_creation)
            assert seen(sandbox)[-1] == (status, str(fault))


def test_fail_next_with_any_status_sends_it_once(sandbox, caller):
    """Each status from 300 to 599 is sent once, and no todo is created."""
    statuses = [300, 304, 400, 401, 403, 404, 418, 429, 451, 500, 503, 504, 599]
    for status in statuses:
        sandbox.fail_next(status)
    assert [caller.create().status_code for _ in statuses] == statuses
    assert sandbox.todos == []
    assert caller.create().status_code == 200


def test_status_with_a_header_has_the_one_asked_for(sandbox, caller):
    """A redirect has a Location; Retry-After is sent in seconds or as a date, and only if it was asked for."""
    sandbox.fail_next(307, location="http://elsewhere.example/x")
    sandbox.fail_next(302)
    locations = [caller.create().headers["Location"] for _ in range(2)]
    assert locations == ["http://elsewhere.example/x", f"{sandbox.url}/app/"]
    sandbox.fail_next(429, retry_after_s=7)
    sandbox.fail_next(503, retry_after_s=7, retry_after_as_date=True)
    sandbox.fail_next(503)
    first, second, third = (caller.create().headers.get("Retry-After") for _ in range(3))
    assert first == "7"
    assert timedelta(0) < parsedate_to_datetime(second) - datetime.now(UTC) <= timedelta(seconds=7)
    assert third is None


def test_slow_response_delays_no_other_client(sandbox, caller):
    """A slow todo is created at once; its client gives up, while the response to others is not delayed."""
    sandbox.fail_next("slow", delay_s=30)
    with pytest.raises(requests.exceptions.ReadTimeout):
        caller.create(timeout=0.3)
    assert caller.create().elapsed < timedelta(seconds=0.3)
    assert len(sandbox.todos) == 2
    sandbox.fail_next("slow", delay_s=0.1)
    sandbox.fail_next(500, delay_s=0.1)
    responses = [caller.create(), caller.create()]
    assert [response.status_code for response in responses] == [200, 500]
    assert all(response.elapsed >= timedelta(seconds=0.1) for response in responses)


def test_stop_with_a_slow_response_resets_it(make_caller, within):
    """Stopping breaks slow responses off: their clients get a reset."""
    sandbox = Sandbox()
    sandbox.start()
    caller = make_caller(sandbox.url).log_in()
    sandbox.fail_next("slow", delay_s=600)
    with ThreadPoolExecutor(1) as pool:
        waiting = pool.submit(caller.create)
        while len(sandbox.requests) < 2:
            assert not waiting.done()
        with within(seconds=2):
            sandbox.stop()
        with pytest.raises(requests.exceptions.ConnectionError):
            waiting.result()


def test_fail_next_on_token_requests_fails_them(sandbox, stranger):
    """Token requests can fail as well, before or after the token was issued."""
    sandbox.fail_next(503, on="token", retry_after_s=0)
    sandbox.fail_next("reset_after", on="any")
    assert stranger.token().headers["Retry-After"] == "0"
    with pytest.raises(requests.exceptions.ConnectionError):
        stranger.token()
    assert stranger.token().status_code == 200
    assert seen(sandbox) == [(503, "503"), (None, "reset_after"), (200, None)]


def test_fault_after_creation_with_a_refused_request_waits(sandbox, caller, todo):
    """A refused request does not use up a fault that follows a creation."""
    sandbox.fail_next("reset_after")
    assert caller.create(todo | {"impact": "urgent"}).status_code == 400
    with pytest.raises(requests.exceptions.ConnectionError):
        caller.create()
    assert seen(sandbox) == [(400, None), (None, "reset_after")]
    assert len(sandbox.todos) == 1


def test_control_api_over_http_does_the_same(sandbox, caller):
    """Another process can do over HTTP what a test does with the object."""
    assert caller.send("GET", "/sandbox/health").json() == {"status": "ok", "todos": 0}
    for fault in (429, 500, 503):
        arguments = {"fault": fault, "retry_after_s": 1}
        assert caller.send("POST", "/sandbox/faults", json=arguments).json() == {"status": "ok"}
    assert caller.create().status_code == 429
    caller.send("DELETE", "/sandbox/faults")
    assert caller.create().status_code == 200
    assert caller.send("GET", "/sandbox/todos").json() == sandbox.todos
    records = caller.send("GET", "/sandbox/requests").json()
    assert [(record["status"], record["fault"]) for record in records] == [(429, "429"), (200, None)]
    assert caller.send("POST", "/sandbox/faults/random", json={"rate": 1, "faults": [500]}).ok
    assert caller.create().status_code == 500
    assert caller.send("POST", "/sandbox/faults/random", json={"rate": 0}).ok
    caller.send("DELETE", "/sandbox/tokens")
    assert caller.create().status_code == 401
    caller.send("POST", "/sandbox/reset")
    assert (sandbox.todos, sandbox.requests) == ([], [])


def test_control_api_with_invalid_arguments_names_them_all(caller):
    """Invalid arguments get a 400 with all that is wrong and what is allowed, and nothing fails afterwards."""
    for path, body, messages in [
        (
            "/sandbox/faults",
            '{"fault": "restart", "on": "x"}',
            ["fault must be", "reset_before", "on must be"],
        ),
        ("/sandbox/faults", '{"fault": 503, "wait": 1}', ["'wait'"]),
        ("/sandbox/faults", "{}", ["missing 1 required positional argument: 'fault'"]),
        ("/sandbox/faults", "[503]", ["must be a mapping"]),
        ("/sandbox/faults", "{", ["is not JSON"]),
        ("/sandbox/faults/random", '{"rate": 2}', ["rate must be"]),
    ]:
        response = caller.send("POST", path, data=body)
        assert response.status_code == 400
        assert all(message in response.json()["error_description"] for message in messages), body
    assert caller.create().status_code == 200
