from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from datetime import UTC, datetime, timedelta

import pytest
from fsspec.implementations.memory import MemoryFileSystem

from bzctrl_provider.settings import settings
from bzctrl_provider.spool import Entry, deliver, deliver_soon, identify, replay_spool, runner, write_entry

NOON = datetime(2026, 11, 21, 12, tzinfo=UTC)


@pytest.fixture
def folder(tmp_path, monkeypatch, bzctrl_sandbox):
    """Configure a spool in a local folder, after the sandbox's fixture has set one that cannot be written."""
    path = tmp_path / "spool"
    monkeypatch.setenv("AIRFLOW__BZCTRL__SPOOL_PATH", f"file://{path}")
    settings.cache_clear()
    monkeypatch.setattr(runner, "_budget", runner._Budget())
    return path


@pytest.fixture
def bucket(monkeypatch, bzctrl_sandbox):
    """Configure a spool in an object store, in memory."""
    try:
        from airflow.sdk.io.store import attach
    except ImportError:  # Airflow 2.11
        from airflow.io.store import attach

    fs = MemoryFileSystem()
    fs.store.clear()
    attach(protocol="memory", fs=fs)  # noqa: AIR311 - of that version
    monkeypatch.setenv("AIRFLOW__BZCTRL__SPOOL_PATH", "memory://bucket/spool")
    settings.cache_clear()
    yield fs
    fs.store.clear()


def spool(*numbers):
    for number in numbers:
        entry = Entry(
            fields={
                "todo_type": "INCIDENT",
                "title": f"T{number:02}",
                "description": "It failed.",
                "order_id": f"run {number}",
            },
            bzctrl_conn_id="bzctrl_default",
            identity=identify(number),
            spooled_at=NOON + timedelta(seconds=number),
            facts={
                "dag_id": f"dag_{number:02}",
                "run_id": "r",
                "what": "run",
                "reason": "the warehouse is down",
            },
        )
        write_entry(entry)


def titles(sandbox):
    return [todo["title"] for todo in sandbox.todos]


def waiting(folder):
    return sorted(path.name for path in folder.glob("*.json"))


@pytest.mark.parametrize("where", ["folder", "bucket"])
def test_delivery_of_many_makes_one_request_each_and_one_for_the_token(
    request, where, bzctrl_sandbox, monkeypatch
):
    """Twenty incidents are twenty-one requests, and nothing is left but tombstones."""
    request.getfixturevalue(where)
    spool(*range(1, 21))
    result = deliver()
    assert sorted(titles(bzctrl_sandbox)) == [f"T{number:02}" for number in range(1, 21)]
    assert len(bzctrl_sandbox.requests) == 21
    links = {todo["key"]: todo["taskLink"] for todo in bzctrl_sandbox.todos}
    assert {created["key"]: created["link"] for created in result.created} == links
    spool(1)  # as a callback that is called again
    assert deliver().as_dict() == {"created": [], "kept": [], "rejected": [], "busy": False}
    assert len(bzctrl_sandbox.requests) == 21


@pytest.mark.parametrize("where", ["folder", "bucket"])
def test_delivery_of_a_storm_makes_two_requests(request, where, bzctrl_sandbox):
    """Sixty incidents are one summary that names each, and the order id is that of the storm."""
    request.getfixturevalue(where)
    spool(*range(1, 61))
    (created,) = deliver().created
    assert len(bzctrl_sandbox.requests) == 2
    (todo,) = bzctrl_sandbox.todos
    assert todo["title"].startswith("60 DAG runs failed within 1 min (dag_01, dag_02")
    assert "60 times: the warehouse is down" in todo["description"]
    assert all(f"- dag_{number:02} r" in todo["description"] for number in range(1, 61))
    assert todo["orderID"].startswith("storm-20261121T120001Z-")
    assert created["link"] == todo["taskLink"]


