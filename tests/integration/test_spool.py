from __future__ import annotations

import json
import runpy
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime, timedelta
from pathlib import Path
from threading import Barrier

import pytest
from airflow.providers.common.compat.sdk import AirflowSkipException
from fsspec.implementations.memory import MemoryFileSystem

from bzctrl_provider.spool import replay_spool, spool_todo

EXAMPLE = Path(__file__).parents[2] / "dags_examples" / "replay_spool.py"
NOON = datetime(2026, 11, 21, 12, tzinfo=UTC)


@pytest.fixture
def folder(tmp_path, monkeypatch):
    """Configure a spool in a local folder."""
    path = tmp_path / "spool"
    monkeypatch.setenv("AIRFLOW__BZCTRL__SPOOL_PATH", f"file://{path}")
    return path


@pytest.fixture
def bucket(monkeypatch):
    """Configure a spool in an object store, in memory."""
    try:
        from airflow.sdk.io.store import attach
    except ImportError:  # Airflow 2.11
        from airflow.io.store import attach

    fs = MemoryFileSystem()
    fs.store.clear()
    attach(protocol="memory", fs=fs)  # noqa: AIR311 - of that version
    monkeypatch.setenv("AIRFLOW__BZCTRL__SPOOL_PATH", "memory://bucket/spool")
    yield fs
    fs.store.clear()


def spool(number=1):
    return spool_todo(
        {
            "todo_type": "INCIDENT",
            "title": f"T{number:02}",
            "description": "It failed.",
            "order_id": f"run {number}",
        },
        bzctrl_conn_id="bzctrl_default",
        reason="BzCtrl was down",
        now=NOON + timedelta(seconds=number),
    )


def titles(sandbox):
    return [todo["title"] for todo in sandbox.todos]


def expected(count=20):
    return [f"T{number:02}" for number in range(1, count + 1)]


def test_two_replays_in_threads_create_each_todo_once(folder, bzctrl_sandbox):
    """Together they create all twenty, and both do a part of the work."""
    files = [spool(number) for number in range(1, 21)]
    barrier = Barrier(2)

    def replay(_):
        barrier.wait()
        return replay_spool()

    with ThreadPoolExecutor(2) as pool:
        results = list(pool.map(replay, range(2)))
    assert sorted(titles(bzctrl_sandbox)) == expected()
    created = [entry for result in results for entry in result.created]
    assert sorted(entry["file"] for entry in created) == files
    assert {entry["key"] for entry in created} == {todo["key"] for todo in bzctrl_sandbox.todos}
    assert [result.kept for result in results] == [[], []]
    assert list(folder.iterdir()) == []


