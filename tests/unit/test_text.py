from __future__ import annotations

import json
from datetime import date
from decimal import Decimal
from enum import StrEnum

import pytest
from hypothesis import given
from hypothesis import strategies as st
from support.hostile import Raising, Secretive

from bzctrl_provider.text import (
    is_email,
    is_encodable,
    json_line,
    one_line,
    plain_text,
    safe_repr,
    web_address,
)

pytestmark = pytest.mark.security

ANYTHING = st.text(st.characters())
"""Control characters, marks of direction and half surrogate pairs as well."""


class RaisingText(str):
    __slots__ = ()

    def __repr__(self):
        raise RuntimeError("hunter2")

    __str__ = __repr__


class Colour(StrEnum):
    RED = "red"


@given(ANYTHING, st.integers(0, 50))
def test_one_line_any_text_is_printable_and_bounded(text, max_chars):
    """Any text becomes one printable line of at most the given length."""
    line = one_line(text, max_chars=max_chars)
    assert line.isprintable()
    assert len(line.splitlines()) <= 1
    assert len(line) <= max_chars
    line.encode()


@given(ANYTHING)
def test_plain_text_any_text_has_no_control_characters(text):
    """PostgreSQL takes no NUL and UTF-8 no half surrogate pair; lines stay lines, and nothing is cut."""
    plain = plain_text(text)
    plain.encode()
    assert len(plain) == len(text)
    assert {char for char in plain if ord(char) < 32 or 127 <= ord(char) < 160} <= {"\n", "\r", "\t"}


def test_plain_text_text_of_any_alphabet_is_unchanged():
    """Line breaks, any alphabet, and the marks of direction that some need."""
    for text in ("a line\nand another\r\n\tand a tab", "Zoll für 橙 🍊", "שלום\u200f!", ""):
        assert plain_text(text) == text


def test_web_address_valid_address_is_returned():
    """The links of BzCtrl and of the sandbox are accepted."""
    for link in (
        "https://www.bzctrl.com/app/#/todo/EXA-03",
        "HTTP://127.0.0.1:8137/app/#/todo/EXA%20CON-01?tab=2",
        "https://bücher.example/Zoll/橙",
        "https://[::1]:8137/app/",
    ):
        assert web_address(link) == link


def test_web_address_invalid_address_is_none():
    """No script, no data, no other scheme, no way out of an attribute, no host in disguise, nothing endless."""
    for link in (
        *(None, 5, ""),
        *("javascript:alert(1)", "JavaScript:alert(1)//https://x/", "java\nscript:alert(1)", "vbscript:x"),
        *("data:text/html,<script>alert(1)</script>", "file:///etc/passwd", "//evil.example/x"),
        *(" https://x/y", "https://x/y\n", "https://x/a b", "https://x/\u202eelpmaxe", "https://x/\u2028"),
        *("https://x/\x00", "https://x/\x1b[31m", "https://x/\ud800", "https://x/<script>"),
        *(
            'https://x/"onmouseover="alert(1)',
            "https://x\\@evil.example/",
            "https://user:password@evil.example/",
        ),
        *("https://www.bzctrl.com@evil.example/", "https://", "https:///x", "https://[x/"),
        "https://x/" + "y" * 2000,
    ):
        assert web_address(link) is None, link


def test_safe_repr_any_value_runs_no_code_of_it():
    """Plain data as Python writes it, cut; of anything else the type, whose own text may be a secret or an error."""
    for value, text in [
        ("urgent", "'urgent'"),
        ("a\nb\u202e\x00", r"'a\nb\u202e\x00'"),
        (5, "5"),
        (Decimal("1.5"), "Decimal('1.5')"),
        (date(2026, 1, 1), "datetime.date(2026, 1, 1)"),
        (None, "None"),
        (["a", 5], "['a', 5]"),
        (("a",), "('a',)"),
        ("x" * 500, "'" + "x" * 199),
        (10**5000, "a number of thousands of digits"),
        (Colour.RED, "'red'"),
        (RaisingText("red"), "'red'"),
        (Secretive(), "an object of type Secretive"),
        (Raising(), "an object of type Raising"),
        ([Secretive()], "an object of type list"),
        ({"password": "hunter2"}, "an object of type dict"),
        (["x"] * 1000, "an object of type list"),
    ]:
        assert safe_repr(value) == text


def test_json_line_any_data_is_one_line():
    """And is still JSON of the same, where it was plain; readable in any alphabet."""
    plain = {"title": "Zoll 橙\nForged: line\u202e\u2028\x85\ud800"}
    line = json_line(plain)
    assert line.isprintable()
    assert json.loads(line) == plain
    assert "橙" in line
    assert json_line({"title": Secretive()}) == '{"title": "an object of type Secretive"}'
    assert json_line({"title": Raising()}) == '{"title": "an object of type Raising"}'
    assert json_line({("a",): 1}) == '"an object of type dict"'


def test_data_that_holds_itself_is_no_error():
    """A list in itself has no JSON, nor has one that is nested too deeply."""
    data, deep = [], []
    data.append(data)
    for _ in range(100_000):
        deep = [deep]
    for value in (data, deep):
        assert json_line(value) == '"an object of type list"'


def test_is_email_accepts_one_bare_address():
    """A todo has one assignee, so a name around the address and a second address are invalid."""
    assert is_email("jane@example.com")
    assert is_email("jane@localhost")
    for text in (
        *("Jane <jane@example.com>", "jane@example.com, joe@example.com", "jane@@example.com"),
        *("jane@example.com\n", "airflow", ""),
    ):
        assert not is_email(text)


def test_is_encodable_half_a_surrogate_pair_is_not():
    """Every text can be sent as UTF-8 unless it has half a surrogate pair."""
    assert is_encodable("déjà vu 🛃")
    assert is_encodable("")
    assert not is_encodable("\ud83d")
