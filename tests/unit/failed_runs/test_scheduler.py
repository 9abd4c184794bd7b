from __future__ import annotations

import json
import logging
import os
import queue
import threading
import time
from dataclasses import replace
from types import SimpleNamespace

import pytest

from bzctrl_provider.failed_runs import scheduler as module
from bzctrl_provider.failed_runs.scheduler import Writer
from bzctrl_provider.store import failed_runs
from bzctrl_provider.store.database import StoreError
from bzctrl_provider.store.failed_runs import FailedRun

RUN = FailedRun(dag_id="customs", run_id="r", why="task_failure", states={"check": {-1: "failed"}})


class Store:
    """Stand-in of the store: a test lets it fail, or never respond."""

    def __init__(self):
        self.written = []
        self.calls = 0
        self.error = None
        self.responds = threading.Event()
        self.responds.set()
        self.changed = threading.Condition()

    def __call__(self, runs):
        self.responds.wait(10)
        with self.changed:
            self.calls += 1
            self.changed.notify_all()
            if self.error:
                raise self.error
            self.written += [run.run_id for run in runs]

    def wait_for(self, condition):
        with self.changed:
            assert self.changed.wait_for(condition, 10)


@pytest.fixture
def gauges(monkeypatch):
    """Return the values of the gauge, which is set after each line of the log."""
    values = queue.SimpleQueue()
    monkeypatch.setattr(module, "gauge_unwritten", values.put)
    return values


@pytest.fixture
def fake():
    """Return a stand-in of the store."""
    return Store()


@pytest.fixture
def new_writer(fake, gauges):
    """Return a function that makes writers, which end with the test."""
    made = []

    def make(write=fake):
        made.append(Writer(write))
        return made[-1]

    yield make
    fake.error = None
    fake.responds.set()  # so that no thread goes on after the test
    for each in made:
        each.finish()


def run(number):
    return replace(RUN, run_id=str(number))


def test_run_is_in_the_store_when_the_scheduler_goes_on(new_writer, store):
    """It commits the run's state after that, so no committed failure is unknown; the same one twice is one row."""
    writer = new_writer(module._write_into_store)
    for each in (run(1), run(1), run(2)):
        writer.add([each])
        with store.transaction() as tx:
            assert each.run_id in [noted.run.run_id for noted in failed_runs.list_undecided(tx)]
    with store.transaction() as tx:
        assert failed_runs.count_undecided(tx)[0] == 2


def test_runs_of_one_loop_are_written_together(new_writer, fake):
    """The scheduler waits once for all of them."""
    writer = new_writer()
    writer.add(run(number) for number in range(20))
    assert fake.written == [str(number) for number in range(20)]
    assert fake.calls == 1


@pytest.mark.security
def test_store_that_never_responds_costs_the_scheduler_one_wait(
    new_writer, fake, gauges, monkeypatch, caplog
):
    """The first run waits for its limit, a thousand others wait for nothing, and all are written when it responds again."""
    fake.responds.clear()
    monkeypatch.setattr(module, "WAIT_S", 0.05)
    writer = new_writer()
    began = time.monotonic()
    for number in range(1000):
        writer.add([run(number)])
    assert time.monotonic() - began < 1
    assert "Kept in memory until it does: 1." in caplog.text
    assert "did not respond within" in caplog.text
    assert gauges.get() == 1
    assert gauges.empty()
    fake.responds.set()
    fake.wait_for(lambda: len(fake.written) == 1000)
    assert fake.written == [str(number) for number in range(1000)]


@pytest.mark.security
def test_store_that_fails_is_tried_again_and_nobody_waits_meanwhile(
    new_writer, fake, gauges, monkeypatch, caplog
):
    """Each attempt that fails logs how many are kept, and after one that succeeds the scheduler waits for its runs again."""
    fake.error = StoreError("the disk is full")
    monkeypatch.setattr(module, "PAUSE_S", 0.01)
    writer = new_writer()
    for number in range(3):
        writer.add([run(number)])
    assert gauges.get(timeout=10) > 0
    assert "the disk is full" in caplog.text
    fake.error = None
    fake.wait_for(lambda: len(fake.written) == 3)
    while gauges.get(timeout=10):
        pass  # of the attempts before
    writer.add([run(3)])
    assert fake.written == ["0", "1", "2", "3"]