def test_replays_in_processes_create_each_todo_once(folder, bzctrl_sandbox):
    """As two machines with a disk in common would; each tells what it created, and nothing is left."""
    for number in range(1, 21):
        spool(number)
    code = (
        "import json, sys\n"
        "from bzctrl_provider.spool import replay_spool\n"
        "from bzctrl_provider.hooks.bzctrl import BzCtrlHook\n"
        "BzCtrlHook().get_conn()\n"
        "print('ready', flush=True)\n"
        "sys.stdin.readline()\n"
        "print(json.dumps(replay_spool().as_dict()))\n"
    )
    replays = [
        subprocess.Popen(
            [sys.executable, "-W", "ignore", "-c", code],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        for _ in range(2)
    ]
    for process in replays:
        while process.stdout.readline() != "ready\n":
            assert process.poll() is None
    for process in replays:
        process.stdin.write("go\n")
        process.stdin.flush()
    results = [json.loads(process.communicate(timeout=60)[0].splitlines()[-1]) for process in replays]
    assert sorted(titles(bzctrl_sandbox)) == expected()
    assert sum(len(result["created"]) for result in results) == 20
    assert [result["kept"] for result in results] == [[], []]
    assert list(folder.iterdir()) == []


def test_a_killed_replay_leaves_a_claim_that_tells_of_the_duplicate(folder, bzctrl_sandbox):
    """The todo was created, the process was killed before it could delete the file; an hour later it is made again."""
    spool()
    code = (
        "import os\n"
        "from bzctrl_provider.spool import replay_spool, store\n"
        "store._Folder.remove = lambda *_: os._exit(9)\n"
        "replay_spool()\n"
    )
    killed = subprocess.run([sys.executable, "-W", "ignore", "-c", code], check=False)
    assert killed.returncode == 9
    assert titles(bzctrl_sandbox) == ["T01"]
    assert replay_spool().as_dict() == {"created": [], "kept": []}
    later = datetime.now(UTC) + timedelta(hours=1, minutes=1)
    assert len(replay_spool(clock=lambda: later).created) == 1
    first, second = (todo["description"] for todo in bzctrl_sandbox.todos)
    assert first == "It failed."
    assert second.endswith("had no response, so this may be a duplicate.")


@pytest.mark.parametrize("where", ["folder", "bucket"])
def test_faults_keep_the_right_files_with_their_reasons(request, where, bzctrl_sandbox, monkeypatch):
    """All others are created in their order; the next replay creates what was kept, with a note where it is due."""
    monkeypatch.setattr("bzctrl_provider.client.deadline.Deadline.wait", lambda *args, **kwargs: None)
    request.getfixturevalue(where)
    files = [spool(number) for number in range(1, 7)]
    bzctrl_sandbox.fail_next(500)
    bzctrl_sandbox.fail_next("reset_after")
    bzctrl_sandbox.fail_next(429, times=3)
    bzctrl_sandbox.fail_next(422)
    result = replay_spool(clock=lambda: NOON + timedelta(hours=1))
    assert [kept["file"] for kept in result.kept] == files[:4]
    for kept, reason in zip(
        result.kept, ("500", "no answer|no whole answer|reset|broke", "429", "422"), strict=True
    ):
        assert any(word in kept["reason"] for word in reason.split("|")), kept["reason"]
    assert [entry["file"] for entry in result.created] == files[4:]
    # One of them was created after all, which nobody could know.
    assert titles(bzctrl_sandbox) == ["T02", "T05", "T06"]

    assert [entry["file"] for entry in replay_spool().created] == files[:4]
    note = "An attempt at 2026-11-21T13:00:00Z had no response, so this may be a duplicate."
    assert [(todo["title"], todo["description"].splitlines()[-1]) for todo in bzctrl_sandbox.todos[3:]] == [
        ("T01", note),
        ("T02", note),
        ("T03", "It failed."),
        ("T04", "It failed."),
    ]
    assert replay_spool().as_dict() == {"created": [], "kept": []}


def test_a_refused_account_gets_no_second_request(folder, bzctrl_sandbox):
    """Twenty files, one refused token request: the account is not locked, and nothing is lost."""
    for number in range(1, 21):
        spool(number)
    bzctrl_sandbox.fail_next(401, on="token")
    result = replay_spool()
    assert len(result.kept) == 20
    assert len(bzctrl_sandbox.requests) == 1
    assert len(replay_spool().created) == 20
    assert titles(bzctrl_sandbox) == expected()


def test_a_broken_connection_is_told_and_nothing_is_sent(folder, bzctrl_sandbox, monkeypatch):
    """The files are kept as they are."""
    spool()
    with monkeypatch.context() as patched:
        patched.setenv("AIRFLOW_CONN_BZCTRL_DEFAULT", '{"conn_type": "bzctrl"}')
        (kept,) = replay_spool().kept
    assert "BzCtrlConfigError" in kept["reason"]
    assert bzctrl_sandbox.requests == []
    assert len(replay_spool().created) == 1


def test_a_replay_while_bzctrl_is_down_asks_once(folder, bzctrl_sandbox, monkeypatch):
    """It does not wait for each of the files."""
    monkeypatch.setattr("bzctrl_provider.client.deadline.Deadline.wait", lambda *args, **kwargs: None)
    for number in range(1, 4):
        spool(number)
    with monkeypatch.context() as patched:
        connection = {
            "conn_type": "bzctrl",
            "host": "http://127.0.0.1:1",
            "login": "u@example.com",
            "password": "made-up-password",
            "extra": {"domain_workspace": "EXA-CON-BUS-WOR"},
        }
        patched.setenv("AIRFLOW_CONN_BZCTRL_DEFAULT", json.dumps(connection))
        result = replay_spool()
    assert "BzCtrlTransportError" in result.kept[0]["reason"]
    assert [kept["reason"].startswith("Not tried.") for kept in result.kept] == [False, True, True]
    assert len(replay_spool().created) == 3


def test_the_example_creates_what_waits(folder, bzctrl_sandbox):
    """Its task returns the keys, fails for what is kept, and is skipped where nothing waits."""
    replay = runpy.run_path(str(EXAMPLE))["dag"].get_task("replay").python_callable
    with pytest.raises(AirflowSkipException):
        replay()
    spool(1)
    spool(2)
    bzctrl_sandbox.fail_next(500)
    with pytest.raises(Exception, match="1 stay in the spool, 1 were created"):
        replay()
    (created,) = replay()["created"]
    assert created["link"] == bzctrl_sandbox.todos[-1]["taskLink"]
    with pytest.raises(AirflowSkipException):
        replay()