DELIVERIES = """
import json, os, signal, sys
from bzctrl_provider.settings import settings
from bzctrl_provider.spool import folder, replay_spool, sender

kill = lambda: os.kill(os.getpid(), signal.SIGKILL)
create, write, remove = sender.Sender.create_todos, folder.Folder.write, folder.Folder.remove
for line in sys.stdin:
    order = json.loads(line)
    child = os.fork()
    if child == 0:
        os.environ.update(order["environment"])
        settings.cache_clear()
        exec(order["patch"])
        replay_spool()
        os._exit(0)
    print("status", os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]), flush=True)
"""
"""Runs deliveries, each in a process of its own that is killed where the patch says so."""


@pytest.fixture(scope="module")
def deliveries():
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


KILLED = {
    "before the attempt is noted": (
        "def patched(self, path, content):\n"
        "    if path == '.attempt.json': kill()\n    write(self, path, content)\n"
        "folder.Folder.write = patched"
    ),
    "before the request": "sender.Sender.create_todos = lambda self, todos: kill()",
    "after the request": (
        "def patched(self, todos):\n    create(self, todos)\n    kill()\nsender.Sender.create_todos = patched"
    ),
    "before the tombstone": (
        "def patched(self, path, content):\n"
        "    if path.startswith('delivered/'): kill()\n    write(self, path, content)\n"
        "folder.Folder.write = patched"
    ),
    "after the first tombstone": (
        "def patched(self, path, content):\n"
        "    write(self, path, content)\n"
        "    if path.startswith('delivered/'): kill()\n"
        "folder.Folder.write = patched"
    ),
    "before the delete": "folder.Folder.remove = lambda self, path: kill()",
    "before the end of the attempt": (
        "def patched(self, path):\n"
        "    if path == '.attempt.json': kill()\n    remove(self, path)\n"
        "folder.Folder.remove = patched"
    ),
}
WITHOUT_DUPLICATES = {
    "before the attempt is noted",
    "before the request",
    "after the first tombstone",
    "before the delete",
    "before the end of the attempt",
}


@pytest.mark.parametrize("count", [1, 25], ids=["one", "storm"])
@pytest.mark.parametrize("step", KILLED)
def test_delivery_killed_by_sigkill_creates_each_once_or_marked(
    folder, bzctrl_sandbox, deliveries, step, count
):
    """A process that the kernel ends at this step loses nothing; a second todo says that it may be a duplicate."""
    spool(*range(1, count + 1))
    assert deliver_and_die(deliveries, KILLED[step]) == -signal.SIGKILL
    deliver()
    assert waiting(folder) == []
    assert len(list((folder / "delivered").glob("*.json"))) >= count
    first, *others = bzctrl_sandbox.todos
    assert len(others) == (0 if step in WITHOUT_DUPLICATES else 1)
    for other in others:
        assert other["orderID"] == first["orderID"]
        assert "had no response, so this may be a duplicate." in other["description"]
    # Sent or not, nobody can know: the note is there, too.
    assert ("may be a duplicate" in first["description"]) == (step == "before the request")


def test_delivery_killed_at_any_time_creates_each_once_or_marked(folder, bzctrl_sandbox, deliveries):
    """Deliveries are killed after times that nobody chose; the last one delivers what is left."""
    spool(*range(1, 19))
    for delay_s in (0.02, 0.04, 0.06, 0.1, 0.2):
        deliver_and_die(deliveries, f"import threading; threading.Timer({delay_s}, kill).start()")
    replay_spool()
    assert waiting(folder) == []
    seen = set()
    for todo in bzctrl_sandbox.todos:
        assert todo["orderID"] not in seen or "may be a duplicate" in todo["description"]
        seen.add(todo["orderID"])
    assert len(seen) == 18


