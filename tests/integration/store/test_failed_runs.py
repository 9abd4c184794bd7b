from __future__ import annotations

import queue
import time
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace

import pytest
from sqlalchemy import text
from support.outbox import DAY

from bzctrl_provider.failed_runs import scheduler
from bzctrl_provider.failed_runs.scheduler import Writer, _write_into_store
from bzctrl_provider.settings import settings
from bzctrl_provider.store import failed_runs
from bzctrl_provider.store.database import Database
from bzctrl_provider.store.failed_runs import FailedRun

RUN = FailedRun(
    dag_id="customs",
    run_id="scheduled__2026-11-21",
    cleared=1,
    started_at="2026-11-21 12:00:00+00:00",
    why="task_failure",
    run_type="scheduled",
    logical_date="2026-11-21T00:00:00+00:00",
    tags=["finance"],
    owner="ana",
    team="a",
    states={"check": {0: "failed", 1: "success"}, "load": {-1: "upstream_failed"}},
    operators={"check": {"operator": "PythonOperator", "owner": "ana"}},
    did_not_run=["load"],
    not_updated=["orders"],
    roll_ups={"raise_incident": {"check": False}},
)


@pytest.fixture
def configure_url(url, monkeypatch):
    """Let the provider use the database."""
    monkeypatch.setattr("atexit.register", lambda _: None)
    monkeypatch.setenv("AIRFLOW__BZCTRL__DATABASE", url.render_as_string(hide_password=False))
    settings.cache_clear()
    yield
    monkeypatch.undo()
    settings.cache_clear()


def read(store):
    with store.transaction() as tx:
        return failed_runs.list_undecided(tx)


def write(store, *runs):
    failed_runs.add_all(store, runs or [RUN])


def test_run_is_read_as_it_was_written(store, clock):
    """Each attribute of a run survives the database."""
    write(store)
    (noted,) = read(store)
    assert (noted.run, noted.key, noted.noted_at) == (RUN, RUN.key, clock.now)


def test_one_failure_is_one_row_in_each_process_that_sees_it(store):
    """Schedulers that fail the same run, also at the same moment, write one row; another clear or start is another failure."""
    others = [replace(RUN, **change) for change in ({"cleared": 2}, {"started_at": "later"}, {"run_id": "b"})]
    with ThreadPoolExecutor(8) as pool:
        list(pool.map(lambda number: write(store, RUN, *others[: number % 4]), range(16)))
    assert {noted.key for noted in read(store)} == {run.key for run in (RUN, *others)}
    assert len(read(store)) == 4


def test_decided_run_is_known_for_a_week(store, clock):
    """A second call for it writes nothing and it is not listed; after 7 days it is forgotten."""
    write(store)
    with store.transaction() as tx:
        failed_runs.note_decided(tx, RUN.key)
        assert failed_runs.count_undecided(tx) == (0, None)
    for days, undecided in ((6, 0), (8, 1)):
        clock.now += days * DAY
        with store.transaction() as tx:
            failed_runs.prune(tx)
        write(store)
        assert len(read(store)) == undecided


def test_undecided_run_is_never_forgotten(store, clock):
    """However long no delivery runs, the run waits for it."""
    write(store)
    since = clock.now
    clock.now += 400 * DAY
    with store.transaction() as tx:
        failed_runs.prune(tx)
        assert failed_runs.count_undecided(tx) == (1, since)


def test_forgotten_run_can_be_noted_again(store):
    """A run that was not failed yet is written by the next call for it."""
    write(store)
    (noted,) = read(store)
    with store.transaction() as tx:
        failed_runs.forget(tx, noted)
    assert read(store) == []
    write(store)
    assert len(read(store)) == 1


def test_run_that_is_noted_again_meanwhile_is_not_forgotten(store, clock):
    """A delivery has found it active, and the next scheduler fails it before the delivery forgets it: nothing is lost."""
    write(store)
    (listed,) = read(store)
    clock.now += 1
    write(store)
    with store.transaction() as tx:
        failed_runs.forget(tx, listed)
    (noted,) = read(store)
    assert noted.noted_at == clock.now


def test_runs_are_listed_in_parts(store, monkeypatch):
    """A storm is read in parts, each after the last row of the one before."""
    monkeypatch.setattr(failed_runs, "PARAMETERS", 2)
    for number in range(5):
        write(store, replace(RUN, cleared=number))
    found, after = [], 0
    with store.transaction() as tx:
        while part := failed_runs.list_undecided(tx, after=after):
            assert len(part) <= 2
            found += [noted.run.cleared for noted in part]
            after = part[-1].number
    assert found == [0, 1, 2, 3, 4]


@pytest.mark.parametrize("part", ["scheduler", "delivery"])
def test_part_at_work_has_the_time_of_its_last_beat(store, clock, part):
    """The last heartbeat of a part counts, and one that never came has no time."""
    with store.transaction() as tx:
        assert failed_runs.find_heartbeat(tx, part) is None
    for _ in range(2):
        clock.now += 60
        with store.transaction() as tx:
            failed_runs.note_heartbeat(tx, part)
            assert failed_runs.find_heartbeat(tx, part) == clock.now


@pytest.mark.security
def test_text_that_no_database_takes_is_replaced(store):
    """The id of a run may have any character, also NUL, which PostgreSQL refuses."""
    write(store, replace(RUN, run_id="a\x00b", why="\ud800", owner="\x00"))
    (noted,) = read(store)
    assert (noted.run.run_id, noted.run.why) == ("a\ufffdb", "\ufffd")


def test_locked_table_costs_the_scheduler_one_wait(url, configure_url, monkeypatch):
    """While another program keeps the table locked, the scheduler goes on after its limit; the runs are written afterwards."""
    with Database(url).transaction():
        pass  # makes the tables
    attempts = queue.SimpleQueue()

    def write(runs):
        try:
            _write_into_store(runs)
        finally:
            attempts.put(len(runs))

    monkeypatch.setattr(scheduler, "WAIT_S", 0.2)
    monkeypatch.setattr(scheduler, "PAUSE_S", 0.05)
    writer = Writer(write)
    with Database(url).transaction() as tx:
        if url.get_backend_name() != "sqlite":  # a transaction locks all of a file
            tx.connection.execute(text("LOCK TABLE bzctrl_failed_run IN ACCESS EXCLUSIVE MODE"))
        began = time.monotonic()
        for number in range(100):
            writer.add([replace(RUN, cleared=number)])
        assert time.monotonic() - began < 2
    attempts.get(timeout=30)
    writer.finish()
    with Database(url).transaction() as tx:
        assert failed_runs.count_undecided(tx)[0] == 100
