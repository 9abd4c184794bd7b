from __future__ import annotations

import os
import subprocess
import sys
from datetime import UTC, datetime, timedelta
from pathlib import Path
from types import SimpleNamespace

import pytest
from support.bzctrl import sent_todos

from bzctrl_provider.import_errors import delivery
from bzctrl_provider.import_errors.episodes import Episode, Episodes
from bzctrl_provider.spool import Entry, deliver, write_entry
from bzctrl_provider.spool.folder import Folder
from bzctrl_provider.spool.ledger import Ledger

NOON = datetime(2026, 11, 21, 12, tzinfo=UTC).timestamp()


@pytest.fixture
def spool(tmp_path, configure):
    folder = tmp_path / "spool"
    configure(spool_path=str(folder), incident_on_import_error="True")
    return folder


@pytest.fixture
def clock():
    """Return a clock whose ``sleep`` moves it on."""
    clock = SimpleNamespace(now=NOON, slept=[])

    def sleep(seconds):
        clock.now += seconds
        clock.slept.append(seconds)

    clock.sleep = sleep
    return clock


@pytest.fixture
def started(monkeypatch):
    """Return the commands of the processes that would have been started."""
    commands = []

    def start(command, **options):
        commands.append((command, options))
        return SimpleNamespace(poll=lambda: 0)

    monkeypatch.setattr(subprocess, "Popen", start)
    monkeypatch.setattr(delivery, "_started", [])
    return commands


def new_episode(number=0, **more):
    values = {"since": NOON - 300, "seen": NOON, "gap_s": 30.0, "outcome": "written"}
    return Episode(file=f"/dags/dag_{number:03}.py", **{**values, **more})


def remember(spool, episode):
    """Keep an episode, with its incident in the spool if that is written."""
    Episodes(spool / "import_errors").write(f"{episode.incident_identity}.json", episode)
    if episode.outcome == "written":
        name = Path(episode.file).name
        write_entry(
            Entry(
                fields={
                    "title": f"{name}: the DAG file cannot be imported",
                    "description": "It is broken.",
                    "todo_type": "INCIDENT",
                    "order_id": name,
                },
                bzctrl_conn_id="bzctrl_default",
                identity=episode.incident_identity,
                spooled_at=datetime.fromtimestamp(episode.seen, UTC),
                facts={"what": "import", "file": name, "reason": "ImportError: shared"},
            ),
            path=spool,
        )
    return episode


def test_request_delivery_starts_a_process_that_nobody_waits_for(spool, started):
    """It is in a session of its own, so that it outlives the process that parsed the file; and it reads no secrets here."""
    delivery.request_delivery(spool, remember(spool, new_episode()))
    ((command, options),) = started
    assert command == [sys.executable, "-P", "-m", "bzctrl_provider.import_errors.delivery", str(spool)]
    assert options["start_new_session"]
    assert options["stdin"] == subprocess.DEVNULL


def test_request_delivery_of_many_starts_one_process(spool, started):
    """A shared module that breaks two hundred files starts one delivery."""
    for number in range(200):
        delivery.request_delivery(spool, remember(spool, new_episode(number)))
    assert len(started) == 1


def test_request_delivery_is_repeated_while_the_incident_waits(spool, started):
    """A process that was killed is followed by another one at one of the next parses."""
    episode = remember(spool, new_episode())
    delivery.request_delivery(spool, episode)
    old = datetime.now(UTC).timestamp() - 30
    os.utime(spool / "import_errors" / ".delivery", (old, old))
    delivery.request_delivery(spool, episode)
    assert len(started) == 2


def test_request_delivery_of_a_delivered_incident_starts_nothing(spool, started):
    """A file that stays broken for weeks costs no process at each parse."""
    episode = remember(spool, new_episode())
    Folder(spool).remove(f"{episode.incident_identity}.json")
    delivery.request_delivery(spool, episode)
    assert started == []


def test_request_delivery_while_a_connection_is_paused_starts_nothing(spool, started):
    """While BzCtrl is away, a process at each parse would find that out again."""
    episode = remember(spool, new_episode())
    until = datetime.now(UTC) + timedelta(seconds=60)
    Ledger(Folder(spool)).pause("bzctrl_default", until=until, reason="no response")
    delivery.request_delivery(spool, episode)
    assert started == []


def test_deliver_when_quiet_waits_for_files_that_are_due_soon(spool, clock, connection, bzctrl):
    """Files that broke within a minute become one summary of them all."""
    for number in range(25):
        remember(spool, new_episode(number, seen=NOON + number / 1000))
    late = remember(spool, new_episode(25, since=NOON - 280, outcome=""))

    def sleep(seconds):
        clock.sleep(seconds)
        if len(clock.slept) == 20:
            remember(spool, new_episode(25, since=late.since, seen=clock.now))

    delivery.deliver_when_quiet(spool, deliver, sleep=sleep, clock=lambda: clock.now)
    (todo,) = sent_todos(bzctrl)
    assert todo["title"].startswith("26 DAG files cannot be imported within 1 min (dag_000.py, dag_001.py, ")
    assert "26 times: ImportError: shared\n- dag_000.py\n- dag_001.py\n" in todo["description"]
    assert len(clock.slept) == 20
    assert (spool / "import_errors" / ".delivery").exists()


def test_deliver_when_quiet_knows_slow_parses_by_the_other_files(spool, clock):
    """If all files take 100 seconds to be parsed, one that was last seen 150 seconds ago is still broken."""
    remember(spool, new_episode(0, gap_s=100.0))
    remember(spool, new_episode(1, seen=NOON - 150, gap_s=0.0, outcome=""))
    delivery.deliver_when_quiet(spool, lambda **_: None, sleep=clock.sleep, clock=lambda: clock.now)
    assert len(clock.slept) == 50


@pytest.mark.parametrize(
    "other",
    [
        {"since": NOON - 10},
        {"since": NOON - 290, "seen": NOON - 62},
        {"outcome": "ignored"},
    ],
    ids=["due in minutes", "not seen broken any more", "ignored"],
)
def test_deliver_when_quiet_does_not_wait_for_others(spool, clock, connection, bzctrl, other):
    """One broken file is delivered at once."""
    remember(spool, new_episode())
    remember(spool, new_episode(1, **{"outcome": "", **other}))
    delivery.deliver_when_quiet(spool, deliver, sleep=clock.sleep, clock=lambda: clock.now)
    assert clock.slept == []
    assert [todo["title"] for todo in sent_todos(bzctrl)] == ["dag_000.py: the DAG file cannot be imported"]


def test_deliver_when_quiet_waits_a_bounded_time(spool, clock):
    """A file that is never due, because its clock is another one, does not hold up the others."""
    remember(spool, new_episode(1, seen=NOON + 3600, outcome=""))
    calls = []
    delivery.deliver_when_quiet(
        spool, lambda **options: calls.append(options), sleep=clock.sleep, clock=lambda: clock.now
    )
    assert sum(clock.slept) == 240
    assert calls == [{"path": str(spool), "limit_s": 60.0}]


def test_main_delivers_and_prints_the_result(spool, connection, bzctrl, capsys):
    """The log of the delivery is beside the memory."""
    remember(spool, new_episode())
    assert delivery.main([str(spool)]) == 0
    assert len(sent_todos(bzctrl)) == 1
    assert "created=[{" in capsys.readouterr().out
