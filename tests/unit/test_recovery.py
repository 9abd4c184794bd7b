from __future__ import annotations

import datetime as dt
import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bzctrl_provider.recovery import FailureStreak, count_failure, is_within_window

START = dt.datetime(2026, 11, 21, 6, tzinfo=dt.UTC)
HOUR = dt.timedelta(hours=1)
DAY = dt.timedelta(days=1)


def is_within(*, after=HOUR, window=DAY, success_after=None):
    success = None if success_after is None else START + success_after
    return is_within_window(first_at=START, now=START + after, window=window, last_success_at=success)


@pytest.mark.parametrize(
    ("after", "within"),
    [(dt.timedelta(), True), (DAY - HOUR / 3600, True), (DAY, False), (-HOUR / 3600, True)],
)
def test_is_within_window_without_success_ends_with_the_window(after, within):
    """From the first incident on, up to and without its end; the clocks of two workers may differ by a second."""
    assert is_within(after=after) is within


@pytest.mark.parametrize(
    ("success_after", "within"), [(-HOUR, True), (dt.timedelta(), True), (HOUR / 2, False)]
)
def test_is_within_window_success_after_the_incident_ends_it(success_after, within):
    """Fail, success, fail is two incidents; a success before the first failure changes nothing."""
    assert is_within(success_after=success_after) is within


def test_is_within_window_longest_window_never_overflows():
    """``timedelta.max`` is a window without an end."""
    assert is_within(window=dt.timedelta.max)


@given(st.integers(0, 100), st.integers(1, 100), st.none() | st.integers(-100, 100))
def test_is_within_window_success_never_prolongs(after, window, success):
    """With a success, a failure is covered only if it would be without one."""
    hours = [HOUR * number for number in (after, window)]
    with_success = is_within(
        after=hours[0], window=hours[1], success_after=None if success is None else HOUR * success
    )
    assert with_success <= is_within(after=hours[0], window=hours[1])


def count(*events, of=3):
    """Return the progress after each failure: ``f`` in a new run, ``r`` in the same run again; ``s`` is a success."""
    streak, success, progress, run = None, None, [], 0
    for hour, event in enumerate(events):
        now = START + HOUR * hour
        if event == "s":
            success = now
            continue
        run += event == "f"
        streak = count_failure(streak, occurrence=f"run {run}", now=now, last_success_at=success)
        streak = FailureStreak.parse(json.loads(json.dumps(streak.as_dict())))
        progress.append((streak.progress(of), streak.is_enough(of)))
    return progress


def test_count_failure_third_in_a_row_is_enough():
    """The log says "1 of 3" and "2 of 3" before, and the fourth is enough as well."""
    assert count(*"ffff") == [("1 of 3", False), ("2 of 3", False), ("3 of 3", True), ("4 of 3", True)]


def test_count_failure_success_begins_again():
    """Failures are in a row only without a success between them."""
    assert [text for text, _ in count(*"ffsff")] == ["1 of 3", "2 of 3", "1 of 3", "2 of 3"]
    assert [text for text, _ in count(*"sff")] == ["1 of 3", "2 of 3"]


def test_count_failure_same_occurrence_counts_once():
    """Airflow calls a callback twice if it lost the worker."""
    assert [text for text, _ in count(*"frrf")] == ["1 of 3", "1 of 3", "1 of 3", "2 of 3"]


def test_count_failure_earlier_run_again_counts_once():
    """A run that is cleared while others failed after it is no further failure."""
    streak = None
    for run in ("a", "b", "a"):
        streak = count_failure(streak, occurrence=run, now=START, last_success_at=None)
    assert streak.progress(3) == "2 of 3"


def test_count_failure_one_is_always_enough():
    """``consecutive_failures = 1`` is as without the option."""
    assert all(enough for _, enough in count(*"fsff", of=1))


@given(st.text("fs", max_size=12))
def test_count_failure_is_the_length_of_the_last_run_of_failures(events):
    """The count is the number of failures since the last success."""
    progress = count(*events)
    if events.endswith("f"):
        assert progress[-1][0] == f"{len(events) - len(events.rstrip('f'))} of 3"


@pytest.mark.parametrize(
    "record",
    [
        None,
        {},
        {"count": 2},
        {"count": 0, "last_at": START.isoformat(), "occurrences": ["a"]},
        {"count": True, "last_at": START.isoformat(), "occurrences": ["a"]},
        {"count": 10**9, "last_at": START.isoformat(), "occurrences": ["a"]},
        {"count": 2, "last_at": "2026-11-21T06:00:00", "occurrences": ["a"]},
        {"count": 2, "last_at": 5, "occurrences": ["a"]},
        {"count": 2, "last_at": START.isoformat(), "occurrences": 5},
        {"count": 2, "last_at": START.isoformat(), "occurrences": "a"},
        [1],
    ],
)
def test_parse_odd_record_is_no_streak(record):
    """Others can write Variables, too: the next failure is the first."""
    assert FailureStreak.parse(record) is None


def test_count_failure_long_occurrence_is_cut():
    """The text of a Variable stays bounded, and a long name is still the same one."""
    first = count_failure(None, occurrence="x" * 10_000, now=START, last_success_at=None)
    assert [len(occurrence) for occurrence in first.occurrences] == [500]
    assert count_failure(first, occurrence="x" * 10_000, now=START, last_success_at=None) == first
