"""How a todo's values are shown to people."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bzctrl_provider.sandbox.contract import MESSAGES
from bzctrl_provider.sandbox.page import format_euros, format_time, list_facts, make_css_name, split_links


@pytest.mark.parametrize(
    ("amount", "shown"),
    [
        ("0", "EUR 0.00"),
        ("007", "EUR 7.00"),
        ("999", "EUR 999.00"),
        ("1000", "EUR 1,000.00"),
        ("1234567.5", "EUR 1,234,567.50"),
        ("0.125", "EUR 0.125"),
        ("9" * 21, "EUR " + ",".join(["999"] * 7) + ".00"),
    ],
)
def test_format_euros_of_any_length_loses_no_digit(amount: str, shown: str) -> None:
    """An amount is grouped, has two decimals at least, and loses no digit."""
    assert format_euros(amount) == shown


@pytest.mark.parametrize(
    ("text", "pieces"),
    [
        ("plain", [("plain", False)]),
        ("see https://a.example/x.", [("see ", False), ("https://a.example/x", True), (".", False)]),
        ("(http://a.example/b)", [("(", False), ("http://a.example/b", True), (")", False)]),
        ("http://a.example/b_(c)", [("http://a.example/b_(c)", True)]),
        ("[HTTP://a.example]!", [("[", False), ("HTTP://a.example", True), ("]!", False)]),
        ("javascript:alert(1) ftp://a.example", [("javascript:alert(1) ftp://a.example", False)]),
        ('"https://a.example"<b>', [('"', False), ("https://a.example", True), ('"<b>', False)]),
    ],
)
def test_split_links_with_punctuation_leaves_it_outside(text: str, pieces: list[tuple[str, bool]]) -> None:
    """Only http(s) addresses become links, without the punctuation around them."""
    assert split_links(text) == pieces


@given(st.text(alphabet="htps:/.)(][x ,\n\"<'!"))
def test_split_links_of_any_text_loses_nothing(text: str) -> None:
    """The pieces together are the text, and every link begins with http."""
    pieces = split_links(text)
    assert "".join(piece for piece, _ in pieces) == text
    assert all(piece.startswith(("http://", "https://")) for piece, is_link in pieces if is_link)


def test_list_facts_of_a_todo_has_labels_in_order() -> None:
    """Details come with people's labels, lists joined, amounts and times readable."""
    todo = {
        "createdAt": "2026-01-31T09:05:07+00:00",
        "category": ["A", "B"],
        "financialImpact": "5",
        "domainWorkSpace": "EXA",
        "title": "shown elsewhere",
    }
    assert list_facts(todo) == [
        ("Domain workspace", "EXA"),
        ("Financial impact", "EUR 5.00"),
        ("Category", "A, B"),
        ("Created", "2026-01-31 09:05 UTC"),
    ]


def test_format_of_status_and_time_is_readable() -> None:
    """A status becomes a class name, a time becomes readable."""
    assert make_css_name("IN PROGRESS") == "in-progress"
    assert format_time("2026-01-31T09:05:07+00:00") == "2026-01-31 09:05 UTC"


OWN_PLACES = {"todoType", "title", "description", "result", "status", "priority"}
"""The keys that the page shows in other places than the facts."""


@pytest.mark.parametrize("method", MESSAGES)
def test_list_facts_of_each_message_has_every_key(method: str) -> None:
    """A key without a label would be taken and never seen."""
    keys = MESSAGES[method].keys() - OWN_PLACES
    assert len(list_facts(dict.fromkeys(keys, "1"))) == len(keys)
