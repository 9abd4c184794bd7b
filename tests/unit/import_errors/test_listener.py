from __future__ import annotations

import json
import logging
import stat
from datetime import UTC, datetime

import pytest
from support.airflow_versions import VERSION
from support.bzctrl import sent_todos

from bzctrl_provider.import_errors import listener
from bzctrl_provider.import_errors.episodes import Episodes
from bzctrl_provider.spool import deliver
from bzctrl_provider.spool.folder import Folder
from bzctrl_provider.spool.ledger import Ledger

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
    monkeypatch.setattr(listener, "_logged", set())


@pytest.fixture
def dags(tmp_path, monkeypatch, configure):
    """Return the folder of the DAGs of a deployment with the option on."""
    folder = tmp_path / "dags"
    folder.mkdir()
    monkeypatch.setenv("AIRFLOW__CORE__DAGS_FOLDER", str(folder))
    bundle = {
        "name": "company",
        "classpath": "airflow.dag_processing.bundles.local.LocalDagBundle",
        "kwargs": {},
    }
    monkeypatch.setenv("AIRFLOW__DAG_PROCESSOR__DAG_BUNDLE_CONFIG_LIST", json.dumps([bundle]))
    configure(incident_on_import_error="True", spool_path=str(tmp_path / "spool"))
    return folder


@pytest.fixture
def spool(tmp_path):
    return tmp_path / "spool"


@pytest.fixture
def parse(dags, monkeypatch):
    """Return a function that lets a file fail to be parsed, so many seconds after noon."""

    def call(at, *, is_new=False, file="customs/orders.py", trace=TRACE):
        monkeypatch.setattr("time.time", lambda: NOON + at)
        call_listener = listener.on_new_dag_import_error if is_new else listener.on_existing_dag_import_error
        call_listener(filename=str(dags / file), stacktrace=trace)

    return call


def read_entries(spool):
    return [
        entry for _, entry in sorted((w.name, w.entry) for w in Ledger(Folder(spool)).take_stock().waiting)
    ]


def read_todo(spool):
    (entry,) = read_entries(spool)
    return entry.fields


def test_listener_broken_for_the_grace_period_writes_one_incident(parse, spool):
    """The file is named, with the last line of the trace and how long it is broken; the delivery DAG delivers it."""
    parse(0, is_new=True)
    parse(299)
    assert read_entries(spool) == []
    parse(300)
    (entry,) = read_entries(spool)
    bundle = "\nBundle: company" if VERSION >= (3, 0) else ""
    assert entry.fields == {
        "todo_type": "INCIDENT",
        "title": "customs/orders.py: the DAG file cannot be imported",
        "description": (
            "The DAG file customs/orders.py cannot be imported.\n\n"
            "ModuleNotFoundError: No module named 'pandas'\n\n"
            f"Broken: for 5 min, since 2026-11-21T12:00:00Z{bundle}"
        ),
        "order_id": "customs/orders.py",
    }
    assert entry.bzctrl_conn_id == "bzctrl_default"
    assert entry.facts == {
        "what": "import",
        "file": "customs/orders.py",
        "reason": "ModuleNotFoundError: No module named 'pandas'",
    }


def test_listener_still_broken_writes_no_second_incident(parse, spool):
    """Neither at the next parses, nor after the first incident was delivered and forgotten."""
    parse(0, is_new=True)
    parse(300)
    (entry,) = read_entries(spool)
    Folder(spool).remove(f"{entry.identity}.json")
    for at in (330, 360, 86_400, 30 * 86_400):
        parse(at)
    assert read_entries(spool) == []


def test_listener_repaired_and_broken_again_writes_a_second_incident(parse, spool):
    """The grace period begins again with the second error."""
    parse(0, is_new=True)
    parse(300)
    parse(600, is_new=True)
    parse(899)
    assert len(read_entries(spool)) == 1
    parse(900)
    assert len({entry.identity for entry in read_entries(spool)}) == 2


def test_listener_repaired_within_the_grace_period_writes_nothing(parse, spool):
    """A file that is saved in the middle of a change is nobody's incident."""
    parse(0, is_new=True)
    parse(290)
    parse(600, is_new=True)
    parse(700)
    assert read_entries(spool) == []


def test_listener_killed_between_incident_and_memory_writes_one_incident(parse, spool, monkeypatch):
    """The next process finds the incident, because its identity is that of the episode."""
    parse(0, is_new=True)
    memory = {path: path.read_bytes() for path in (spool / "import_errors").glob("*.json")}
    parse(300)
    for path, content in memory.items():
        path.write_bytes(content)
    parse(330)
    assert len(read_entries(spool)) == 1


def test_listener_option_off_does_nothing(parse, configure, spool):
    """Without the option, an import error leaves no trace of ours."""
    configure(incident_on_import_error="False")
    parse(0, is_new=True)
    parse(9999)
    assert not spool.exists()


def test_listener_without_grace_writes_at_the_first_parse(parse, configure, spool):
    """A deployment that wants to know at once sets 0."""
    configure(import_error_grace_s="0")
    parse(0, is_new=True)
    assert "Broken: for 0 s, since 2026-11-21T12:00:00Z" in read_todo(spool)["description"]


@pytest.mark.usefixtures("connection")
def test_listener_many_broken_files_are_one_summary(parse, spool, bzctrl):
    """A shared module that is broken breaks all that import it: each has an entry, and a delivery makes one summary of them."""
    for at, is_new in ((0, True), (300, False), (330, False)):
        for number in range(30):
            parse(at, is_new=is_new, file=f"team/dag_{number:02}.py")
    assert len(read_entries(spool)) == 30
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


