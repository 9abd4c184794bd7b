from __future__ import annotations

from datetime import UTC, timedelta, timezone

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bzctrl_provider.text import parse_time

ZONES = st.integers(-23, 23).map(lambda hours: timezone(timedelta(hours=hours)))


@given(st.datetimes(timezones=ZONES).filter(lambda moment: 1 < moment.year < 9999))
def test_parse_time_returns_the_moment_in_utc(moment):
    """Of each time that Python writes with a zone."""
    found = parse_time(moment.isoformat())
    assert found == moment
    assert found.tzinfo is UTC


@pytest.mark.parametrize(
    "value",
    ["", "soon", "2026-11-21", "2026-11-21T12:00:00", "0001-01-01T00:00:00+23:00", None, 3, 1e300, [], {}],
)
def test_parse_time_of_anything_else_is_none(value):
    """Also of a time without a zone, or one that UTC does not have."""
    assert parse_time(value) is None
