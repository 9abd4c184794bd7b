"""The two documented endpoints, over HTTP."""

from __future__ import annotations

import json
import sqlite3
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any

import pytest

from bzctrl_provider.sandbox import state as state_module
from bzctrl_provider.sandbox.server import Sandbox

if TYPE_CHECKING:
    from pathlib import Path

FORM = "application/x-www-form-urlencoded"


def test_token_with_any_credentials_has_the_documented_keys(stranger: Any) -> None:
    """Any username and password give a token with all the documented keys, and nobody keeps the response."""
    response = stranger.token()
    assert response.status_code == 200
    assert set(response.json()) == {
        "access_token",
        "refresh_token",
        "token_type",
        "expires_in",
        "scope",
        "jti",
    }
    assert (response.json()["token_type"], response.json()["expires_in"], response.json()["scope"]) == (
        "Bearer",
        3600,
        "*",
    )
    assert response.headers["Cache-Control"] == "no-store"


@pytest.mark.parametrize(
    ("body", "content_type", "status", "fields"),
    [
        ("", FORM, 400, ["grant_type", "username", "password"]),
        ("grant_type=client_credentials&username=u&password=p", FORM, 400, ["grant_type"]),
        ("grant_type=password&username=u", FORM, 400, ["password"]),
        ("nonsense", FORM, 400, ["(body)"]),
        ('{"grant_type": "password"}', "application/json", 415, None),
        ("grant_type=password&username=u&password=p", "", 415, None),
    ],
)
def test_token_with_an_invalid_form_names_every_error(
    stranger: Any, body: str, content_type: str, status: int, fields: list[str] | None
) -> None:
    """Only the documented form is accepted, and every error in it is named."""
    response = stranger.send(
        "POST", "/bzctrl-core-api/oauth/token", data=body, headers={"Content-Type": content_type}
    )
    assert response.status_code == status
    assert {"error", "error_description"} <= set(response.json())
    if fields is not None:
        assert [fault["field"] for fault in response.json()["faults"]] == fields


def test_token_with_credentials_in_the_query_is_refused(stranger: Any) -> None:
    """The password belongs into the body, and an address with one is not recorded with it."""
    query = {"grant_type": "password", "username": "u", "password": "p"}
    response = stranger.send(
        "POST", "/bzctrl-core-api/oauth/token", params=query, headers={"Content-Type": FORM}
    )
    assert response.status_code == 400


def test_token_with_fixed_credentials_refuses_others(make_caller: Any) -> None:
    """With a username and password of its own, the sandbox refuses all others."""
    with Sandbox(username="jane", password="other") as sandbox:
        refused = make_caller(sandbox.url).token()
    assert refused.status_code == 401
    assert refused.json() == {"error": "invalid_grant", "error_description": "Bad credentials"}
    with Sandbox(username="jane", password="Ex@mpl3!") as sandbox:
        assert make_caller(sandbox.url).token().status_code == 200


def test_create_of_a_valid_todo_returns_the_documented_keys(
    sandbox: Sandbox, caller: Any, todo: dict[str, Any]
) -> None:
    """A todo is answered as documented, and kept as it was sent."""
    body = todo | {"lrn": "LRN-1", "title": "Größe 🙂 <b>", "category": ["A"]}
    response = caller.create(body)
    assert response.status_code == 200
    assert response.json() == {
        "title": "Größe 🙂 <b>",
        "taskType": "INCIDENT",
        "description": "Expected 3, found 2",
        "taskLink": f"{sandbox.url}/app/#/todo/EXA-CON-BUS-WOR-01",
        "tags": ["run-1", "LRN-1"],
    }
    [kept] = sandbox.todos
    assert kept.items() >= body.items()
    assert set(kept) - set(body) == {"key", "taskLink", "tags", "createdAt"}


def test_create_with_another_host_links_to_that_host(caller: Any) -> None:
    """Behind another name, the link leads to that name."""
    response = caller.create(headers={"Host": "bzctrl.test:81"})
    assert response.json()["taskLink"].startswith("http://bzctrl.test:81/app/#/todo/")


def test_create_with_put_accepts_the_older_message(
    sandbox: Sandbox, caller: Any, todo: dict[str, Any]
) -> None:
    """The older document's message is accepted only with PUT."""
    del todo["domainWorkSpace"]
    old = todo | {"domain": "IMP-NLD-EXA-SWA", "workspace": "SWA", "category": "A", "LRN": "LRN-1"}
    assert caller.create(old, method="PUT").json()["taskLink"].endswith("/IMP-NLD-EXA-SWA-01")
    assert caller.create(old).status_code == 400
    assert [kept["tags"] for kept in sandbox.todos] == [["run-1", "LRN-1"]]


def test_create_of_an_invalid_todo_names_every_error(
    sandbox: Sandbox, caller: Any, todo: dict[str, Any]
) -> None:
    """One response lists every error, and nothing is kept."""
    response = caller.create(todo | {"impact": "urgent", "result": "x", "orderID": ""})
    assert response.status_code == 400
    assert response.json()["error"] == "Bad Request"
    assert {"field": "impact", "fault": "must be one of HIGH, MEDIUM, LOW, not 'urgent'"} in response.json()[
        "faults"
    ]
    assert {fault["field"] for fault in response.json()["faults"]} == {"impact", "result", "orderID"}
    assert sandbox.todos == []


def test_create_with_half_a_surrogate_pair_is_refused(caller: Any, todo: dict[str, Any]) -> None:
    """Text that is no Unicode is refused with a response that can be sent."""
    response = caller.create(todo | {"title": "\ud800", "\udfff": "x"})
    assert [fault["field"] for fault in response.json()["faults"]] == ["title", "\udfff"]


