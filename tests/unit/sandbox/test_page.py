"""How a todo's values are shown to people."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from bzctrl_provider.sandbox.app import group_digits, render, split_links
from bzctrl_provider.sandbox.contract import MESSAGES

COMPLETE = {"key": "K", "taskLink": "http://x/", "tags": [], "createdAt": "2026-01-31T09:05:07+00:00"}


def test_group_digits_of_any_length_loses_no_digit():
    """An amount is grouped, and loses no digit."""
    shown = {
        "0": "0",
        "007": "7",
        "1000": "1,000",
        "1234567.50": "1,234,567.50",
        "9" * 60: ",".join(["999"] * 20),
    }
    assert {amount: group_digits(amount) for amount in shown} == shown


def test_split_links_with_punctuation_leaves_it_outside():
    """Only http(s) addresses become links, without the punctuation around them."""
    for text, links in {
        "plain javascript:alert(1) ftp://a.example": [],
        "see https://a.example/x.": ["https://a.example/x"],
        "(http://a.example/b) [HTTP://a.example]!": ["http://a.example/b", "HTTP://a.example"],
        '"https://a.example"<b>': ["https://a.example"],
    }.items():
        assert [piece for piece, is_link in split_links(text) if is_link] == links


@given(st.text(alphabet="htps:/.)(][x ,\n\"<'!"))
def test_split_links_of_any_text_loses_nothing(text):
    """The pieces together are the text, and every link begins with http."""
    pieces = split_links(text)
    assert "".join(piece for piece, _ in pieces) == text
    assert all(piece.startswith(("http://", "https://")) for piece, is_link in pieces if is_link)


def test_page_of_a_todo_shows_every_key_of_each_message():
    """A key without a label would be accepted and never shown."""
    for message in MESSAGES.values():
        values = {key: f"{number}" * 5 for number, key in enumerate(message, start=10)}
        text = render("todo.html", todo=values | COMPLETE).decode()
        shown = {key: value for key, value in values.items() if key != "financialImpact"}
        assert [key for key, value in shown.items() if value not in text] == []
        assert "EUR 1,414,141,414" in text
        assert "2026-01-31 09:05 UTC" in text
