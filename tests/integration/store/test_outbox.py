from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time

import pytest
from sqlalchemy import update
from support.outbox import add, new_incident, read, wipe

from bzctrl_provider.outbox import deliver, deliver_soon, runner
from bzctrl_provider.settings import settings
from bzctrl_provider.store import schema
from bzctrl_provider.store.database import database


@pytest.fixture
def store(url, monkeypatch, bzctrl_sandbox):
    """Configure an empty store, and BzCtrl's sandbox as the connection."""
    monkeypatch.setenv("AIRFLOW__BZCTRL__DATABASE", url.render_as_string(hide_password=False))
    settings.cache_clear()
    monkeypatch.setattr(runner, "budget", runner.Budget())
    return database()


def write(store, *numbers):
    facts = {"run_id": "r", "what": "run", "reason": "the warehouse is down"}
    for number in numbers:
        add(store, number, conn_id="bzctrl_default", facts={"dag_id": f"dag_{number}", **facts})


def titles(sandbox):
    return [todo["title"] for todo in sandbox.todos]


def end_lease(store):
    """Let the time of the lease pass that a killed process has left."""
    with store.transaction() as tx:
        tx.connection.execute(update(schema.lease).values(until=0.0))


def test_delivery_of_many_makes_one_request_each_and_one_for_the_token(store, bzctrl_sandbox):
    """Twenty incidents are twenty-one requests, and a second delivery makes none."""
    write(store, *range(1, 21))
    result = deliver()
    assert sorted(titles(bzctrl_sandbox)) == [f"T{number:03}" for number in range(1, 21)]
    assert len(bzctrl_sandbox.requests) == 21
    links = {todo["key"]: todo["taskLink"] for todo in bzctrl_sandbox.todos}
    assert {created["key"]: created["link"] for created in result.created} == links
    assert {one.key: one.link for one in read(store, "delivered")} == links
    write(store, 1)  # as a callback that is called again
    assert deliver().as_dict() == {"created": [], "kept": [], "rejected": [], "busy": False}
    assert len(bzctrl_sandbox.requests) == 21


def test_delivery_of_a_storm_makes_two_requests(store, bzctrl_sandbox):
    """Sixty incidents are one summary that names each, and the order id is that of the storm."""
    write(store, *range(1, 61))
    (created,) = deliver().created
    assert len(bzctrl_sandbox.requests) == 2
    (todo,) = bzctrl_sandbox.todos
    assert todo["title"].startswith("60 DAG runs failed within 59 min (dag_1, dag_2")
    assert "60 times: the warehouse is down" in todo["description"]
    assert all(f"- dag_{number} r" in todo["description"] for number in range(1, 61))
    assert todo["orderID"].startswith("storm-20270115T070100Z-")
    assert created["link"] == todo["taskLink"]


DELIVERIES = """
import json, os, signal, sys
from bzctrl_provider.outbox import deliver, runner
from bzctrl_provider.settings import settings
from bzctrl_provider.store import incidents

kill = lambda *_, **__: os.kill(os.getpid(), signal.SIGKILL)
create, note_created = runner.BzCtrlSender.create_todos, incidents.note_created
for line in sys.stdin:
    order = json.loads(line)
    child = os.fork()
    if child == 0:
        os.environ.update(order["environment"])
        settings.cache_clear()
        exec(order["patch"])
        deliver(ignore_pauses=True)
        os._exit(0)
    print("status", os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]), flush=True)
"""
"""Runs deliveries, each in a process of its own that is killed where the patch says so."""


@pytest.fixture(scope="module")
def killed_deliveries():
    """Start the process that runs deliveries; forked, because a new Python needs seconds."""
    process = subprocess.Popen(
        [sys.executable, "-W", "ignore", "-c", DELIVERIES],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )
    yield process
    process.stdin.close()
    process.stdout.close()
    process.wait(timeout=30)


def deliver_and_die(process, patch):
    """Run a delivery with a patch, and return how its process ended."""
    environment = {name: value for name, value in os.environ.items() if name.startswith("AIRFLOW")}
    print(json.dumps({"environment": environment, "patch": patch}), file=process.stdin, flush=True)
    while not (line := process.stdout.readline()).startswith("status"):
        assert line, "the process that runs deliveries has ended"
    return int(line.split()[1])


KILLED = [
    # where, the patch, the number of todos, whether the first of them has the note
    ("before the attempt is noted", "incidents.note_sending = kill", 1, False),
    ("before the request", "runner.BzCtrlSender.create_todos = kill", 1, True),
    (
        "after the request",
        "def patched(self, todos):\n    create(self, todos)\n    kill()\nrunner.BzCtrlSender.create_todos = patched",
        2,
        False,
    ),
    (
        "before the commit of the outcome",
        "def patched(*row, **values):\n    note_created(*row, **values)\n    kill()\nincidents.note_created = patched",
        2,
        False,
    ),
    ("after the commit of the outcome", "incidents.prune = kill", 1, False),
]


