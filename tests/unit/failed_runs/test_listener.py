from __future__ import annotations

import logging
import os
import sys
import time
from contextlib import nullcontext
from datetime import UTC, datetime
from types import SimpleNamespace

import pytest
from airflow.listeners.listener import get_listener_manager
from airflow.utils.types import DagRunType
from sqlalchemy import create_engine, text
from sqlalchemy.orm import Session

from bzctrl_provider import plugin
from bzctrl_provider.airflow_compat import mark_dag
from bzctrl_provider.failed_runs import scheduler

START = datetime(2026, 11, 21, 12, tzinfo=UTC)


class Task(SimpleNamespace):
    """A task of a serialized DAG."""

    task_type = "PythonOperator"
    owner = "ana"
    trigger_rule = "all_success"
    outlets = ()
    upstream_task_ids: frozenset = frozenset()
    downstream_task_ids: frozenset = frozenset()


class Unprintable:
    """A value that cannot be read."""

    def __str__(self):
        return str(1 / 0)


class Dag(SimpleNamespace):
    """A serialized DAG."""

    dag_id = "customs"
    owner = "ana"

    def get_task(self, task_id):
        return self.tasks[task_id]

    def has_task(self, task_id):
        return task_id in self.tasks


def new_dag(**values):
    tasks = {
        "extract": Task(downstream_task_ids={"check"}),
        "check": Task(upstream_task_ids={"extract"}, downstream_task_ids={"load", "raise_incident"}),
        "load": Task(upstream_task_ids={"check"}, outlets=[SimpleNamespace(name="orders")]),
        "raise_incident": Task(upstream_task_ids={"check"}, trigger_rule="all_done_setup_success"),
    }
    return Dag(**{"tags": {"finance", "daily"}, "default_args": {"retries": 1}, "tasks": tasks, **values})


INSTANCES = [
    ("extract", -1, "success"),
    ("check", 0, "failed"),
    ("check", 1, "success"),
    ("load", -1, "upstream_failed"),
    ("raise_incident", -1, None),
]


def new_dag_run(**values):
    return SimpleNamespace(
        **{
            "dag_id": "customs",
            "run_id": "r",
            "clear_number": 2,
            "start_date": START,
            "run_type": DagRunType.SCHEDULED,
            "logical_date": START,
            "dag": new_dag(),
            **values,
        }
    )


@pytest.fixture
def session():
    """Return the session in which the scheduler works; of Airflow's tables, the database has the columns that the listener reads."""
    engine = create_engine("sqlite://")
    with Session(engine) as session:
        columns = "dag_id, run_id, task_id, map_index, state"
        session.execute(text(f"CREATE TABLE task_instance ({columns})"))
        for task_id, index, state in INSTANCES:
            session.execute(
                text("INSERT INTO task_instance VALUES ('customs', 'r', :task_id, :index, :state)"),
                {"task_id": task_id, "index": index, "state": state},
            )
        session.commit()
        yield session
    engine.dispose()


@pytest.fixture
def noted(monkeypatch, session):
    """Return the runs that the listener has noted in the process of a scheduler."""
    runs = []
    monkeypatch.setattr(scheduler.writer, "add", runs.extend)
    monkeypatch.setattr(plugin, "_job_processes", [os.getpid()])
    monkeypatch.setattr(plugin, "_logged", set())
    monkeypatch.setattr(scheduler, "object_session", lambda _: session)
    return runs


@pytest.fixture
def fail(noted, configure, session):
    """Return a function that lets a run fail, and commits that, with the policy switched on."""
    configure(incident_on_failed_run="True")

    def call(msg="task_failure", **values):
        plugin.on_dag_run_failed(dag_run=new_dag_run(**values), msg=msg)
        session.commit()
        return noted

    return call


def test_failed_run_is_noted_with_all_that_the_scheduler_knows(fail):
    """The row has what the incident needs, so that the delivery asks only for the reasons."""
    (run,) = fail()
    assert vars(run) == {
        "dag_id": "customs",
        "run_id": "r",
        "cleared": 2,
        "started_at": "2026-11-21 12:00:00+00:00",
        "why": "task_failure",
        "run_type": "scheduled",
        "logical_date": "2026-11-21T12:00:00+00:00",
        "tags": ["daily", "finance"],
        "owner": "ana",
        "team": None,
        "states": {
            "extract": {-1: "success"},
            "check": {0: "failed", 1: "success"},
            "load": {-1: "upstream_failed"},
            "raise_incident": {-1: ""},
        },
        "operators": {"check": {"operator": "PythonOperator", "owner": "ana"}},
        "did_not_run": ("load",),
        "not_updated": ("orders",),
        "roll_ups": {},
    }


