"""Deliveries that are killed, that begin at the same moment, or that stop for longer than their lease, on both databases.

``BZCTRL_WAKE_ROUNDS`` is how often a number of processes writes at the same moment.
"""

from __future__ import annotations

import contextlib
import itertools
import json
import os
import secrets
import signal
import time
from collections import Counter

import pytest
from sqlalchemy import update
from support.cluster import RUN, wait_for

from bzctrl_provider.outbox import delivery, identify, runner, writer
from bzctrl_provider.outbox.runner import BzCtrlSender
from bzctrl_provider.settings import settings
from bzctrl_provider.store import incidents, schema
from bzctrl_provider.store.database import Database, StoreError, database
from bzctrl_provider.store.incidents import Incident

ROUNDS = int(os.environ.get("BZCTRL_WAKE_ROUNDS", "1"))
STORM = 25


@pytest.fixture(params=["sqlite", "postgresql"])
def new_store(request, monkeypatch, tmp_path, bzctrl_sandbox):
    """Return a function that gives the provider an empty database."""

    def new():
        name = f"bzctrl_{secrets.token_hex(4)}"
        url = f"sqlite:///{tmp_path / name}.db"
        if request.param == "postgresql":
            cluster = request.getfixturevalue("postgres")
            cluster.new_database(name)
            url = cluster.database.rpartition("/")[0] + f"/{name}"
        monkeypatch.setenv("AIRFLOW__BZCTRL__DATABASE", url)
        settings.cache_clear()
        bzctrl_sandbox.reset()
        return database()

    return new


def make(number):
    fields = {
        "title": f"Check {number}",
        "description": "d",
        "todo_type": "INCIDENT",
        "order_id": f"{number}",
    }
    facts = {"what": "run", "dag_id": f"dag_{number}", "run_id": "run"}
    return Incident(identity=identify(number), bzctrl_conn_id="bzctrl_default", fields=fields, facts=facts)


def fork(function, *arguments):
    """Call a function in a process of its own, and return the id of that."""
    if pid := os.fork():
        return pid
    code = 1
    try:
        function(*arguments)
        code = 0
    finally:
        os._exit(code)


def wait_for_exit(pid, *, seconds=60):
    """Return the status of a process, which is killed if it takes too long."""
    ends_at = time.monotonic() + seconds
    while time.monotonic() < ends_at:
        ended, status = os.waitpid(pid, os.WNOHANG)
        if ended:
            return status
        time.sleep(0.005)
    os.kill(pid, signal.SIGKILL)
    os.waitpid(pid, 0)
    raise AssertionError(f"a process took more than {seconds} s")


def expire_lease(store):
    """Let the minute pass after which others deliver in place of a killed process."""
    with store.transaction() as tx:
        tx.connection.execute(update(schema.lease).values(until=0.0))


def deliver_until_killed(step):
    """Deliver, and die at the given step: before and after each request, and at the begin, commit and end of each transaction."""
    left = itertools.count(step, -1)

    def count():
        if next(left) == 0:
            os.kill(os.getpid(), signal.SIGKILL)

    transaction, create_todos = Database.transaction, BzCtrlSender.create_todos

    @contextlib.contextmanager
    def counted_transaction(self):
        count()
        with transaction(self) as tx:
            yield tx
            count()
        count()

    def counted_create(self, todos):
        count()
        created = create_todos(self, todos)
        count()
        return created

    Database.transaction, BzCtrlSender.create_todos = counted_transaction, counted_create
    runner.deliver()


def todos_of(sandbox, number):
    """Return the todos that represent an incident."""
    return [
        todo
        for todo in sandbox.todos
        if f"dag_{number} run" in todo["description"] or todo["orderID"] == f"{number}"
    ]


@pytest.mark.parametrize("number", [1, STORM])
def test_delivery_killed_at_each_step_is_finished_by_the_next(new_store, bzctrl_sandbox, number):
    """Each incident is one todo, or a second one says that it may be a duplicate, for one entry and for a storm."""
    twice = 0
    for step in itertools.count():
        store = new_store()
        for one in range(number):
            writer.write(make(one))
        status = wait_for_exit(fork(deliver_until_killed, step))
        if status == 0:
            break
        assert os.WTERMSIG(status) == signal.SIGKILL
        expire_lease(store)
        runner.deliver()
        with store.transaction() as tx:
            assert {one.state for one in incidents.list_of(tx, "waiting", "sending", "delivered")} == {
                "delivered"
            }
        for one in range(number):
            found = todos_of(bzctrl_sandbox, one)
            assert len(found) in (1, 2), (step, found)
            assert "may be a duplicate" not in found[0]["description"] or len(found) == 1
            assert all("may be a duplicate" in todo["description"] for todo in found[1:])
        twice += len(bzctrl_sandbox.todos) - 1
    assert step > 10
    assert twice == 3, (
        "only between a request and the commit of its outcome: twice in the step before it, and in its commit"
    )
    with (RUN / "killed.txt").open("a") as file:
        file.write(f"{store} {number}: {step} steps, {twice} marked duplicates\n")


