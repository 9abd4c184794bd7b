"""The pages, as the server sends them."""

from __future__ import annotations

import re

import pytest

HOSTILE = "<script>alert('x')</script>"


def test_page_without_todos_shows_how_to_create_one(sandbox, stranger):
    """Without a todo, the page shows the two requests that create the first one; the bare address leads to the page."""
    text = stranger.send("GET", "/app/").text
    assert "Nothing here yet" in text
    assert f"curl {sandbox.url}/bzctrl-core-api/api/v1/task/add-task" in text
    response = stranger.send("GET", "/")
    assert (response.status_code, response.headers["Location"]) == (307, "/app/")


def test_page_with_todos_shows_their_fields(caller, todo):
    """The list has a link to each todo, which shows the element with all its fields."""
    more = {"financialImpact": "123577", "priority": "HIGH", "category": ["A", "B"], "lrn": "LRN-1"}
    caller.create(todo | more | {"description": "Look at https://wiki.example/x."})
    del todo["domainWorkSpace"]
    old = {"todoType": "TASK", "result": "Half done", "domain": "EXA", "workspace": "SWA", "LRN": "L"}
    caller.create(todo | old, method="PUT")
    page = " ".join(caller.send("GET", "/app/").text.split())
    assert "2 in all" in page
    keys = ["EXA-SWA-01", "EXA-CON-BUS-WOR-01"]
    assert re.findall(r'href="#/todo/([^"]+)"', page) == re.findall(r'id="/todo/([^"]+)"', page) == keys
    older, newer = page.partition('id="/todo/EXA-CON-BUS-WOR-01"')[::-2]
    for shown in (
        "<h1>Totals differ</h1>",
        "EUR 123577",
        "A, B",
        "LRN-1",
        "run-1",
        "jane@example.com",
        '<a href="https://wiki.example/x" rel="nofollow noopener noreferrer">https://wiki.example/x</a>.',
    ):
        assert shown in older
    assert [text for text in ("Half done", "Domain</dt><dd>EXA", "SWA", "LRN") if text not in newer] == []
    assert "not the real BzCtrl" in page


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
    caller.create(todo | hostile)
    text = caller.send("GET", "/app/").text
    assert "<script" not in text
    assert "<img" not in text
    assert re.search(r"<[^>]*\"\s*on\w+=", text) is None
    assert "&lt;" in text


@pytest.mark.security
def test_page_of_any_kind_has_a_strict_content_policy(stranger):
    """No script runs, and only the sandbox's own style; no page loads anything of another host, and no cache keeps one."""
    types = {
        "/": None,
        "/app/": "text/html; charset=utf-8",
        "/app/sandbox.css": "text/css; charset=utf-8",
    }
    for path, content_type in types.items():
        response = stranger.send("GET", path)
        assert response.headers["Content-Security-Policy"].startswith(
            "default-src 'none'; style-src 'self'; "
        )
        assert "unsafe" not in response.headers["Content-Security-Policy"]
        assert response.headers["Cache-Control"] == "no-store"
        assert response.headers.get("Content-Type") == content_type
        assert not re.search(r"\b(src|href|import|url)\W{1,3}(https?:)?//", response.text)
        assert " style=" not in response.text
        assert "<script" not in response.text
