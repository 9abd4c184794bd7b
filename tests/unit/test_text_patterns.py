from __future__ import annotations

import json
import time
from datetime import UTC, datetime
from fnmatch import fnmatchcase

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bzctrl_provider.rules.routes import find_ignoring, parse_routes
from bzctrl_provider.rules.silences import find_silence, parse_silences
from bzctrl_provider.settings import Settings
from bzctrl_provider.text import fits_any, read_patterns

NOW = datetime(2026, 11, 30, tzinfo=UTC)

FITS = [
    # pattern, name, whether it fits
    ("customs", "customs", True),
    ("customs", "customs_2", False),
    ("customs_*", "customs_", True),
    ("customs_*", "my_customs_1", False),
    ("*", "any", True),
    ("?_load", "a_load", True),
    ("?_load", "ab_load", False),
    ("Customs", "customs", False),
    ("a.c", "abc", False),
    ("feed_[ab]", "feed_a", True),
    ("feed_[ab]", "feed_c", False),
    ("feed_[ab]", "feed_[ab]", False),
    ("feed_[a-c]*", "feed_c_1", True),
    ("feed_[!a]", "feed_b", True),
    ("feed_[!a]", "feed_a", False),
    ("feed_[[]ab]", "feed_[ab]", True),
    ("feed_[ab", "feed_[ab", True),
]


def fits_route(pattern, name):
    routes = parse_routes(f"[[route]]\ndags = {json.dumps(pattern)}\nignore = true")
    return find_ignoring(routes, {"dags": (name,)}) is not None


def fits_silence(pattern, name):
    text = json.dumps([{"dags": pattern, "tasks": pattern, "until": "2126-12-01T06:00Z"}])
    silences, _ = parse_silences(text)
    return find_silence(silences, name, [name], now=NOW) is not None


def fits_included(pattern, name):
    return Settings(include_dags=(pattern,)).applies_to(name, ())


def fits_excluded(pattern, name):
    return not Settings(exclude_dags=(pattern,)).applies_to(name, ())


def test_pattern_means_the_same_in_routes_silences_and_options():
    """A pattern of a shell fits the same names in all three places, and the case counts."""
    for pattern, name, expected in FITS:
        for place in (fits_route, fits_silence, fits_included, fits_excluded):
            assert place(pattern, name) is expected, (place, pattern, name)


@given(st.lists(st.text("ab*?[]!-", min_size=1), max_size=4), st.text("ab[]\n/", max_size=8))
def test_fits_any_agrees_with_fnmatch(patterns, name):
    """Any of the patterns may fit, as the standard library has it."""
    assert fits_any(patterns, name) is any(fnmatchcase(name, pattern) for pattern in patterns)


def test_fits_any_many_asterisks_takes_no_longer():
    """A pattern of 60 asterisks does not try each division of a long name."""
    started = time.perf_counter()
    assert not fits_any(["*a" * 60 + "b"], "a" * 5000)
    assert time.perf_counter() - started < 1


def test_read_patterns_accepts_texts_only():
    """One pattern needs no brackets; anything but texts is refused, and so is a list that could fit nothing."""
    assert read_patterns(" customs_* ") == read_patterns(["customs_*"]) == ("customs_*",)
    for value in ([], [""], " ", 1, None, True, ["a", 1], {"a": 1}):
        with pytest.raises(ValueError, match=r"^must "):
            read_patterns(value)
