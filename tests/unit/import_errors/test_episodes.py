from __future__ import annotations

import os
import stat

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bzctrl_provider.import_errors.episodes import Episode, Episodes, advance

FILE = "/dags/customs.py"
NOON = 1_795_000_000.0
INTERVAL_S = 30.0


def parse(previous, at, *, is_new):
    return advance(previous, file=FILE, is_new=is_new, now=NOON + at, parse_interval_s=INTERVAL_S)


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
    assert episode.is_due(60)
    assert not episode.is_due(61)


def test_advance_existing_error_after_a_long_stop_continues_the_episode():
    """A DAG processor that was stopped for a week does not make a new error of an old one."""
    raised = Episode(file=FILE, since=NOON, seen=NOON + 600, confirmed=True, outcome="written")
    after = parse(raised, 7 * 86_400, is_new=False)
    assert (after.since, after.outcome) == (NOON, "written")
    assert not after.is_due(0)


def test_advance_new_error_after_an_existing_one_begins_an_episode():
    """Airflow calls an error new after a parse without it: the file was repaired in between."""
    raised = Episode(file=FILE, since=NOON, seen=NOON + 600, confirmed=True, outcome="written")
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
    assert episode.is_due(300)


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
        if episode.is_due(grace_s):
            times_due.append(at)
            episode = Episode(**{**vars(episode), "outcome": "written"})
    assert len(times_due) == (at >= grace_s)
    assert all(time >= grace_s for time in times_due)


def names(episodes):
    return [path.name for path in episodes.folder.iterdir()]


@pytest.fixture
def episodes(tmp_path):
    return Episodes(tmp_path / "spool" / "import_errors")


EPISODE = Episode(file=FILE, since=NOON, seen=NOON + 60, gap_s=30.0, confirmed=True, outcome="written")


def test_episodes_write_is_read_by_the_next_process(episodes):
    """On Airflow 2 each parse has a process of its own; nobody but the user of Airflow reads the files."""
    old = os.umask(0)
    try:
        episodes.write("a.json", EPISODE)
    finally:
        os.umask(old)
    assert Episodes(episodes.folder).read("a.json") == EPISODE
    assert names(episodes) == ["a.json"]
    assert stat.S_IMODE((episodes.folder / "a.json").stat().st_mode) == 0o600
    assert stat.S_IMODE(episodes.folder.stat().st_mode) == 0o700


@pytest.mark.parametrize(
    "content",
    ["", "{", "[]", "null", "{}", '{"file": 1}', '{"file": "f", "since": "0"}', "[" * 10_000, "\udcff"],
)
def test_episodes_read_damaged_file_is_nothing(episodes, content):
    """A file that somebody has changed must not cost an incident: the grace period begins again."""
    episodes.folder.mkdir(parents=True)
    (episodes.folder / "a.json").write_bytes(content.encode(errors="surrogateescape"))
    assert episodes.read("a.json") is None


@pytest.mark.security
def test_episodes_read_link_or_fifo_is_nothing(episodes):
    """The processor must not wait for a FIFO, nor read through a symbolic link."""
    episodes.write("a.json", EPISODE)
    (episodes.folder / "b.json").symlink_to(episodes.folder / "a.json")
    os.mkfifo(episodes.folder / "c.json")
    assert episodes.read("b.json") is None
    assert episodes.read("c.json") is None


def test_episodes_write_that_fails_leaves_nothing(episodes, monkeypatch):
    """A full disk leaves no half file behind."""
    episodes.write("a.json", EPISODE)

    def fail(*_):
        raise OSError("disk full")

    monkeypatch.setattr("json.dump", fail)
    with pytest.raises(OSError, match="disk full"):
        episodes.write("a.json", Episode(file=FILE, since=0.0, seen=0.0))
    monkeypatch.undo()
    assert names(episodes) == ["a.json"]
    assert episodes.read("a.json") == EPISODE


def test_episodes_prune_forgets_files_that_were_not_broken_for_a_week(episodes):
    """A file that was deleted while it was broken is not remembered for ever."""
    for name, age_s in (("old.json", 8 * 86_400), ("young.json", 6 * 86_400)):
        episodes.write(name, EPISODE)
        os.utime(episodes.folder / name, (NOON - age_s, NOON - age_s))
    episodes.prune(NOON)
    assert names(episodes) == ["young.json"]


def test_episodes_without_a_folder_are_none(episodes):
    """Before the first import error, there is nothing."""
    assert episodes.read("a.json") is None
    episodes.prune(NOON)
