"""The pages, as the server sends them."""

from __future__ import annotations

import re

import pytest

HOSTILE = "<script>alert('x')</script>"


def test_list_without_todos_shows_how_to_create_one(sandbox, stranger):
    """Without a todo, the page shows the two requests that create the first one; the bare address leads to the page."""
    text = stranger.send("GET", "/app/").text
    assert "Nothing here yet" in text
    assert f"curl {sandbox.url}/bzctrl-core-api/api/v1/task/add-task" in text
    response = stranger.send("GET", "/")
    assert (response.status_code, response.headers["Location"]) == (307, "/app/")


def test_pages_with_a_todo_show_its_fields(caller, todo):
    """The list has a link to the todo, and the todo's page has its fields as people read them."""
    more = {"financialImpact": "123577", "priority": "HIGH", "category": ["A", "B"], "lrn": "LRN-1"}
    caller.create(todo | more | {"description": "Look at https://wiki.example/x."})
    del todo["domainWorkSpace"]
    old = {"todoType": "TASK", "result": "Half done", "domain": "EXA", "workspace": "SWA", "LRN": "L"}
    caller.create(todo | old, method="PUT")
    listed = caller.send("GET", "/app/").text
    assert "2 in all" in listed
    assert re.findall(r'href="/app/todo/([^"]+)"', listed) == ["EXA-SWA-01", "EXA-CON-BUS-WOR-01"]
    detail = caller.send("GET", "/app/todo/EXA-CON-BUS-WOR-01").text
    for shown in (
        "<title>EXA-CON-BUS-WOR-01 Totals differ",
        "EUR 123577",
        "A, B",
        "LRN-1",
        "run-1",
        "jane@example.com",
        "not the real BzCtrl",
        '<a href="https://wiki.example/x" rel="nofollow noopener noreferrer">https://wiki.example/x</a>.',
    ):
        assert shown in detail
    detail = " ".join(caller.send("GET", "/app/todo/EXA-SWA-01").text.split())
    assert [text for text in ("Half done", "Domain</dt><dd>EXA", "SWA", "LRN") if text not in detail] == []
    response = caller.send("GET", "/app/todo/NOBODY-01")
    assert response.status_code == 404
    assert "has no todo with the key <code>NOBODY-01</code>" in response.text


@pytest.mark.security
def test_page_with_markup_shows_it_as_text(caller, todo):
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
def test_page_of_any_kind_has_a_strict_content_policy(stranger):
    """Only the sandbox's own script and style run; no page loads anything of another host, and no cache keeps one."""
    types = {
        "/": None,
        "/app/": "text/html; charset=utf-8",
        "/app/todo/x": "text/html; charset=utf-8",
        "/app/static/sandbox.js": "text/javascript; charset=utf-8",
        "/app/static/sandbox.css": "text/css; charset=utf-8",
        "/app/static/icon.svg": "image/svg+xml",
    }
    for path, content_type in types.items():
        response = stranger.send("GET", path)
        assert response.headers["Content-Security-Policy"].startswith(
            "default-src 'none'; script-src 'self'; "
        )
        assert "unsafe" not in response.headers["Content-Security-Policy"]
        assert response.headers["Cache-Control"] == "no-store"
        assert response.headers.get("Content-Type") == content_type
        assert not re.search(r"\b(src|href|import|url)\W{1,3}(https?:)?//", response.text)
        assert " style=" not in response.text
        assert "<script>" not in response.text


def test_static_path_of_another_file_is_not_found(stranger):
    """Only the page's own files can be fetched."""
    for name in ("../api.py", "%2e%2e%2fapi.py", "x"):
        assert stranger.send("GET", f"/app/static/{name}").status_code == 404
