from __future__ import annotations

from datetime import UTC, datetime

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bzctrl_provider.client.retry import backoff_s, bounded_call, parse_retry_after, remaining_s

NOW = datetime(2026, 11, 21, 12, 0, 0, tzinfo=UTC)


@pytest.mark.parametrize(
    ("header", "seconds"),
    [
        (None, None),
        ("0", 0.0),
        ("7", 7.0),
        ("3600", 3600.0),
        ("-5", 0.0),
        ("Sat, 21 Nov 2026 12:00:30 GMT", 30.0),
        ("Sat, 21 Nov 2026 12:00:30 -0000", 30.0),
        ("Sat, 21 Nov 2026 11:00:00 GMT", 0.0),
        ("soon", None),
        ("", None),
        ("nan", None),
        ("inf", None),
        ("Sat, 99 Nov 2026 12:00:30 GMT", None),
    ],
)
def test_retry_after_is_read_as_seconds_or_as_a_date(header, seconds):
    """What cannot be read counts as absent; a time that has passed as none to wait."""
    assert parse_retry_after(header, now=NOW) == seconds


def test_what_bzctrl_asks_for_is_granted_up_to_a_minute():
    """Retry-After wins over our own backoff, but holds no task for an hour."""
    assert backoff_s(1, asked_s=7.0, jitter=0.9) == 7.0
    assert backoff_s(3, asked_s=3600.0, jitter=0.0) == 60.0
    assert backoff_s(1, asked_s=0.0, jitter=0.5) == 0.0


def test_the_backoff_doubles():
    """Without jitter the waits are half a second, one, two, four, and then at most ten."""
    assert [backoff_s(n, asked_s=None, jitter=0.0) for n in range(1, 8)] == [
        0.5,
        1.0,
        2.0,
        4.0,
        8.0,
        10.0,
        10.0,
    ]


@given(st.integers(1, 100), st.floats(0, 1))
def test_the_jitter_stays_within_the_second_half(failures, jitter):
    """No wait is shorter than half of its step, and none longer than the step."""
    longest = backoff_s(failures, asked_s=None, jitter=1.0)
    assert longest / 2 <= backoff_s(failures, asked_s=None, jitter=jitter) <= longest <= 20.0


def test_a_call_is_bounded_as_long_as_it_lasts():
    """The time left counts down within the call and is infinite outside of it."""
    times = iter([100.0, 103.0, 200.0])
    clock = times.__next__
    with bounded_call(10.0, clock=clock):
        assert remaining_s(clock) == 7.0
    assert remaining_s(clock) == float("inf")