def test_delivery_killed_by_sigkill_creates_each_once_or_marked(store, bzctrl_sandbox, killed_deliveries):
    """A process that the kernel ends at this step loses nothing; a second todo says that it may be a duplicate."""
    for count in (1, 25):
        for where, patch, number, is_first_noted in KILLED:
            wipe(store)
            bzctrl_sandbox.reset()
            write(store, *range(1, count + 1))
            assert deliver_and_die(killed_deliveries, patch) == -signal.SIGKILL, where
            assert deliver().busy, "others wait until the lease of a killed process ends by its time"
            end_lease(store)
            deliver()
            assert {one.state for one in read(store)} == {"delivered"}, where
            first, *others = bzctrl_sandbox.todos
            assert len(others) == number - 1, where
            for other in others:
                assert other["orderID"] == first["orderID"]
                assert "had no response, so this may be a duplicate." in other["description"]
            assert ("may be a duplicate" in first["description"]) is is_first_noted, where


def test_delivery_killed_at_any_time_creates_each_once_or_marked(store, bzctrl_sandbox, killed_deliveries):
    """Deliveries are killed after times that nobody chose; the last one delivers what is left."""
    write(store, *range(1, 19))
    for delay_s in (0.02, 0.04, 0.06, 0.1, 0.2):
        deliver_and_die(killed_deliveries, f"import threading; threading.Timer({delay_s}, kill).start()")
        end_lease(store)
    deliver(ignore_pauses=True)
    assert {one.state for one in read(store)} == {"delivered"}
    seen = set()
    for todo in bzctrl_sandbox.todos:
        assert todo["orderID"] not in seen or "may be a duplicate" in todo["description"]
        seen.add(todo["orderID"])
    assert len(seen) == 18


def test_deliveries_of_two_processes_create_each_once(store, bzctrl_sandbox):
    """The lease keeps the second one out until the first has ended."""
    write(store, *range(1, 21))
    code = (
        "import json, sys\n"
        "from bzctrl_provider.outbox import deliver, runner\n"
        "print('ready', flush=True)\n"
        "sys.stdin.readline()\n"
        "print(json.dumps(deliver().as_dict()))\n"
    )
    processes = [
        subprocess.Popen(
            [sys.executable, "-W", "ignore", "-c", code],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        for _ in range(2)
    ]
    for process in processes:
        while process.stdout.readline() != "ready\n":
            assert process.poll() is None
    for process in processes:
        process.stdin.write("go\n")
        process.stdin.flush()
    results = [json.loads(process.communicate(timeout=60)[0].splitlines()[-1]) for process in processes]
    assert sorted(titles(bzctrl_sandbox)) == [f"T{number:03}" for number in range(1, 21)]
    assert sorted(len(result["created"]) for result in results) == [0, 20]


def test_delivery_with_faults_keeps_and_rejects_the_right_incidents(store, bzctrl_sandbox):
    """All others are created; the next delivery creates what was kept, with a note where it is due."""
    write(store, 1, 2, 3)
    for fault in (500, "reset_after", 422):
        bzctrl_sandbox.fail_next(fault)
    result = deliver()
    assert (len(result.created), len(result.kept), len(result.rejected)) == (0, 2, 1)
    (rejected,) = read(store, "rejected")
    assert "422" in rejected.reason
    assert len(deliver(ignore_pauses=True).created) == 2
    for todo in bzctrl_sandbox.todos[-2:]:
        assert todo["description"].splitlines()[-1].endswith("had no response, so this may be a duplicate.")


def test_delivery_with_refused_credentials_makes_one_request(store, bzctrl_sandbox):
    """Twenty incidents, one refused token request, and none within the next minute: the account is not locked."""
    write(store, *range(1, 21))
    bzctrl_sandbox.fail_next(401, on="token", times=2)
    assert len(deliver().kept) == 20
    requests = len(bzctrl_sandbox.requests)
    assert requests <= 2
    assert len(deliver().kept) == 20
    assert deliver_soon() == {}
    assert len(bzctrl_sandbox.requests) == requests
    bzctrl_sandbox.reset()
    assert len(deliver(ignore_pauses=True).created) == 20


def test_deliver_soon_returns_what_it_created(store, bzctrl_sandbox):
    """A task's callback that has delivered its own incident can show the link."""
    write(store, 1, 2)
    created = deliver_soon()
    assert {identity: todo["key"] for identity, todo in created.items()} == {
        new_incident(number, conn_id="bzctrl_default").identity: bzctrl_sandbox.todos[number - 1]["key"]
        for number in (1, 2)
    }
    assert not read(store, "waiting", "sending")


def test_deliver_soon_with_a_silent_bzctrl_ends_in_time_and_is_not_repeated(store, bzctrl_sandbox):
    """It takes no longer than its time, the next one returns at once, and the incident is created without a note."""
    write(store, 1)
    bzctrl_sandbox.fail_next("slow", on="token", delay_s=20, times=10)
    began = time.monotonic()
    assert deliver_soon(limit_s=1.0) == {}
    assert time.monotonic() - began < 2.5
    requests = len(bzctrl_sandbox.requests)
    write(store, 2)
    began = time.monotonic()
    assert deliver_soon() == {}
    assert time.monotonic() - began < 1
    assert len(bzctrl_sandbox.requests) == requests
    bzctrl_sandbox.reset()
    deliver(ignore_pauses=True)
    assert [todo["description"] for todo in bzctrl_sandbox.todos] == ["It failed."] * 2
