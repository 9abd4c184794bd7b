"""The pages, as the server sends them."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any

import pytest

from bzctrl_provider.sandbox import page

if TYPE_CHECKING:
    from bzctrl_provider.sandbox import Sandbox

HOSTILE = "<script>alert('x')</script>"


def test_list_without_todos_shows_how_to_create_one(sandbox: Sandbox, stranger: Any) -> None:
    """Without a todo, the page shows the connection and the two requests that make the first one."""
    text = stranger.send("GET", "/app/").text
    assert "Nothing here yet" in text
    assert "AIRFLOW_CONN_BZCTRL_DEFAULT" in text
    assert f"curl {sandbox.url}/bzctrl-core-api/api/v1/task/add-task" in text


def test_pages_with_a_todo_show_its_fields(caller: Any, todo: dict[str, Any]) -> None:
    """The list leads to the todo, and the todo's page has its fields as people read them."""
    more = {
        "financialImpact": "123577",
        "impact": "HIGH",
        "priority": "HIGH",
        "category": ["A", "B"],
        "lrn": "LRN-1",
    }
    caller.create(todo | more | {"description": "Look at https://wiki.example/x."})
    listed = caller.send("GET", "/app/").text
    assert 'href="/app/todo/EXA-CON-BUS-WOR-01"' in listed
    assert "1 in all" in listed
    detail = caller.send("GET", "/app/todo/EXA-CON-BUS-WOR-01").text
    for shown in (
        "EUR 123,577.00",
        "A, B",
        "LRN-1",
        "run-1",
        "jane@example.com",
        "BzCtrl sandbox",
        "not the real BzCtrl",
    ):
        assert shown in detail
    assert (
        '<a href="https://wiki.example/x" rel="noopener noreferrer nofollow">https://wiki.example/x</a>.'
        in detail
    )
    assert re.search(r"<title>EXA-CON-BUS-WOR-01 Totals differ", detail)


def test_page_of_a_task_in_the_older_message_shows_its_keys(caller: Any, todo: dict[str, Any]) -> None:
    """A task's result and the older message's keys are shown as well."""
    del todo["domainWorkSpace"]
    old = todo | {
        "todoType": "TASK",
        "result": "Half done",
        "domain": "EXA",
        "workspace": "SWA",
        "category": "C",
        "LRN": "L",
    }
    assert caller.create(old, method="PUT").status_code == 200
    detail = caller.send("GET", "/app/todo/EXA-SWA-01").text
    assert all(
        shown in detail for shown in ("Half done", "<dd>EXA</dd>", "<dd>SWA</dd>", "<dd>C</dd>", "<dd>L</dd>")
    )


@pytest.mark.security
def test_page_with_markup_shows_it_as_text(caller: Any, todo: dict[str, Any]) -> None:
    """No text of a todo becomes markup, or leaves its attribute."""
    hostile = {
        "title": HOSTILE,
        "description": f'{HOSTILE} http://a.example/"onmouseover="alert(1)',
        "orderID": HOSTILE,
        "domainWorkSpace": '"><img src=x onerror=alert(1)>/../é',
        "category": [HOSTILE],
    }
    link = caller.create(todo | hostile).json()["taskLink"]
    key = link.partition("#/todo/")[2]
    for path in ("/app/", f"/app/todo/{key}", f"/app/todo/{HOSTILE}"):
        text = caller.send("GET", path).text
        assert "<script>alert" not in text
        assert "<img" not in text
        assert re.search(r"<[^>]*\"\s*on\w+=", text) is None
        assert "&lt;" in text
    assert caller.send("GET", f"/app/todo/{key}").status_code == 200


@pytest.mark.security
@pytest.mark.parametrize(
    "path", ["/", "/app/", "/app/todo/x", "/app/static/sandbox.js", "/app/static/sandbox.css"]
)
def test_page_of_any_kind_has_a_strict_content_policy(stranger: Any, path: str) -> None:
    """Only the sandbox's own script and style run, nothing is kept and nothing is guessed."""
    headers = stranger.send("GET", path).headers
    policy = headers["Content-Security-Policy"]
    assert policy.startswith(
        "default-src 'none'; script-src 'self'; style-src 'self'; connect-src 'self'; img-src 'self' data:; "
        "base-uri 'none'; form-action 'none'"
    )
    assert "unsafe" not in policy
    assert headers["X-Content-Type-Options"] == "nosniff"
    assert headers["Cache-Control"] == "no-store"


def test_pages_of_any_kind_load_nothing_from_other_hosts(stranger: Any) -> None:
    """Pages, script and style name no other host, and no page has script or style of its own."""
    for path in ("/app/", "/app/todo/x", "/app/static/sandbox.js", "/app/static/sandbox.css"):
        text = stranger.send("GET", path).text
        assert not re.search(r"\b(src|href|import|url)\W{1,3}(https?:)?//", text)
        assert " style=" not in text
        assert "<script>" not in text


@pytest.mark.parametrize(
    ("path", "content_type"),
    [
        ("/app/static/sandbox.js", "text/javascript; charset=utf-8"),
        ("/app/static/sandbox.css", "text/css; charset=utf-8"),
        ("/app/static/icon.svg", "image/svg+xml"),
    ],
)
def test_static_file_has_its_content_type(stranger: Any, path: str, content_type: str) -> None:
    """The page's files come with the types a browser asks for under nosniff."""
    response = stranger.send("GET", path)
    assert (response.status_code, response.headers["Content-Type"]) == (200, content_type)


@pytest.mark.parametrize("path", ["/app/static/../app.py", "/app/static/%2e%2e%2fapp.py", "/app/static/x"])
def test_static_path_of_another_file_is_not_found(stranger: Any, path: str) -> None:
    """Nothing but the page's own files can be fetched."""
    assert stranger.send("GET", path).status_code == 404


def test_page_of_an_unknown_todo_is_not_found(stranger: Any) -> None:
    """The page of an unknown key is a 404 that names the key."""
    response = stranger.send("GET", "/app/todo/NOBODY-01")
    assert response.status_code == 404
    assert "has no todo with the key <code>NOBODY-01</code>" in response.text


@pytest.mark.parametrize("path", ["/", "/app"])
def test_short_address_redirects_to_the_list(stranger: Any, path: str) -> None:
    """The bare address redirects to the list."""
    response = stranger.send("GET", path)
    assert (response.status_code, response.headers["Location"]) == (307, "/app/")


def test_list_over_its_length_shows_how_many_more(caller: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """The list has an end, and a line that says how many todos are not on it."""
    monkeypatch.setattr(page, "MAX_LISTED", 2)
    for _ in range(5):
        caller.create()
    text = " ".join(caller.send("GET", "/app/").text.split())
    assert "The newest 2 of 5; 3 more are listed" in text
    assert re.findall(r'data-key="([^"]+)"', text) == ["EXA-CON-BUS-WOR-05", "EXA-CON-BUS-WOR-04"]
