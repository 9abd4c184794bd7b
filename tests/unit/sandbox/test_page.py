"""How a todo's values are shown to people."""

from __future__ import annotations

from bzctrl_provider.sandbox.app import PAGES
from bzctrl_provider.sandbox.contract import MESSAGES

COMPLETE = {"key": "K", "taskLink": "http://x/", "tags": [], "createdAt": "2026-01-31T09:05:07+00:00"}


def test_page_of_a_todo_shows_every_key_of_each_message():
    """A key without a label would be accepted and never shown."""
    for message in MESSAGES.values():
        values = {key: f"{number}" * 5 for number, key in enumerate(message, start=10)}
        text = PAGES.get_template("todo.html").render(todo=values | COMPLETE)
        assert [key for key, value in values.items() if value not in text] == []
        assert "2026-01-31 09:05 UTC" in text