def test_pause_after_a_failure_is_half_a_minute():
    """The store is not tried more often; the scheduler waits one second at most."""
    assert (module.PAUSE_S, module.WAIT_S) == (30, 1)


@pytest.mark.security
def test_memory_is_bounded_and_what_leaves_it_is_logged_whole(new_writer, fake, monkeypatch, caplog):
    """The oldest run leaves it, and a person finds all of it in the log."""
    monkeypatch.setattr(module, "_KEPT", 2)
    fake.error = StoreError("down")
    writer = new_writer()
    for number in range(3):
        writer.add([run(number)])
    (lost,) = [record.getMessage() for record in caplog.records if "was not written" in record.getMessage()]
    assert '"run_id": "0"' in lost
    assert '"states": {"check": {"-1": "failed"}}' in lost


@pytest.mark.parametrize("works_again", [True, False])
def test_clean_stop_writes_what_is_left_or_logs_it_whole(new_writer, fake, caplog, works_again):
    """A scheduler that ends while the store is away loses nothing that it had noted."""
    fake.error = StoreError("down")
    writer = new_writer()
    for number in range(3):
        writer.add([run(number)])
    if works_again:
        fake.error = None
    writer.finish()
    logged = [
        json.loads(record.getMessage().partition(": ")[2])["run_id"]
        for record in caplog.records
        if "was not written" in record.getMessage()
    ]
    assert (fake.written, logged) == ((["0", "1", "2"], []) if works_again else ([], ["0", "1", "2"]))


def test_clean_stop_does_not_wait_for_a_store_that_never_responds(new_writer, fake, monkeypatch, caplog):
    """The scheduler ends in time, and the log has the runs."""
    fake.responds.clear()
    monkeypatch.setattr(module, "WAIT_S", 0.01)
    monkeypatch.setattr(module, "_JOIN_S", 0.05)
    writer = new_writer()
    writer.add([run(1)])
    writer.finish()
    assert '"run_id": "1"' in caplog.text


@pytest.mark.filterwarnings("ignore:.*fork.*:DeprecationWarning")
def test_end_of_a_forked_child_touches_nothing(new_writer, fake, monkeypatch, caplog):
    """A task of the LocalExecutor is a child of the scheduler: what its memory has belongs to the parent."""
    fake.responds.clear()
    monkeypatch.setattr(module, "WAIT_S", 0.01)
    writer = new_writer()
    writer.add([run(1)])
    child = os.fork()
    if not child:
        is_wrong = True
        try:
            writer.finish()
            is_wrong = "was not written" in caplog.text
        finally:
            os._exit(is_wrong)
    _, status = os.waitpid(child, 0)
    assert status == 0
    fake.responds.set()
    fake.wait_for(lambda: fake.written == ["1"])


@pytest.fixture
def beat(monkeypatch):
    """Return a function that runs the thread of the heartbeat until its second pause, and returns the pauses."""
    pauses = []

    def sleep(seconds):
        pauses.append(seconds)
        if len(pauses) == 2:
            raise SystemExit

    def call():
        monkeypatch.setattr(module, "time", SimpleNamespace(sleep=sleep))
        with pytest.raises(SystemExit):
            module._beat()
        return pauses

    return call


def test_heartbeat_is_written_at_once_and_each_minute(beat, store):
    """`bzctrl check` sees the listener before the first failure."""
    assert beat() == [60, 60]
    with store.transaction() as tx:
        assert tx.now - failed_runs.find_heartbeat(tx, "scheduler") < 60


def test_heartbeat_that_cannot_be_written_is_a_warning(beat, monkeypatch, caplog):
    """Nothing is lost by it, and the next one is tried."""

    def fail():
        raise StoreError("down")

    monkeypatch.setattr(module, "database", fail)
    beat()
    assert [record.levelno for record in caplog.records] == [logging.WARNING] * 2
    assert "Skipped the heartbeat of the scheduler: " in caplog.text


def test_heartbeat_begins_in_a_thread_that_does_not_keep_the_process_running(monkeypatch, store):
    """The scheduler goes on at once, and ends when it wants to."""
    began = queue.SimpleQueue()
    monkeypatch.setattr(module, "_beat", lambda: began.put(threading.current_thread().daemon))
    module.begin_heartbeat()
    assert began.get(timeout=10)
