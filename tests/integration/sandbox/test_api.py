"""The two documented endpoints, over HTTP."""

from __future__ import annotations

import json
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime, timedelta

from bzctrl_provider.sandbox import Sandbox

FORM = "application/x-www-form-urlencoded"
TOKEN = "/bzctrl-core-api/oauth/token"


def test_token_with_any_credentials_has_the_documented_keys(stranger):
    """Any username and password give a token with all the documented keys, and no cache keeps the response."""
    response = stranger.token()
    token = response.json()
    assert response.status_code == 200
    assert set(token) == {"access_token", "refresh_token", "token_type", "expires_in", "scope", "jti"}
    assert (token["token_type"], token["expires_in"], token["scope"]) == ("Bearer", 3600, "*")
    assert response.headers["Cache-Control"] == "no-store"


def test_token_with_an_invalid_form_names_every_error(stranger):
    """Only the documented form is accepted, in the body, and every error in it is named."""
    for body, content_type, status, fields in [
        ("", FORM, 400, ["grant_type", "username", "password"]),
        ("grant_type=client_credentials&username=u&password=p", FORM, 400, ["grant_type"]),
        ("nonsense", FORM, 400, ["(body)"]),
        ('{"grant_type": "password"}', "application/json", 415, None),
        ("grant_type=password&username=u&password=p", "", 415, None),
    ]:
        query = {"grant_type": "password", "username": "u", "password": "p"}
        headers = {"Content-Type": content_type}
        response = stranger.send("POST", TOKEN, data=body, params=query, headers=headers)
        assert response.status_code == status
        assert {"error", "error_description"} <= set(response.json())
        assert fields is None or [error["field"] for error in response.json()["faults"]] == fields


def test_token_with_fixed_credentials_refuses_others(make_caller):
    """With a username and password of its own, the sandbox refuses all others."""
    with Sandbox(username="jane", password="other") as sandbox:
        refused = make_caller(sandbox.url).token()
    assert refused.status_code == 401
    assert refused.json() == {"error": "invalid_grant", "error_description": "Bad credentials"}
    with Sandbox(username="jane", password="Ex@mpl3!") as sandbox:
        assert make_caller(sandbox.url).token().status_code == 200


def test_create_of_a_valid_todo_returns_the_documented_keys(sandbox, caller, todo):
    """The response is as documented, and the todo is kept as it was sent."""
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
    link = caller.create(headers={"Host": "bzctrl.test:81"}).json()["taskLink"]
    assert link == "http://bzctrl.test:81/app/#/todo/EXA-CON-BUS-WOR-02"


def test_create_with_put_accepts_the_older_message(sandbox, caller, todo):
    """The older document's message is accepted only with PUT."""
    del todo["domainWorkSpace"]
    old = todo | {"domain": "IMP-NLD-EXA-SWA", "workspace": "SWA", "category": "A", "LRN": "LRN-1"}
    assert caller.create(old, method="PUT").json()["taskLink"].endswith("/IMP-NLD-EXA-SWA-01")
    assert caller.create(old).status_code == 400
    assert [kept["tags"] for kept in sandbox.todos] == [["run-1", "LRN-1"]]


def test_create_of_an_invalid_todo_names_every_error(sandbox, caller, todo):
    """One response lists every error, and nothing is created."""
    response = caller.create(todo | {"impact": "urgent", "result": "x", "orderID": "", "title": " "})
    assert (response.status_code, response.json()["error"]) == (400, "Bad Request")
    errors = {error["field"]: error["fault"] for error in response.json()["faults"]}
    assert set(errors) == {"impact", "result", "orderID", "title"}
    assert errors["impact"] == "must be one of HIGH, MEDIUM, LOW, not 'urgent'"
    for body in (b"", b"{", b"[]", b"[" * 100_000):
        response = caller.create(data=body, headers={"Content-Type": "application/json"})
        assert (response.status_code, response.json()["faults"][0]["field"]) == (400, "(body)")
    for content_type in ("text/plain", FORM):
        response = caller.create(data=json.dumps(todo), headers={"Content-Type": content_type})
        assert response.status_code == 415
    assert sandbox.todos == []


def test_create_without_a_valid_token_is_refused(sandbox, stranger):
    """Without a token that was issued here, nothing is created."""
    for header in (None, "Bearer of-nobody", "Basic amFuZTp4", "bearer"):
        response = stranger.create(headers={"Authorization": header})
        assert (response.status_code, response.headers["WWW-Authenticate"]) == (401, "Bearer")
    assert sandbox.todos == []


def test_create_with_an_expired_token_is_refused(make_caller):
    """A token is refused once its lifetime is over or it is revoked, and a new one is accepted."""
    now = [datetime(2026, 1, 1, tzinfo=UTC)]
    with Sandbox(token_lifetime_s=60, clock=lambda: now[0]) as sandbox:
        caller = make_caller(sandbox.url).log_in()
        assert caller.create().status_code == 200
        now[0] += timedelta(seconds=60)
        assert caller.create().status_code == 401
        assert caller.log_in().create().status_code == 200
        sandbox.expire_tokens()
        assert caller.create().status_code == 401
    assert [todo["createdAt"][11:16] for todo in sandbox.todos] == ["00:00", "00:01"]


def test_create_from_many_clients_gives_distinct_keys(sandbox, caller):
    """Requests that come at the same time get keys of their own, without a gap."""
    with ThreadPoolExecutor(8) as pool:
        links = list(pool.map(lambda _: caller.create().json()["taskLink"], range(80)))
    assert sorted(int(link.rpartition("-")[2]) for link in links) == list(range(1, 81))
    assert {todo["taskLink"] for todo in sandbox.todos} == set(links)


def test_request_of_an_unknown_path_or_method_is_refused(stranger):
    """There is nothing for an unknown path, or for another method of a known one."""
    for method, path in [
        ("POST", "/bzctrl-core-api/api/v1/task/add-task/"),
        ("GET", "/bzctrl-core-api/api/v1/task/add-task"),
        ("PUT", TOKEN),
        ("GET", "/sandbox/faults"),
        ("POST", "/app/"),
    ]:
        response = stranger.send(method, path)
        assert (response.status_code, response.json()["error"]) == (404, "Not Found")


def test_requests_with_secrets_are_recorded_without_them(sandbox, stranger, todo):
    """Each request is recorded in order, and neither password nor token is in a record, a page or a representation."""
    token = stranger.token().json()["access_token"]
    stranger.session.headers["Authorization"] = f"Bearer {token}"
    stranger.create()
    stranger.send("GET", "/nowhere?password=Ex@mpl3!")
    first, second, third = sandbox.requests
    assert (first.method, first.path, first.status) == ("POST", TOKEN, 200)
    assert first.body == {"grant_type": "password", "username": "jane", "password": "***"}
    assert (second.body, second.status, second.fault) == (todo, 200, None)
    assert second.headers["authorization"] == "***"
    assert second.headers["content-type"] == "application/json"
    assert (third.path, third.status) == ("/nowhere", 404)
    paths = ("/sandbox/requests", "/sandbox/todos", "/app/")
    shown = [repr(sandbox), repr(sandbox.requests), *(stranger.send("GET", path).text for path in paths)]
    assert [text for text in shown if token in text or "Ex@mpl3!" in text] == []
