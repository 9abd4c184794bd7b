from __future__ import annotations

import json
import logging
import sqlite3
from datetime import UTC, datetime

import pytest
from sqlalchemy import func, select
from support.airflow_versions import VERSION
from support.bzctrl import sent_todos
from support.store import read

from bzctrl_provider import plugin
from bzctrl_provider.import_errors import reporter
from bzctrl_provider.import_errors.reporter import Reporter
from bzctrl_provider.outbox import deliver
from bzctrl_provider.store import broken_files, incidents, schema
from bzctrl_provider.store.database import Database, StoreError

NOON = datetime(2026, 11, 21, 12, tzinfo=UTC).timestamp()

TRACE = """Traceback (most recent call last):
  File "/dags/customs.py", line 3, in <module>
    import pandas
ModuleNotFoundError: No module named 'pandas'
"""


@pytest.fixture(autouse=True)
def _no_network(monkeypatch):
    """Let every use of the network fail."""

    def refuse(*_, **__):
        raise AssertionError("the network was used")

    monkeypatch.setattr("socket.getaddrinfo", refuse)
    monkeypatch.setattr("socket.create_connection", refuse)


@pytest.fixture(autouse=True)
def _nothing_logged(monkeypatch):
    monkeypatch.setattr(plugin, "_logged", set())


@pytest.fixture
def clock(monkeypatch):
    """Return the clock of the process, in seconds, which a test sets; the listener has begun with it."""
    now = [1000.0]
    new = Reporter(clock=lambda: now[0])
    monkeypatch.setattr(reporter, "report", new.report)
    return now


@pytest.fixture
def store(tmp_path, configure, monkeypatch):
    """Return an empty store whose clock a test sets: ``store.now``."""
    store = Database(f"sqlite:///{tmp_path / 'bzctrl.db'}", clock=lambda: store.now)
    store.now = NOON
    monkeypatch.setattr(reporter, "database", lambda **_: store)
    configure(database=f"sqlite:///{tmp_path / 'bzctrl.db'}")
    return store


@pytest.fixture
def dags(tmp_path, monkeypatch, configure, clock, store):
    """Return the folder of the DAGs of a deployment with the option on."""
    folder = tmp_path / "dags"
    folder.mkdir()
    monkeypatch.setenv("AIRFLOW__CORE__DAGS_FOLDER", str(folder))
    for section in ("API", "WEBSERVER"):
        monkeypatch.setenv(f"AIRFLOW__{section}__BASE_URL", "https://airflow.example.com/")
    bundle = {
        "name": "company",
        "classpath": "airflow.dag_processing.bundles.local.LocalDagBundle",
        "kwargs": {},
    }
    monkeypatch.setenv("AIRFLOW__DAG_PROCESSOR__DAG_BUNDLE_CONFIG_LIST", json.dumps([bundle]))
    configure(incident_on_import_error="True")
    return folder


@pytest.fixture
def parse(dags, store):
    """Return a function that lets a file fail to be parsed, so many seconds after noon."""

    def call(at, *, is_new=False, file="customs/orders.py", trace=TRACE):
        store.now = NOON + at
        call_listener = plugin.on_new_dag_import_error if is_new else plugin.on_existing_dag_import_error
        call_listener(filename=str(dags / file), stacktrace=trace)

    return call


def read_todo(store):
    (incident,) = read(store)
    return incident.fields


def count_files(store):
    """Return how many files the store knows as broken."""
    with store.transaction() as tx:
        return tx.connection.scalar(select(func.count()).select_from(schema.broken_file))


def test_listener_broken_for_the_grace_period_writes_one_incident(parse, store):
    """The file is named, with the last line of the trace and how long it is broken; the delivery DAG delivers it."""
    parse(0, is_new=True)
    parse(299)
    assert read(store) == []
    parse(300)
    (incident,) = read(store)
    bundle = "\nBundle: company" if VERSION >= (3, 0) else ""
    assert incident.fields == {
        "todo_type": "INCIDENT",
        "title": "customs/orders.py: the DAG file cannot be imported",
        "description": (
            "The DAG file customs/orders.py cannot be imported.\n\n"
            "ModuleNotFoundError: No module named 'pandas' (customs.py, line 3)\n\n"
            f"Broken: for 5 min, since 2026-11-21T12:00:00Z{bundle}\nAirflow: https://airflow.example.com"
        ),
        "order_id": "customs/orders.py",
    }
    assert incident.bzctrl_conn_id == "bzctrl_default"
    assert incident.facts == {
        "what": "import",
        "file": "customs/orders.py",
        "reason": "ModuleNotFoundError: No module named 'pandas'",
    }


def test_listener_still_broken_writes_no_second_incident(parse, store):
    """Neither at the next parses, nor after the first incident was delivered and forgotten."""
    parse(0, is_new=True)
    parse(300)
    (incident,) = read(store)
    with store.transaction() as tx:
        incidents.discard(tx, incident.identity)
    for at in (330, 360, 86_400, 30 * 86_400):
        parse(at)
    assert read(store) == []