def test_deliveries_of_two_processes_create_each_once(folder, bzctrl_sandbox):
    """The lock of the folder keeps the second one out until the first has ended."""
    spool(*range(1, 21))
    code = (
        "import json, sys\n"
        "from bzctrl_provider.spool import deliver\n"
        "from bzctrl_provider.hooks.bzctrl import BzCtrlHook\n"
        "BzCtrlHook().get_conn()\n"
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
    assert sorted(titles(bzctrl_sandbox)) == [f"T{number:02}" for number in range(1, 21)]
    assert sorted(len(result["created"]) for result in results) == [0, 20]


def test_delivery_with_faults_keeps_and_rejects_the_right_entries(folder, bzctrl_sandbox):
    """All others are created; the next delivery creates what was kept, with a note where it is due."""
    spool(*range(1, 4))
    bzctrl_sandbox.fail_next(500)
    bzctrl_sandbox.fail_next("reset_after")
    bzctrl_sandbox.fail_next(422)
    result = replay_spool(clock=lambda: NOON + timedelta(hours=1))
    assert (len(result.created), len(result.kept), len(result.rejected)) == (0, 2, 1)
    (rejected,) = (folder / "rejected").glob("*.json")
    assert "422" in json.loads(rejected.read_text())["reason"]
    assert len(replay_spool().created) == 2
    note = "An attempt at 2026-11-21T13:00:00Z had no response, so this may be a duplicate."
    assert [todo["description"].splitlines()[-1] for todo in bzctrl_sandbox.todos[-2:]] == [note, note]
    rejected.rename(folder / rejected.name)  # by hand
    assert len(replay_spool().created) == 1


def test_delivery_with_refused_credentials_makes_one_request(folder, bzctrl_sandbox):
    """Twenty entries, one refused token request, and none within the next minute: the account is not locked."""
    spool(*range(1, 21))
    bzctrl_sandbox.fail_next(401, on="token", times=2)
    assert len(deliver().kept) == 20
    requests = len(bzctrl_sandbox.requests)
    assert requests <= 2
    assert len(deliver().kept) == 20
    assert deliver_soon() == {}
    assert len(bzctrl_sandbox.requests) == requests
    bzctrl_sandbox.reset()
    assert len(replay_spool().created) == 20


def test_delivery_with_strange_files_ends_and_delivers_the_others(folder, bzctrl_sandbox, caplog):
    """A FIFO, a folder, a link, a huge and a damaged file under the names of entries."""
    spool(1)
    os.mkfifo(folder / "fifo.json")
    (folder / "folder.json").mkdir()
    (folder / "link.json").symlink_to("/dev/zero")
    (folder / "dangling.json").symlink_to("nowhere")
    with (folder / "huge.json").open("wb") as huge:
        huge.truncate(1024**4)
    (folder / "damaged.json").write_text("{")
    (folder / "notes.txt").write_text("of somebody")
    result = deliver()
    assert titles(bzctrl_sandbox) == ["T01"]
    assert sorted(kept["file"].rpartition("/")[2] for kept in result.kept) == [
        "dangling.json",
        "fifo.json",
        "folder.json",
        "huge.json",
        "link.json",
    ]
    assert [rejected["file"] for rejected in result.rejected] == [f"file://{folder}/rejected/damaged.json"]
    assert (folder / "rejected" / "damaged.json").read_text() == "{"
    assert "not JSON" in (folder / "rejected" / "damaged.json.reason.txt").read_text()


def test_deliver_soon_returns_what_it_created(folder, bzctrl_sandbox):
    """A task's callback that has delivered its own incident can show the link."""
    spool(1, 2)
    created = deliver_soon()
    assert {identity: todo["key"] for identity, todo in created.items()} == {
        identify(number): bzctrl_sandbox.todos[number - 1]["key"] for number in (1, 2)
    }
    assert waiting(folder) == []


def test_deliver_soon_with_a_silent_bzctrl_ends_in_time_and_is_not_repeated(
    folder, bzctrl_sandbox, monkeypatch
):
    """It takes no longer than its time, the next one returns at once, and the entry is created without a note."""
    spool(1)
    bzctrl_sandbox.fail_next("slow", on="token", delay_s=20, times=10)
    began = time.monotonic()
    assert deliver_soon(limit_s=1.0) == {}
    assert time.monotonic() - began < 2.5
    requests = len(bzctrl_sandbox.requests)
    spool(2)
    began = time.monotonic()
    assert deliver_soon() == {}
    assert time.monotonic() - began < 0.3
    assert len(bzctrl_sandbox.requests) == requests
    bzctrl_sandbox.reset()
    replay_spool()
    assert [todo["description"] for todo in bzctrl_sandbox.todos] == ["It failed."] * 2