def deliver_into(file):
    file.write_text(json.dumps(runner.deliver().as_dict()))


def test_two_deliveries_at_the_same_moment_send_each_todo_once(
    new_store, bzctrl_sandbox, monkeypatch, tmp_path
):
    """The second one finds the first at work, and does nothing; of several rounds each todo is there once."""
    monkeypatch.setenv("AIRFLOW__BZCTRL__GROUP_ABOVE", "0")
    busy = 0
    for _ in range(10):
        new_store()
        for one in range(40):
            writer.write(make(one))
        bzctrl_sandbox.fail_randomly(1, faults=["slow"], delay_s=0.05)
        files = [tmp_path / "first.json", tmp_path / "second.json"]
        for pid in [fork(deliver_into, file) for file in files]:
            assert wait_for_exit(pid) == 0
        results = [json.loads(file.read_text()) for file in files]
        busy += sum(result["busy"] for result in results)
        assert sum(len(result["created"]) for result in results) == 40
        assert Counter(todo["orderID"] for todo in bzctrl_sandbox.todos) == {f"{one}": 1 for one in range(40)}
    assert busy > 0


def stop_between_transactions(pid):
    """Stop a process, but not while it keeps the file of SQLite locked: nobody could use it then."""
    while True:
        os.kill(pid, signal.SIGSTOP)
        # A new one each time: after an error, a store is closed for a while.
        store = Database(settings().database, timeout_s=1)
        with contextlib.suppress(StoreError), store.transaction():
            return
        os.kill(pid, signal.SIGCONT)
        time.sleep(0.05)  # for its commit


def test_delivery_that_stops_for_longer_than_its_lease_leaves_marked_todos(
    new_store, bzctrl_sandbox, monkeypatch
):
    """A process that a machine stops loses its lease; the delivery by hand marks what it was sending, and it sends nothing more."""
    monkeypatch.setenv("AIRFLOW__BZCTRL__GROUP_ABOVE", "0")
    for module in (delivery, runner):
        monkeypatch.setattr(module, "LEASE_S", 1.0)
    store = new_store()
    for one in range(50):
        writer.write(make(one))
    bzctrl_sandbox.fail_randomly(1, faults=["slow"], delay_s=1.5)
    pid = fork(runner.deliver)
    wait_for("the first requests", lambda: bzctrl_sandbox.todos, seconds=30)
    stop_between_transactions(pid)
    bzctrl_sandbox.fail_randomly(0)
    try:
        result = wait_for(
            "the lease's end",
            lambda: not (again := runner.deliver(ignore_pauses=True)).busy and again,
            seconds=30,
        )
        assert len(result.created) == 50
    finally:
        os.kill(pid, signal.SIGCONT)
    assert wait_for_exit(pid) == 0
    with store.transaction() as tx:
        assert incidents.count(tx, "delivered")[0] == 50
    for one in range(50):
        found = todos_of(bzctrl_sandbox, one)
        unmarked = [todo for todo in found if "may be a duplicate" not in todo["description"]]
        assert len(found) >= 1
        assert len(unmarked) <= 1, found


def write_and_deliver(number, go):
    os.read(go, 1)
    writer.write(make(number))
    runner.deliver_soon()


@pytest.mark.parametrize("delay_s", [0, 2])
@pytest.mark.parametrize("number", [2, 4, 20])
def test_processes_that_write_at_the_same_moment_leave_nothing_waiting(
    new_store, bzctrl_sandbox, number, delay_s
):
    """Each incident is one todo when the last of the processes has ended, within 30 s, in each round."""
    slowest_s = 0.0
    for _ in range(ROUNDS):
        store = new_store()
        if delay_s:
            bzctrl_sandbox.fail_randomly(1, faults=["slow"], delay_s=delay_s)
        ready, go = os.pipe()
        pids = [fork(write_and_deliver, one, ready) for one in range(number)]
        began_at = time.monotonic()
        os.write(go, b"." * number)
        for pid in pids:
            assert wait_for_exit(pid) == 0
        slowest_s = max(slowest_s, time.monotonic() - began_at)
        os.close(ready)
        os.close(go)
        with store.transaction() as tx:
            assert incidents.count(tx, "waiting", "sending")[0] == 0
        assert Counter(todo["orderID"] for todo in bzctrl_sandbox.todos) == {
            f"{one}": 1 for one in range(number)
        }
    with (RUN / "wakes.txt").open("a") as file:
        file.write(
            f"{store} {number} processes, {delay_s} s a todo: the slowest of {ROUNDS} rounds took {slowest_s:.1f} s\n"
        )
    assert slowest_s < 30