@pytest.mark.parametrize(
    ("msg", "why"),
    [("task_failure", "task_failure"), ("all_tasks_deadlocked", "all_tasks_deadlocked"), ("", "timed_out")],
)
def test_reason_is_that_of_airflow(fail, msg, why):
    """Before Airflow 3.3, a timeout has none."""
    (run,) = fail(msg)
    assert run.why == why


def test_marks_of_the_policy_name_roll_ups_and_notifiers(fail):
    """They survive in the serialized DAG: roll-ups are noted with the tasks before them, a DAG with its own notifier not at all."""
    dag = new_dag()
    mark_dag(dag, roll_ups=["raise_incident"])
    (run,) = fail(dag=dag)
    assert run.roll_ups == {"raise_incident": {"check": False, "extract": False}}
    mark_dag(dag, has_notifier=True)
    assert fail(dag=dag) == [run]


@pytest.mark.parametrize(
    ("options", "tags"),
    [
        ({"incident_on_failed_run": "False"}, ["finance"]),
        ({"include_tags": "other"}, ["finance"]),
        ({"exclude_dags": "cust*"}, ["finance"]),
        ({}, ["finance", "bzctrl_delivery"]),
    ],
)
def test_run_to_which_the_options_do_not_apply_is_not_noted(fail, configure, options, tags):
    """Neither are those of the delivery DAG: its incidents would wait for itself."""
    configure(**options)
    assert fail(dag=new_dag(tags=tags)) == []


def test_run_that_somebody_marks_as_failed_is_not_noted(fail, monkeypatch, configure):
    """The API server, which runs no job, calls the listener then, also if incidents come from test runs."""
    monkeypatch.setattr(plugin, "_job_processes", [])
    for in_test_runs in ("False", "True"):
        configure(in_test_runs=in_test_runs)
        for msg in ("", "Dag Run's state was manually set to `failed`."):
            assert fail(msg) == []


@pytest.mark.parametrize(("in_test_runs", "number"), [("False", 0), ("True", 1)])
def test_run_of_a_test_is_noted_by_the_option_only(fail, monkeypatch, configure, in_test_runs, number):
    """`DAG.test()` runs no job; it may run in a task, which is forked from the process of a job."""
    configure(in_test_runs=in_test_runs)
    for processes in ([], [os.getppid()]):
        monkeypatch.setattr(plugin, "_job_processes", processes)
        assert len(fail()) == number * (1 + bool(processes))


def test_runs_of_one_loop_are_written_when_the_scheduler_commits(fail, noted, session, monkeypatch):
    """Together, after it has written its own changes; a commit without a failed run writes nothing."""
    calls = []
    monkeypatch.setattr(scheduler.writer, "add", lambda runs: calls.append([run.run_id for run in runs]))
    monkeypatch.setattr(session, "flush", lambda: calls.append("flush"))
    for run_id in ("a", "b"):
        plugin.on_dag_run_failed(dag_run=new_dag_run(run_id=run_id), msg="task_failure")
    assert calls == []
    session.commit()
    session.commit()
    fail(run_id="c")
    assert calls[0] == "flush"
    assert [call for call in calls if call != "flush"] == [["a", "b"], ["c"]]


def test_error_of_airflows_own_changes_is_left_to_airflow(fail, noted, session, monkeypatch):
    """Its commit fails, and it decides again."""
    monkeypatch.setattr(session, "flush", lambda: 1 / 0)
    with pytest.raises(ZeroDivisionError):
        fail()
    assert noted == []


def test_run_without_a_session_is_written_at_once(fail, noted, session, monkeypatch):
    """`DAG.test()` may have committed it."""
    monkeypatch.setattr(scheduler, "object_session", lambda _: None)
    monkeypatch.setattr(scheduler, "create_session", lambda: nullcontext(session))
    plugin.on_dag_run_failed(dag_run=new_dag_run(), msg="task_failure")
    (run,) = noted
    assert run.states["check"] == {0: "failed", 1: "success"}


