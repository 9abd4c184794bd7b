"""Every fault, as a client on the other end of a socket sees it."""

from __future__ import annotations

import errno
import http.client
import socket
import time
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime, timedelta
from email.utils import parsedate_to_datetime
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

import pytest
import requests

from bzctrl_provider.sandbox.server import Sandbox

if TYPE_CHECKING:
    from collections.abc import Callable


def seen(sandbox: Sandbox) -> list[tuple[int | None, str | None]]:
    return [(record.status, record.fault) for record in sandbox.requests]


@pytest.mark.parametrize(("name", "made"), [("reset_before", 0), ("reset_after", 1)])
def test_reset_before_or_after_is_a_tcp_reset(
    sandbox: Sandbox, caller: Any, todo: dict[str, Any], name: Any, made: int
) -> None:
    """The client's operating system reports ECONNRESET, and the todo is made or not as asked."""
    sandbox.fail_next(name)
    host, port = urlsplit(sandbox.url).netloc.split(":")
    connection = http.client.HTTPConnection(host, int(port), timeout=10)
    headers = {"Authorization": caller.session.headers["Authorization"], "Content-Type": "application/json"}
    body = requests.Request("POST", "http://x", json=todo).prepare().body
    connection.request("POST", "/bzctrl-core-api/api/v1/task/add-task", body, headers)
    with pytest.raises(ConnectionResetError) as caught:
        connection.getresponse()
    connection.close()
    assert caught.value.errno == errno.ECONNRESET
    assert len(sandbox.todos) == made
    assert seen(sandbox) == [(None, name)]


def test_cut_response_ends_half_way(sandbox: Sandbox, caller: Any) -> None:
    """The todo is made, the response promises more than it sends."""
    sandbox.fail_next("cut")
    with pytest.raises(requests.exceptions.ChunkedEncodingError, match="IncompleteRead"):
        caller.create()
    assert len(sandbox.todos) == 1
    assert seen(sandbox) == [(200, "cut")]
    assert caller.create().status_code == 200


@pytest.mark.parametrize("after_creation", [False, True])
@pytest.mark.parametrize(
    ("fault", "status", "text"),
    [("html", 200, "<!DOCTYPE html>"), ("empty", 200, ""), (502, 502, "502")],
)
def test_html_empty_or_status_is_sent_before_or_after_the_creation(
    sandbox: Sandbox, caller: Any, *, fault: Any, status: int, text: str, after_creation: bool
) -> None:
    """A page, nothing, or an error is answered, and the todo is made only where that was asked for."""
    sandbox.fail_next(fault, after_creation=after_creation)
    response = caller.create()
    assert response.status_code == status
    assert text in response.text
    assert (response.text == "") is (fault == "empty")
    assert len(sandbox.todos) == int(after_creation)
    assert seen(sandbox) == [(status, str(fault))]


@pytest.mark.parametrize("status", [300, 304, 400, 401, 403, 404, 418, 429, 451, 500, 503, 504, 599])
def test_fail_next_with_any_status_sends_it_once(sandbox: Sandbox, caller: Any, status: int) -> None:
    """Any status from 300 to 599 can be had, once, and makes no todo."""
    sandbox.fail_next(status)
    assert caller.create().status_code == status
    assert sandbox.todos == []
    assert caller.create().status_code == 200


def test_redirect_with_a_location_leads_there(sandbox: Sandbox, caller: Any) -> None:
    """A redirect has the Location asked for, and the sandbox's page without one."""
    sandbox.fail_next(307, location="http://elsewhere.example/x")
    sandbox.fail_next(302)
    locations = [caller.create().headers["Location"] for _ in range(2)]
    assert locations == ["http://elsewhere.example/x", f"{sandbox.url}/app/"]


def test_retry_after_in_seconds_or_as_a_date_is_sent(sandbox: Sandbox, caller: Any) -> None:
    """Retry-After comes in seconds or as a date, and not at all unless asked for."""
    sandbox.fail_next(429, retry_after_s=7)
    sandbox.fail_next(503, retry_after_s=7, retry_after_as_date=True)
    sandbox.fail_next(503)
    first, second, third = (caller.create().headers.get("Retry-After") for _ in range(3))
    assert first == "7"
    assert timedelta(0) < parsedate_to_datetime(second) - datetime.now(UTC) <= timedelta(seconds=7)
    assert third is None


def test_slow_response_delays_no_other_client(sandbox: Sandbox, caller: Any) -> None:
    """A slow todo is made at once; its client gives up, while others are answered."""
    sandbox.fail_next("slow", delay_s=30)
    with ThreadPoolExecutor(1) as pool:
        waiting = pool.submit(caller.create, timeout=0.3)
        wait_until(lambda: len(sandbox.requests) == 1)
        assert caller.create().elapsed < timedelta(seconds=0.3)
        with pytest.raises(requests.exceptions.ReadTimeout):
            waiting.result()
    assert len(sandbox.todos) == 2


def test_slow_response_arrives_after_the_delay(sandbox: Sandbox, caller: Any) -> None:
    """A client with patience gets its response after the delay, whatever the fault."""
    sandbox.fail_next("slow", delay_s=0.1)
    sandbox.fail_next(500, delay_s=0.1)
    responses = [caller.create(), caller.create()]
    assert [response.status_code for response in responses] == [200, 500]
    assert all(response.elapsed >= timedelta(seconds=0.1) for response in responses)


