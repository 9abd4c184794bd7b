from __future__ import annotations

from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bzctrl_provider.import_errors import reporter
from bzctrl_provider.import_errors.reporter import advance, is_due
from bzctrl_provider.store.broken_files import BrokenFile

FILE = "/dags/customs.py"
NOON = 1_795_000_000.0


@pytest.fixture(autouse=True)
def _interval(monkeypatch):
    monkeypatch.setattr(reporter, "parse_interval_s", lambda: 30.0)


def parse(previous, at, *, is_new):
    return advance(previous, file=FILE, is_new=is_new, now=NOON + at)


def parse_all(*parses):
    """Return the episode after parses that failed: each the seconds after noon, and whether Airflow says that it is new."""
    episode = None
    for at, is_new in parses:
        episode = parse(episode, at, is_new=is_new)
    return episode


def test_advance_existing_error_continues_the_episode():
    """The time since the first parse that failed decides on the incident."""
    episode = parse_all((0, True), (30, False), (60, False))
    assert (episode.since, episode.seen, episode.gap_s) == (NOON, NOON + 60, 30)
    assert is_due(episode, 60)
    assert not is_due(episode, 61)


def test_advance_existing_error_after_a_long_stop_continues_the_episode():
    """A DAG processor that was stopped for a week does not make a new error of an old one."""
    raised = BrokenFile(file=FILE, since=NOON, seen=NOON + 600, is_confirmed=True, outcome="written")
    after = parse(raised, 7 * 86_400, is_new=False)
    assert (after.since, after.outcome) == (NOON, "written")
    assert not is_due(after, 0)


def test_advance_new_error_after_an_existing_one_begins_an_episode():
    """Airflow calls an error new after a parse without it: the file was repaired in between."""
    raised = BrokenFile(file=FILE, since=NOON, seen=NOON + 600, is_confirmed=True, outcome="written")
    after = parse(raised, 660, is_new=True)
    assert (after.since, after.outcome) == (NOON + 660, "")


def test_advance_without_memory_begins_with_an_existing_error():
    """If the option is switched on while a file is broken, the grace period begins then."""
    assert parse(None, 0, is_new=False).since == NOON


@pytest.mark.parametrize("gap_s", [30, 60, 150])
def test_advance_error_that_is_always_new_continues_the_episode(gap_s):
    """If Airflow cannot keep its note of an error, each parse calls it a new one."""
    episode = parse_all((0, True), (gap_s, True), (2 * gap_s, True))
    assert episode.since == NOON


def test_advance_error_that_is_always_new_ends_after_a_pause():
    """Then a file was repaired if it has not been seen broken for several parses."""
    episode = parse_all((0, True), (30, True), (60, True), (240, True))
    assert episode.since == NOON + 240


def test_advance_error_that_is_always_new_adapts_to_slow_parses():
    """A deployment whose parses take longer than its configuration says has its incident after one parse more."""
    episode = parse_all((0, True), (400, True), (800, True), (1200, True))
    assert episode.since == NOON + 400
    assert is_due(episode, 300)


def test_advance_clock_that_is_set_back_is_no_error():
    """The times never decrease within an episode."""
    episode = parse_all((100, True), (0, False))
    assert (episode.since, episode.seen, episode.gap_s) == (NOON + 100, NOON + 100, 0)


@given(gaps=st.lists(st.floats(1, 90), max_size=30), grace_s=st.integers(0, 900))
def test_advance_one_episode_is_due_exactly_once(gaps, grace_s):
    """A broken file has one incident in any rhythm of parses, at the first one after the grace period."""
    episode, at, times_due = parse_all((0, True)), 0.0, []
    for gap in [0.0, *gaps]:
        at += gap
        episode = parse(episode, at, is_new=False) if at else episode
        if is_due(episode, grace_s):
            times_due.append(at)
            episode = replace(episode, outcome="written")
    assert len(times_due) == (at >= grace_s)
    assert all(time >= grace_s for time in times_due)
