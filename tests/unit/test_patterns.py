from __future__ import annotations

import time
from fnmatch import fnmatchcase

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bzctrl_provider.patterns import Patterns


@pytest.mark.parametrize(
    ("pattern", "name", "fits"),
    [
        ("customs", "customs", True),
        ("customs", "customs_2", False),
        ("customs_*", "customs_", True),
        ("customs_*", "my_customs_1", False),
        ("?_load", "a_load", True),
        ("?_load", "ab_load", False),
        ("Customs", "customs", False),
        ("checks[3]", "checks[3]", True),
        ("checks[3]", "checks3", False),
        ("[ab]*", "a", False),
        ("[!a]?", "[!a]x", True),
        ("a.c", "abc", False),
        ("*", "", True),
        ("a*b", "a\nb", True),
    ],
)
def test_match_each_pattern_fits_whole_names(pattern, name, fits):
    """Only ``*`` and ``?`` are special, and the case counts."""
    assert Patterns((pattern,)).match(name) is fits


@given(st.lists(st.text("ab*?", min_size=1), min_size=1, max_size=4), st.text("ab\n", max_size=8))
def test_match_without_brackets_agrees_with_fnmatch(texts, name):
    """Any of the patterns may fit, as the standard library has it."""
    assert Patterns(tuple(texts)).match(name) is any(fnmatchcase(name, text) for text in texts)


@given(st.text("ab[]!-^*?", min_size=1, max_size=6))
def test_match_pattern_without_wildcards_fits_itself_only(text):
    """Brackets, their ranges and their negation are plain characters."""
    literal = text.replace("*", "-").replace("?", "!")
    assert Patterns((literal,)).match(literal)
    assert not Patterns((literal,)).match(literal + "a")


def test_match_many_asterisks_takes_no_longer():
    """A pattern of 60 asterisks does not try each division of a long name."""
    started = time.perf_counter()
    assert not Patterns(("*a" * 60 + "b",)).match("a" * 5000)
    assert time.perf_counter() - started < 1


def test_parse_text_becomes_list_of_one():
    """One pattern needs no brackets; spaces around it are removed."""
    assert Patterns.parse(" customs_* ") == Patterns.parse(["customs_*"]) == Patterns(("customs_*",))


@pytest.mark.parametrize("value", [[], [""], " ", 1, None, True, ["a", 1], {"a": 1}])
def test_parse_invalid_value_raises(value):
    """Anything but texts is refused, and so is a list that could fit nothing."""
    with pytest.raises(ValueError, match=r"^must "):
        Patterns.parse(value)


@pytest.mark.parametrize(("texts", "everything"), [(("*",), True), (("a", "**"), True), (("?*",), False)])
def test_match_everything_only_with_asterisk(texts, everything):
    """Only a pattern of asterisks needs no name."""
    assert Patterns(texts).match_everything is everything
