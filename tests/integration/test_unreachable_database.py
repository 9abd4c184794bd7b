"""A database server that cannot be reached, or says nothing: no incident is lost, and nothing hangs."""

from __future__ import annotations

import asyncio
import datetime as dt
import logging
import socket
import time

import pytest
from support.contexts import TaskInstance, new_dag, new_run_context, new_task_context

from bzctrl_provider.failed_runs.scheduler import Writer
from bzctrl_provider.failed_runs.scheduler import _write_into_store as write_failed_runs
from bzctrl_provider.failure import FailedTask, Failure, LazyFailure
from bzctrl_provider.import_errors.reporter import Reporter
from bzctrl_provider.notifications.bzctrl import BzCtrlNotifier
from bzctrl_provider.operators.bzctrl import CreateTodoOperator, IncidentOnFailureOperator
from bzctrl_provider.sandbox.app import CONNECTION_VARIABLE, make_connection_json
from bzctrl_provider.settings import settings
from bzctrl_provider.store.database import TIMEOUT_S, StoreError
from bzctrl_provider.store.failed_runs import FailedRun

DAY = dt.timedelta(days=1)


@pytest.fixture(params=["refuses", "says nothing"])
def _unreachable(request, bzctrl_sandbox, monkeypatch):
    """Use a PostgreSQL server at a port that is closed, or that accepts connections and never responds."""
    monkeypatch.setenv("AIRFLOW_VAR_BZCTRL_SILENCES", "")
    with socket.create_server(("127.0.0.1", 0)) as server:
        port = server.getsockname()[1]
        if request.param == "refuses":
            server.close()
        monkeypatch.setenv("AIRFLOW__BZCTRL__DATABASE", f"postgresql+psycopg2://u:hunter2@127.0.0.1:{port}/b")
        settings.cache_clear()
        yield


pytestmark = pytest.mark.usefixtures("_unreachable")


def test_callback_without_a_database_sends_directly_within_10_seconds(bzctrl_sandbox, caplog):
    """Also from the triggerer; the log says why, without the password of the database."""

    async def alert():
        deadline = {"deadline_time": "07:00"}
        context = {"dag_run": {"dag_id": "customs", "dag_run_id": "r"}, "deadline": deadline}
        await BzCtrlNotifier(context=context)

    for number, call in enumerate(
        [lambda: BzCtrlNotifier(dedup_window=DAY)(new_task_context()), lambda: asyncio.run(alert())], 1
    ):
        started_at = time.monotonic()
        call()
        assert time.monotonic() - started_at < 10
        assert len(bzctrl_sandbox.todos) == number
    assert caplog.text.count("The incident is sent directly instead.") == 2
    assert "hunter2" not in caplog.text


def test_callbacks_without_a_database_and_bzctrl_are_all_logged_in_time(monkeypatch, caplog):
    """All callbacks of one DAG file run in a process that Airflow ends after 50 s: the log has the payload of each by then."""
    monkeypatch.setenv(CONNECTION_VARIABLE, make_connection_json("http://127.0.0.1:1"))
    started_at = time.monotonic()
    with caplog.at_level(logging.ERROR):
        for number in range(20):
            with pytest.raises(Exception, match=r"BzCtrl|have waited"):
                BzCtrlNotifier()(new_run_context(run_id=f"run {number}"))
    assert time.monotonic() - started_at < 30
    logged = [record.getMessage() for record in caplog.records if "It would have been" in record.getMessage()]
    assert ['"order_id": "run 0"' in logged[0], len(logged)] == [True, 20]


def test_task_without_a_database_creates_its_todo(bzctrl_sandbox, caplog):
    """The window and the count of failures do not apply, which the log says; a delay is bounded by the timeouts of a connection."""
    failure = Failure(
        kind="checks", checks=1, tasks=(FailedTask(task_id="check"),), dag_id="customs", run_id="r"
    )
    context = {"ti": TaskInstance(), "dag": new_dag(), "run_id": "r"}
    parameters = {"task_id": "t", "order_id": "o", "dedup_window": DAY}
    for number, operator in enumerate(
        [
            CreateTodoOperator(title="t", description="d", **parameters),
            IncidentOnFailureOperator(consecutive_failures=3, **parameters),
        ],
        1,
    ):
        started_at = time.monotonic()
        result = operator.execute({**context, "failure": LazyFailure({}, lambda _: failure)})
        assert time.monotonic() - started_at < 4 * TIMEOUT_S + 2
        assert result["key"] == bzctrl_sandbox.todos[-1]["key"]
        assert len(bzctrl_sandbox.todos) == number
    assert "Skipped the memory of failures, so a todo is created: " in caplog.text


def test_dag_processor_without_a_database_waits_for_it_once_in_30_seconds():
    """Its loop parses all DAG files, of which many may be broken."""
    now = [1000.0]
    reporter = Reporter(clock=lambda: now[0])
    started_at = time.monotonic()
    with pytest.raises(StoreError):
        reporter.report("/dags/0.py", "OSError", is_new=True)
    for number in range(1, 100):
        now[0] += 0.2
        reporter.report(f"/dags/{number}.py", "OSError", is_new=True)
    assert time.monotonic() - started_at < 4


def test_scheduler_without_a_database_goes_on_and_logs_its_failed_runs(caplog):
    """It waits one second in all for a storm, and when it ends, each run is in the log, without the password of the database."""
    writer = Writer(write_failed_runs)
    started_at = time.monotonic()
    for number in range(200):
        writer.add([FailedRun(dag_id="customs", run_id=f"run {number}")])
    assert time.monotonic() - started_at < 3
    writer.finish()
    assert time.monotonic() - started_at < 15
    lost = [record for record in caplog.records if "A failed run was not written" in record.getMessage()]
    assert len(lost) == 200
    assert "The store does not take failed runs" in caplog.text
    assert "hunter2" not in caplog.text