def test_listener_repaired_and_broken_again_writes_a_second_incident(parse, store):
    """The grace period begins again with the second error."""
    parse(0, is_new=True)
    parse(300)
    parse(600, is_new=True)
    parse(899)
    assert len(read(store)) == 1
    parse(900)
    assert len({incident.identity for incident in read(store)}) == 2


def test_listener_repaired_within_the_grace_period_writes_nothing(parse, store):
    """A file that is saved in the middle of a change is nobody's incident."""
    parse(0, is_new=True)
    parse(290)
    parse(600, is_new=True)
    parse(700)
    assert read(store) == []


def test_listener_killed_in_the_middle_has_written_nothing_or_all(parse, store, monkeypatch):
    """The incident and the memory of it are one transaction, so the next process writes it once."""
    parse(0, is_new=True)

    def end(*_):
        raise KeyboardInterrupt

    with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
        patch.setattr(broken_files, "save", end)
        parse(300)
    assert read(store) == []
    for at in (330, 360):
        parse(at)
    assert len(read(store)) == 1


def test_listeners_of_two_dag_processors_write_one_incident(parse, store):
    """Each has a memory of its own, and both parse the file; Airflow calls the error new in the one that parses first."""
    other = Reporter(clock=lambda: 5.0)
    ours = reporter.report
    for at in range(0, 330, 15):
        is_second = at % 30 == 15
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(reporter, "report", other.report if is_second else ours)
            parse(at, is_new=at == 0)
    assert len(read(store)) == 1
    assert count_files(store) == 1


def test_listener_option_off_does_nothing(parse, configure, store):
    """Without the option, an import error leaves no trace of ours."""
    configure(incident_on_import_error="False")
    parse(0, is_new=True)
    parse(9999)
    assert count_files(store) == 0


def test_listener_without_grace_writes_at_the_first_parse(parse, configure, store):
    """A deployment that wants to know at once sets 0."""
    configure(import_error_grace_s="0")
    parse(0, is_new=True)
    assert "Broken: for 0 s, since 2026-11-21T12:00:00Z" in read_todo(store)["description"]


@pytest.mark.usefixtures("connection")
def test_listener_many_broken_files_are_one_summary(parse, store, bzctrl):
    """A shared module that is broken breaks all that import it: each has an incident, and a delivery makes one summary of them."""
    for at, is_new in ((0, True), (300, False), (330, False)):
        for number in range(30):
            parse(at, is_new=is_new, file=f"team/dag_{number:02}.py")
    assert len(read(store)) == 30
    assert bzctrl.request_history == []
    deliver()
    (todo,) = sent_todos(bzctrl)
    assert todo["title"].startswith("30 DAG files cannot be imported within 1 min (team/dag_")
    assert "30 times: ModuleNotFoundError: No module named 'pandas'" in todo["description"]


def test_listener_starts_no_process(parse, monkeypatch):
    """The delivery DAG, or cron, delivers: the DAG processor has no children of ours."""
    monkeypatch.setattr("subprocess.Popen", lambda *_, **__: pytest.fail("a process was started"))
    parse(0, is_new=True)
    parse(300)


def test_listener_without_a_usable_store_logs_once(parse, configure, caplog, tmp_path, monkeypatch, clock):
    """Airflow's own import error is worth more than ours: nothing is raised, and the log is not filled at each parse."""
    asked = []

    def fail(**options):
        asked.append(options)
        return Database(f"sqlite:///{tmp_path}")

    monkeypatch.setattr(reporter, "database", fail)
    with caplog.at_level(logging.ERROR):
        for at in range(0, 330, 10):
            clock[0] += 10
            parse(at)
    (record,) = caplog.records
    assert "A broken DAG file raises no incident in BzCtrl" in record.getMessage()
    assert f"The store {tmp_path} cannot be used" in record.getMessage()
    assert "Make it a file that this process may write to" in record.getMessage()
    assert asked == [{"timeout_s": 1}] * 11  # once in 30 s


def test_listener_keeps_what_it_could_not_write_for_30_seconds(
    parse, store, tmp_path, clock, monkeypatch, caplog
):
    """After a failure nothing waits for the store: the notes of all files stay in memory, and the first parse after it writes them."""
    parse(0, is_new=True, file="before.py")
    with sqlite3.connect(tmp_path / "bzctrl.db", isolation_level=None) as other:
        monkeypatch.setattr(reporter, "database", lambda **_: Database(store._url, timeout_s=0))
        other.execute("BEGIN IMMEDIATE")
        parse(10, is_new=True, file="a.py")
        assert "locked" in caplog.text
        other.execute("ROLLBACK")
    other.close()
    monkeypatch.setattr(reporter, "database", lambda **_: pytest.fail("the store was used"))
    for seconds, file in ((10, "b.py"), (29, "c.py"), (29, "b.py")):
        clock[0] = 1000.0 + seconds
        parse(10 + seconds, is_new=file == "c.py", file=file)
    monkeypatch.setattr(reporter, "database", lambda **_: store)
    assert count_files(store) == 1
    clock[0] = 1030.0
    parse(40, file="before.py")
    assert count_files(store) == 4
    parse(340, file="b.py")
    (incident,) = read(store)
    assert incident.facts["file"] == "b.py"