@pytest.mark.parametrize("body", [b"", b"{", b"[]", b'{"a": 1, "a": 1}'])
def test_create_without_a_json_object_is_refused(caller: Any, body: bytes) -> None:
    """A body that is no JSON object is a fault of the body."""
    response = caller.create(data=body, headers={"Content-Type": "application/json"})
    assert (response.status_code, response.json()["faults"][0]["field"]) == (400, "(body)")


@pytest.mark.parametrize("content_type", ["text/plain", FORM, "application/json; charset=latin-1"])
def test_create_with_another_content_type_is_refused(
    caller: Any, todo: dict[str, Any], content_type: str
) -> None:
    """Another Content-Type is refused, whatever the body is."""
    response = caller.create(data=json.dumps(todo), headers={"Content-Type": content_type})
    assert response.status_code == 415


@pytest.mark.parametrize("header", [None, "Bearer nobody-gave-this", "Basic amFuZTp4", "bearer"])
def test_create_without_a_valid_token_is_refused(sandbox: Sandbox, stranger: Any, header: str | None) -> None:
    """Without a token that was given out here, nothing is made."""
    response = stranger.create(headers={"Authorization": header})
    assert response.status_code == 401
    assert response.headers["WWW-Authenticate"] == "Bearer"
    assert sandbox.todos == []


def test_create_with_an_expired_token_is_refused(make_caller: Any) -> None:
    """A token is refused once its lifetime is over, and a new one is good."""
    now = [datetime(2026, 1, 1, tzinfo=UTC)]
    with Sandbox(token_lifetime_s=60, clock=lambda: now[0]) as sandbox:
        caller = make_caller(sandbox.url).log_in()
        assert caller.create().status_code == 200
        now[0] += timedelta(seconds=60)
        assert caller.create().status_code == 401
        assert caller.log_in().create().status_code == 200
        sandbox.expire_tokens()
        assert caller.create().status_code == 401
        assert [todo["createdAt"] for todo in sandbox.todos] == [
            "2026-01-01T00:00:00+00:00",
            "2026-01-01T00:01:00+00:00",
        ]


def test_create_from_many_clients_gives_distinct_keys(sandbox: Sandbox, caller: Any) -> None:
    """Requests that come at once get keys of their own, without a gap."""
    with ThreadPoolExecutor(8) as pool:
        links = list(pool.map(lambda _: caller.create().json()["taskLink"], range(80)))
    assert sorted(int(link.rpartition("-")[2]) for link in links) == list(range(1, 81))
    assert [todo["taskLink"] for todo in sandbox.todos] == sorted(
        links, key=lambda link: int(link.rpartition("-")[2])
    )


def test_request_of_an_unknown_path_names_the_known_ones(stranger: Any) -> None:
    """A slip in a path is answered with the paths there are."""
    response = stranger.send("POST", "/bzctrl-core-api/api/v1/task/add-task/")
    assert response.status_code == 404
    assert "POST /bzctrl-core-api/api/v1/task/add-task" in response.json()["known"]


@pytest.mark.parametrize(
    ("method", "path", "allowed"),
    [
        ("GET", "/bzctrl-core-api/api/v1/task/add-task", "POST, PUT"),
        ("PUT", "/bzctrl-core-api/oauth/token", "POST"),
        ("GET", "/sandbox/faults", "POST, DELETE"),
        ("POST", "/app/todo/x", "GET, HEAD"),
    ],
)
def test_request_with_another_method_names_the_allowed_ones(
    stranger: Any, method: str, path: str, allowed: str
) -> None:
    """A wrong method is answered with the right ones."""
    response = stranger.send(method, path)
    assert (response.status_code, response.headers["Allow"]) == (405, allowed)


def test_requests_with_secrets_are_recorded_without_them(
    sandbox: Sandbox, stranger: Any, todo: dict[str, Any]
) -> None:
    """Everything received is recorded in order, and neither password nor token can be found in it."""
    token = stranger.token().json()["access_token"]
    stranger.session.headers["Authorization"] = f"Bearer {token}"
    stranger.create()
    stranger.send("GET", "/nowhere?password=Ex@mpl3!")
    stranger.send("GET", "/sandbox/health")
    first, second, third = sandbox.requests
    assert (first.method, first.path, first.status) == ("POST", "/bzctrl-core-api/oauth/token", 200)
    assert first.body == {"grant_type": "password", "username": "jane", "password": "***"}
    assert (second.body, second.status, second.fault) == (todo, 200, None)
    assert second.headers["authorization"] == "Bearer ***"
    assert second.headers["content-type"] == "application/json"
    assert (third.path, third.status) == ("/nowhere", 404)
    assert token not in repr(sandbox.requests)
    assert "Ex@mpl3!" not in repr(sandbox.requests)


def test_create_with_a_locked_data_file_gets_503(
    make_caller: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """While another process holds the data file, a create is answered 503 instead of never."""
    monkeypatch.setattr(state_module, "_BUSY_TIMEOUT_S", 0.05)
    path = tmp_path / "todos.sqlite"
    with Sandbox(data=path) as sandbox:
        caller = make_caller(sandbox.url).log_in()
        holder = sqlite3.connect(path, isolation_level=None)
        holder.execute("BEGIN IMMEDIATE")
        response = caller.create()
        holder.execute("ROLLBACK")
        holder.close()
        assert response.status_code == 503
        assert "locked" in response.json()["error_description"]
        assert caller.create().json()["taskLink"].endswith("-01")
