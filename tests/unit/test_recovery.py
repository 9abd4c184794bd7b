from __future__ import annotations

import datetime as dt
import json

from hypothesis import given
from hypothesis import strategies as st

from bzctrl_provider.recovery import FailureStreak, count_failure, is_within_window

START = dt.datetime(2026, 11, 21, 6, tzinfo=dt.UTC)
HOUR = dt.timedelta(hours=1)
DAY = dt.timedelta(days=1)


def is_within(*, after=HOUR, window=DAY, success_after=None):
    success = None if success_after is None else START + success_after
    return is_within_window(first_at=START, now=START + after, window=window, last_success_at=success)


def test_is_within_window_ends_with_the_window_or_a_success():
    """Without its end; the clocks of two workers may differ by a second; fail, success, fail is two incidents."""
    second = HOUR / 3600
    for after, within in [(0 * HOUR, True), (DAY - second, True), (DAY, False), (-second, True)]:
        assert is_within(after=after) is within
    for success_after, within in [(-HOUR, True), (0 * HOUR, True), (HOUR / 2, False)]:
        assert is_within(success_after=success_after) is within
    assert is_within(window=dt.timedelta.max)


@given(st.integers(0, 100), st.integers(1, 100), st.none() | st.integers(-100, 100))
def test_is_within_window_success_never_prolongs(after, window, success):
    """With a success, a failure is covered only if it would be without one."""
    hours = [HOUR * number for number in (after, window)]
    with_success = is_within(
        after=hours[0], window=hours[1], success_after=None if success is None else HOUR * success
    )
    assert with_success <= is_within(after=hours[0], window=hours[1])


def count(*events):
    """Return the count after each failure, ``f``, each in a run of its own; ``s`` is a success."""
    streak, success, counts = None, None, []
    for hour, event in enumerate(events):
        now = START + HOUR * hour
        if event == "s":
            success = now
            continue
        streak = count_failure(streak, occurrence=f"run {hour}", now=now, last_success_at=success)
        streak = FailureStreak.parse(json.loads(json.dumps(streak.as_dict())))
        counts.append(streak.count)
    return counts


@given(st.text("fs", max_size=12))
def test_count_failure_is_the_length_of_the_last_run_of_failures(events):
    """The count is the number of failures since the last success."""
    if events.endswith("f"):
        assert count(*events)[-1] == len(events) - len(events.rstrip("f"))


def test_parse_odd_record_is_no_streak():
    """Others can write Variables, too: the next failure is the first."""
    valid = {"count": 2, "last_at": START.isoformat(), "occurrences": ["a"]}
    assert FailureStreak.parse(valid)
    for changes in (
        *({"count": number} for number in (0, True, 2.5, None)),
        *({"last_at": at} for at in ("2026-11-21T06:00:00", 5, None)),
        *({"occurrences": names} for names in (5, "a", None)),
    ):
        assert FailureStreak.parse({**valid, **changes}) is None
    for record in (None, {}, [1]):
        assert FailureStreak.parse(record) is None


def test_count_failure_long_occurrence_is_cut():
    """The text of a Variable stays bounded, and a long name is still the same one."""
    first = count_failure(None, occurrence="x" * 10_000, now=START, last_success_at=None)
    assert [len(occurrence) for occurrence in first.occurrences] == [2000]
    assert count_failure(first, occurrence="x" * 10_000, now=START, last_success_at=None) == first
