from __future__ import annotations

import logging
import os
import sys
import time
from datetime import UTC, datetime
from types import SimpleNamespace

import pytest
from airflow.listeners.listener import get_listener_manager

from bzctrl_provider._airflow_internals import mark_dag
from bzctrl_provider.failed_runs import listener, reader
from bzctrl_provider.failed_runs import writer as writer_module

START = datetime(2026, 11, 21, 12, tzinfo=UTC)


class Task(SimpleNamespace):
    """A task of a serialized DAG."""

    task_type = "PythonOperator"
    owner = "ana"
    trigger_rule = "all_success"
    outlets = ()
    upstream_task_ids: frozenset = frozenset()
    downstream_task_ids: frozenset = frozenset()


class Dag(SimpleNamespace):
    """A serialized DAG."""

    dag_id = "customs"
    owner = "ana"

    def get_task(self, task_id):
        return self.tasks[task_id]

    def has_task(self, task_id):
        return task_id in self.tasks


class Session:
    """A session of SQLAlchemy that notes whether the scheduler's changes would be flushed."""

    is_flushed = False

    @property
    def no_autoflush(self):
        return self

    def __enter__(self):
        return self

    def __exit__(self, *_):
        return False


def new_dag(**values):
    tasks = {
        "extract": Task(downstream_task_ids={"check"}),
        "check": Task(upstream_task_ids={"extract"}, downstream_task_ids={"load", "raise_incident"}),
        "load": Task(upstream_task_ids={"check"}, outlets=[SimpleNamespace(name="orders")]),
        "raise_incident": Task(upstream_task_ids={"check"}, trigger_rule="all_done_setup_success"),
    }
    return Dag(**{"tags": {"finance", "daily"}, "default_args": {"retries": 1}, "tasks": tasks, **values})


class DagRun(SimpleNamespace):
    """A run that has just failed, in the scheduler."""

    def get_task_instances(self, *, session):
        assert session is not None
        if isinstance(self.instances, Exception):
            raise self.instances
        return [SimpleNamespace(task_id=t, map_index=i, state=state) for t, i, state in self.instances]


def new_dag_run(**values):
    return DagRun(
        **{
            "dag_id": "customs",
            "run_id": "r",
            "clear_number": 2,
            "start_date": START,
            "run_type": SimpleNamespace(value="scheduled"),
            "logical_date": START,
            "dag": new_dag(),
            "instances": [
                ("extract", -1, "success"),
                ("check", 0, SimpleNamespace(value="failed")),
                ("check", 1, "success"),
                ("load", -1, "upstream_failed"),
                ("raise_incident", -1, None),
            ],
            **values,
        }
    )


@pytest.fixture
def noted(monkeypatch):
    """Return the runs that the listener has noted in the process of a scheduler."""
    runs = []
    monkeypatch.setattr(writer_module.writer, "add", runs.append)
    monkeypatch.setattr(listener, "_job_processes", [os.getpid()])
    monkeypatch.setattr(listener, "_logged", set())
    monkeypatch.setattr(reader, "object_session", lambda _: Session())
    return runs


@pytest.fixture
def fail(noted, configure):
    """Return a function that lets a run fail, with the policy switched on."""
    configure(incident_on_failed_run="True")

    def call(msg="task_failure", **values):
        listener.on_dag_run_failed(dag_run=new_dag_run(**values), msg=msg)
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
        "operators": {"check": ["PythonOperator", "ana"]},
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
    monkeypatch.setattr(listener, "_job_processes", [])
    for in_test_runs in ("False", "True"):
        configure(in_test_runs=in_test_runs)
        for msg in ("", "Dag Run's state was manually set to `failed`."):
            assert fail(msg) == []


@pytest.mark.parametrize(("in_test_runs", "number"), [("False", 0), ("True", 1)])
def test_run_of_a_test_is_noted_by_the_option_only(fail, monkeypatch, configure, in_test_runs, number):
    """`DAG.test()` runs no job; it may run in a task, which is forked from the process of a job."""
    configure(in_test_runs=in_test_runs)
    for processes in ([], [os.getppid()]):
        monkeypatch.setattr(listener, "_job_processes", processes)
        assert len(fail()) == number * (1 + bool(processes))


@pytest.mark.parametrize(
    "values",
    [
        {"instances": ConnectionError("the database is gone")},
        {"dag": None},
        {"dag": SimpleNamespace(tags=None, owner=None)},
        {"start_date": None, "logical_date": None, "run_type": None, "clear_number": None},
    ],
)
def test_run_of_which_little_is_known_is_noted_all_the_same(fail, values):
    """An incident without its details is better than none."""
    (run,) = fail(**values)
    assert (run.dag_id, run.run_id) == ("customs", "r")


@pytest.mark.security
def test_error_in_the_listener_does_not_reach_the_scheduler(fail, monkeypatch, caplog):
    """Airflow 2 would end; the log has the error once per process."""
    monkeypatch.setattr(writer_module.writer, "add", lambda _: 1 / 0)
    for _ in range(3):
        fail()
    (record,) = [record for record in caplog.records if record.levelno == logging.ERROR]
    assert "ZeroDivisionError" in record.getMessage()


def test_run_that_is_not_chosen_costs_microseconds(fail, configure):
    """A scheduler of other teams pays nothing."""
    configure(include_tags="other")
    fail()
    dag_run = new_dag_run()
    began = time.perf_counter()
    for _ in range(1000):
        listener.on_dag_run_failed(dag_run=dag_run, msg="task_failure")
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
    monkeypatch.setattr(writer_module.writer, "begin_heartbeat", lambda: calls.append(True))
    monkeypatch.setattr(listener, "_job_processes", [])
    monkeypatch.setattr(sys, "argv", arguments)
    for _ in range(2):
        listener.on_starting()
    assert calls == [True] * begins
    assert listener._job_processes == [os.getpid()]


def test_heartbeat_that_cannot_begin_does_not_stop_the_scheduler(monkeypatch, configure, caplog):
    """A faulty URL of the store is an error of the log."""
    configure(incident_on_failed_run="True", database="nonsense")
    monkeypatch.setattr(listener, "_job_processes", [])
    monkeypatch.setattr(listener, "_logged", set())
    monkeypatch.setattr(sys, "argv", ["airflow", "scheduler"])
    listener.on_starting()
    assert "The URL of the store cannot be parsed" in caplog.text


def test_airflow_calls_the_listener_by_the_names_of_its_hooks(fail, noted):
    """Airflow's own manager takes the module and passes it run and reason."""
    manager = get_listener_manager()
    is_loaded = manager.pm.is_registered(listener)  # by the plugin
    manager.add_listener(listener)
    try:
        manager.hook.on_dag_run_failed(dag_run=new_dag_run(), msg="task_failure")
    finally:
        if not is_loaded:
            manager.pm.unregister(listener)
    assert len(noted) == 1