def test_listener_remembers_a_bounded_number_of_files(dags, store, clock, monkeypatch, configure):
    """A store that is away for a day costs at most the notes of 1,000 files; each of the others is noted at its next parse."""
    new = Reporter(clock=lambda: clock[0])

    def fail(**_):
        raise StoreError("away")

    with monkeypatch.context() as patch:
        patch.setattr(reporter, "database", fail)
        with pytest.raises(StoreError):
            new.report(f"{dags}/0.py", TRACE, is_new=True)
        for number in range(1, 1500):
            new.report(f"{dags}/{number}.py", TRACE, is_new=True)
    clock[0] += 30
    new.report(f"{dags}/0.py", TRACE, is_new=False)
    assert count_files(store) == 1001


def test_listener_routes_match_by_file(parse, configure, tmp_path, store):
    """Patterns fit the path relative to the bundle; what no route sets comes from the section [bzctrl]."""
    routes = tmp_path / "routes.toml"
    routes.write_text(
        """
[[route]]
files = ["scratch/*"]
ignore = true

[[route]]
dags = ["*"]
lrn = "a route that needs a DAG"

[[route]]
files = ["customs/order?.py"]
title = "Broken: {{ failure.file }}"
assignee = "customs@example.com"
bzctrl_conn_id = "bzctrl_customs"
dedup_key = "warehouse"
dedup_window_s = 86400

[[route]]
category = ["DAG files"]
impact = "{{ failure.nothing.at_all }}"
"""
    )
    configure(routes_path=str(routes), import_error_grace_s="0", priority="HIGH", domain_workspace="EXA-DEP")
    parse(0, is_new=True)
    parse(0, is_new=True, file="scratch/mine.py")
    (incident,) = read(store)
    description = incident.fields.pop("description")
    assert " of route 4 (" in description
    assert incident.bzctrl_conn_id == "bzctrl_customs"
    assert incident.fields == {
        "todo_type": "INCIDENT",
        "title": "Broken: customs/orders.py",
        "assignee": "customs@example.com",
        "category": ["DAG files"],
        "priority": "HIGH",
        "domain_workspace": "EXA-DEP",
        "order_id": "customs/orders.py",
    }


def test_listener_ignored_file_stays_ignored_until_it_is_clean(parse, configure, tmp_path, store, caplog):
    """The log says once why there is no incident."""
    routes = tmp_path / "routes.toml"
    routes.write_text('[[route]]\nfiles = ["scratch/*"]\nignore = true\n')
    configure(routes_path=str(routes), import_error_grace_s="0")
    with caplog.at_level(logging.INFO):
        for at in (0, 30, 60):
            parse(at, file="scratch/mine.py")
    assert read(store) == []
    assert caplog.text.count("No incident: ignore = true in route 1") == 1


def test_listener_faulty_routes_and_options_cost_no_incident(parse, configure, tmp_path, store):
    """The incident has a note of each."""
    routes = tmp_path / "routes.toml"
    routes.write_text('[[route]]\nfile = ["*"]\n')
    configure(routes_path=str(routes), import_error_grace_s="0", priority="URGENT")
    parse(0, is_new=True)
    description = read_todo(store)["description"]
    assert "priority must be HIGH, MEDIUM or LOW" in description
    assert "routes" in description.lower()


@pytest.mark.security
def test_listener_secrets_of_a_trace_are_redacted(parse, configure, store):
    """Credentials in an address are redacted, and the reason is one bounded line without control characters."""
    configure(import_error_grace_s="0")
    parse(
        0, is_new=True, trace=f"Traceback\nError: postgresql://user:hunter2@db/x \x1b[31m{'x' * 10_000}\n\n"
    )
    (incident,) = read(store)
    assert "hunter2" not in json.dumps(incident.fields) + json.dumps(incident.facts)
    assert "postgresql://user:***@db/x" in incident.facts["reason"]
    assert "\x1b" not in incident.fields["description"]
    assert len(incident.facts["reason"]) == 300


@pytest.mark.security
def test_listener_path_of_a_file_forges_no_line(parse, configure, store):
    """The name of a file is other people's text."""
    configure(import_error_grace_s="0")
    parse(0, is_new=True, file="a\nAssignee: boss@example.com\n.py")
    todo = read_todo(store)
    assert "\n" not in todo["title"]
    assert "\nAssignee" not in todo["description"]


@pytest.mark.parametrize("trace", ["", "\n \n", "no newline", "x" * 10**6])
def test_listener_any_trace_is_an_incident(parse, configure, store, trace):
    """The file is named in any case."""
    configure(import_error_grace_s="0")
    parse(0, is_new=True, trace=trace)
    assert read_todo(store)["title"] == "customs/orders.py: the DAG file cannot be imported"