def test_listener_object_store_uses_the_folder_of_this_machine(parse, configure, tmp_path, monkeypatch):
    """The DAG processor must not wait for a network."""
    monkeypatch.setattr("airflow.configuration.AIRFLOW_HOME", str(tmp_path), raising=False)
    monkeypatch.setattr(
        "bzctrl_provider.import_errors.reporter.default_folder", lambda: str(tmp_path / "local")
    )
    configure(spool_path="s3://aws_default@bucket/spool", import_error_grace_s="0")
    parse(0, is_new=True)
    assert len(read_entries(tmp_path / "local")) == 1


@pytest.mark.parametrize(
    ("options", "complaint"),
    [
        ({"spool_path": "off"}, "The spool off is not an absolute path: set spool_path"),
        (
            {"spool_path": "/dev/null/spool"},
            "Not a directory. Make it a folder that this process may write to",
        ),
    ],
)
def test_listener_without_a_usable_spool_logs_once(parse, configure, caplog, options, complaint):
    """Airflow's own import error is worth more than ours: nothing is raised, and the log is not filled at each parse."""
    configure(**options)
    with caplog.at_level(logging.ERROR):
        for at in (0, 300, 330):
            parse(at)
    (record,) = caplog.records
    assert "A broken DAG file raises no incident in BzCtrl" in record.getMessage()
    assert complaint in record.getMessage()


def test_listener_spool_that_is_repaired_gets_the_incident(parse, spool, monkeypatch, caplog):
    """An incident that could not be written is tried again at the next parse."""
    parse(0, is_new=True)

    def fail(*_, **__):
        raise OSError("disk full")

    with monkeypatch.context() as patch, caplog.at_level(logging.ERROR):
        patch.setattr("bzctrl_provider.import_errors.reporter.write_entry", fail)
        parse(300)
    assert "disk full" in caplog.text
    parse(330)
    assert len(read_entries(spool)) == 1


def test_listener_routes_match_by_file(parse, configure, tmp_path, spool):
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
    (entry,) = read_entries(spool)
    description = entry.fields.pop("description")
    assert "Left out, because the template in route 4" in description
    assert entry.bzctrl_conn_id == "bzctrl_customs"
    assert entry.fields == {
        "todo_type": "INCIDENT",
        "title": "Broken: customs/orders.py",
        "assignee": "customs@example.com",
        "category": ["DAG files"],
        "priority": "HIGH",
        "domain_workspace": "EXA-DEP",
        "order_id": "customs/orders.py",
    }


def test_listener_ignored_file_stays_ignored_until_it_is_clean(parse, configure, tmp_path, spool, caplog):
    """The log says once why there is no incident."""
    routes = tmp_path / "routes.toml"
    routes.write_text('[[route]]\nfiles = ["scratch/*"]\nignore = true\n')
    configure(routes_path=str(routes), import_error_grace_s="0")
    with caplog.at_level(logging.INFO):
        for at in (0, 30, 60):
            parse(at, file="scratch/mine.py")
    assert read_entries(spool) == []
    assert caplog.text.count("No incident is raised for scratch/mine.py, because of ignore = true") == 1


def test_listener_faulty_routes_and_options_cost_no_incident(parse, configure, tmp_path, spool):
    """The incident has a note of each."""
    routes = tmp_path / "routes.toml"
    routes.write_text('[[route]]\nfile = ["*"]\n')
    configure(routes_path=str(routes), import_error_grace_s="0", priority="URGENT")
    parse(0, is_new=True)
    description = read_todo(spool)["description"]
    assert "priority must be HIGH, MEDIUM or LOW" in description
    assert "routes" in description.lower()


@pytest.mark.security
def test_listener_secrets_of_a_trace_are_redacted(parse, configure, spool):
    """Credentials in an address are redacted, and the reason is one bounded line without control characters."""
    configure(import_error_grace_s="0")
    parse(
        0, is_new=True, trace=f"Traceback\nError: postgresql://user:hunter2@db/x \x1b[31m{'x' * 10_000}\n\n"
    )
    (entry,) = read_entries(spool)
    assert "hunter2" not in json.dumps(entry.fields) + json.dumps(entry.facts)
    assert "postgresql://user:***@db/x" in entry.facts["reason"]
    assert "\x1b" not in entry.fields["description"]
    assert len(entry.facts["reason"]) == 300


@pytest.mark.security
def test_listener_path_of_a_file_forges_no_line(parse, configure, spool):
    """The name of a file is other people's text."""
    configure(import_error_grace_s="0")
    parse(0, is_new=True, file="a\nAssignee: boss@example.com\n.py")
    todo = read_todo(spool)
    assert "\n" not in todo["title"]
    assert "\nAssignee" not in todo["description"]


@pytest.mark.parametrize("trace", ["", "\n \n", "no newline", "x" * 10**6])
def test_listener_any_trace_is_an_incident(parse, configure, spool, trace):
    """The file is named in any case."""
    configure(import_error_grace_s="0")
    parse(0, is_new=True, trace=trace)
    assert read_todo(spool)["title"] == "customs/orders.py: the DAG file cannot be imported"


def test_listener_memory_is_private(parse, spool):
    """The names of DAG files are nobody else's business."""
    parse(0, is_new=True)
    (path,) = (spool / "import_errors").glob("*.json")
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    episode = Episodes(path.parent).read(path.name)
    assert episode.file.endswith("/customs/orders.py")