def test_states_that_cannot_be_read_cost_no_incident(fail, session, caplog):
    """An incident without its details is better than none."""
    session.execute(text("DROP TABLE task_instance"))
    (run,) = fail()
    assert run.states == {}
    assert "Skipped the states of the tasks of failed runs" in caplog.text


@pytest.mark.parametrize(
    "values",
    [
        {"dag": None},
        {"dag": SimpleNamespace(tags=None, owner=None)},
        {"start_date": None, "logical_date": None},
    ],
)
def test_run_of_which_little_is_known_is_noted_all_the_same(fail, values):
    """An incident without its details is better than none."""
    (run,) = fail(**values)
    assert (run.dag_id, run.run_id) == ("customs", "r")


@pytest.mark.security
def test_error_in_the_listener_does_not_reach_the_scheduler(fail, monkeypatch, caplog):
    """Airflow 2 would end; the log has the error, that of the listener itself once per process."""
    with monkeypatch.context() as patch:
        patch.setattr(scheduler.writer, "add", lambda _: 1 / 0)
        fail()
        patch.setattr(scheduler, "object_session", lambda _: 1 / 0)
        for _ in range(3):
            fail()
    assert fail(start_date=Unprintable()) == []
    of_loop, of_process, of_run = [
        record.getMessage() for record in caplog.records if record.levelno == logging.ERROR
    ]
    assert of_loop.startswith(
        "Skipped the failed runs of this loop; they raise no incident: ZeroDivisionError"
    )
    assert "ZeroDivisionError" in of_process
    assert of_run.startswith("Skipped the failed run r of customs; it raises no incident: ZeroDivisionError")


def test_run_that_is_not_chosen_costs_microseconds(fail, configure):
    """A scheduler of other teams pays nothing."""
    configure(include_tags="other")
    fail()
    dag_run = new_dag_run()
    began = time.perf_counter()
    for _ in range(1000):
        plugin.on_dag_run_failed(dag_run=dag_run, msg="task_failure")
    assert (time.perf_counter() - began) / 1000 < 1e-4


@pytest.mark.parametrize(
    ("arguments", "option", "begins"),
    [
        (["airflow", "scheduler"], "True", True),
        (["airflow", "scheduler"], "False", False),
        (["airflow", "dag-processor"], "True", False),
        (["airflow", "tasks", "run", "scheduler"], "True", False),
    ],
)
def test_heartbeat_begins_in_a_scheduler_with_the_policy(monkeypatch, configure, arguments, option, begins):
    """Once per process, and not in its children, which find the note of their parent."""
    configure(incident_on_failed_run=option)
    calls = []
    monkeypatch.setattr(scheduler, "begin_heartbeat", lambda: calls.append(True))
    monkeypatch.setattr(plugin, "_job_processes", [])
    monkeypatch.setattr(sys, "argv", arguments)
    for _ in range(2):
        plugin.on_starting()
    assert calls == [True] * begins
    assert plugin._job_processes == [os.getpid()]


def test_heartbeat_that_cannot_begin_does_not_stop_the_scheduler(monkeypatch, configure, caplog):
    """A faulty URL of the store is an error of the log."""
    configure(incident_on_failed_run="True", database="nonsense")
    monkeypatch.setattr(plugin, "_job_processes", [])
    monkeypatch.setattr(plugin, "_logged", set())
    monkeypatch.setattr(sys, "argv", ["airflow", "scheduler"])
    plugin.on_starting()
    assert "The URL of the store cannot be parsed" in caplog.text


def test_airflow_calls_the_listener_by_the_names_of_its_hooks(fail, noted, session):
    """Airflow's own manager takes the module and passes it run and reason."""
    manager = get_listener_manager()
    is_loaded = manager.pm.is_registered(plugin)  # by the plugin
    manager.add_listener(plugin)
    try:
        manager.hook.on_dag_run_failed(dag_run=new_dag_run(), msg="task_failure")
        session.commit()
    finally:
        if not is_loaded:
            manager.pm.unregister(plugin)
    assert len(noted) == 1