def test_stop_with_a_slow_response_resets_it(make_caller: Callable[[str], Any]) -> None:
    """Stopping breaks slow responses off, with a reset for those who wait."""
    sandbox = Sandbox()
    sandbox.start()
    caller = make_caller(sandbox.url).log_in()
    sandbox.fail_next("slow", delay_s=600)
    with ThreadPoolExecutor(1) as pool:
        waiting = pool.submit(caller.create)
        wait_until(lambda: len(sandbox.requests) == 2)
        began = time.monotonic()
        sandbox.stop()
        assert time.monotonic() - began < 2
        with pytest.raises(requests.exceptions.ConnectionError):
            waiting.result()


def test_fail_next_on_token_requests_fails_them(sandbox: Sandbox, stranger: Any) -> None:
    """Token requests can fail as well, before or after the token was made."""
    sandbox.fail_next(503, on="token", retry_after_s=0)
    sandbox.fail_next("reset_after", on="any")
    assert stranger.token().headers["Retry-After"] == "0"
    with pytest.raises(requests.exceptions.ConnectionError):
        stranger.token()
    assert stranger.token().status_code == 200
    assert seen(sandbox) == [(503, "503"), (None, "reset_after"), (200, None)]


def test_fault_after_creation_with_a_refused_request_waits(
    sandbox: Sandbox, caller: Any, todo: dict[str, Any]
) -> None:
    """A refused request does not use up a fault that is to follow a creation."""
    sandbox.fail_next("reset_after")
    assert caller.create(todo | {"impact": "urgent"}).status_code == 400
    with pytest.raises(requests.exceptions.ConnectionError):
        caller.create()
    assert seen(sandbox) == [(400, None), (None, "reset_after")]
    assert len(sandbox.todos) == 1


def test_fail_randomly_over_http_repeats_itself(caller: Any) -> None:
    """The same seed lets the same requests fail, also when steered from another process."""
    runs = []
    for _ in range(2):
        settings = {"rate": 0.5, "faults": [500, 503], "seed": 3, "retry_after_s": 1}
        assert caller.send("POST", "/sandbox/faults/random", json=settings).status_code == 200
        runs.append([caller.create().status_code for _ in range(12)])
    assert runs[0] == runs[1]
    assert {200} < set(runs[0]) <= {200, 500, 503}


def test_control_api_over_http_does_the_same(sandbox: Sandbox, caller: Any) -> None:
    """Another process can do over HTTP what a test does with the object."""
    assert caller.send("GET", "/sandbox/health").json() == {"status": "ok", "todos": 0}
    for fault in (429, 500, 503):
        assert caller.send("POST", "/sandbox/faults", json={"fault": fault, "retry_after_s": 1}).json() == {
            "status": "ok"
        }
    assert caller.create().status_code == 429
    caller.send("DELETE", "/sandbox/faults")
    assert caller.create().status_code == 200
    assert caller.send("GET", "/sandbox/todos").json() == sandbox.todos
    assert caller.send("GET", "/sandbox/health").json()["todos"] == 1
    records = caller.send("GET", "/sandbox/requests").json()
    assert records == [record.as_dict() for record in sandbox.requests]
    assert [(record["status"], record["fault"]) for record in records] == [(429, "429"), (200, None)]
    caller.send("DELETE", "/sandbox/tokens")
    assert caller.create().status_code == 401
    caller.send("POST", "/sandbox/reset")
    assert (sandbox.todos, sandbox.requests) == ([], [])


@pytest.mark.parametrize(
    ("path", "sent", "messages"),
    [
        (
            "/sandbox/faults",
            {"json": {"fault": "restart", "on": "x"}},
            ["fault must be", "reset_before", "on must be"],
        ),
        (
            "/sandbox/faults",
            {"json": {"wait": 1}},
            ["fault is missing", "unknown: 'wait'", "retry_after_s"],
        ),
        ("/sandbox/faults", {"json": [503]}, ["must be a JSON object"]),
        ("/sandbox/faults", {"data": "{", "headers": {"Content-Type": "application/json"}}, ["is not JSON"]),
        ("/sandbox/faults", {"data": '{"fault": 503}'}, ["Content-Type"]),
        ("/sandbox/faults/random", {"json": {"rate": 2}}, ["rate must be"]),
        ("/sandbox/faults/random", {"json": {"rate": 1, "faults": 503}}, ["must be a list"]),
    ],
)
def test_control_api_with_invalid_arguments_names_them_all(
    caller: Any, path: str, sent: dict[str, Any], messages: list[str]
) -> None:
    """Bad arguments are answered 400 with all that is wrong and what is allowed, and nothing fails afterwards."""
    response = caller.send("POST", path, **sent)
    assert response.status_code == 400
    assert all(message in response.json()["error_description"] for message in messages)
    assert caller.create().status_code == 200


def test_create_in_a_row_is_quick(sandbox: Sandbox, caller: Any) -> None:
    """Headers and body do not wait for each other, so a hundred requests are no matter of seconds."""
    began = time.monotonic()
    for _ in range(50):
        caller.create()
    assert time.monotonic() - began < 1.5
    assert len(sandbox.todos) == 50


def test_client_that_closes_early_is_not_recorded(sandbox: Sandbox, caller: Any) -> None:
    """A client that closes in the middle of its request is forgotten."""
    host, port = urlsplit(sandbox.url).netloc.split(":")
    with socket.create_connection((host, int(port))) as connection:
        connection.sendall(
            b"POST /bzctrl-core-api/oauth/token HTTP/1.1\r\nHost: x\r\nContent-Length: 100\r\n\r\nhalf"
        )
    assert caller.create().status_code == 200
    assert len(sandbox.requests) == 1


def wait_until(condition: Callable[[], bool]) -> None:
    deadline = time.monotonic() + 5
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.01)
