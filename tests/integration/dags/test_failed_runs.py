"""The policy with Airflow's own listener manager, serialized DAGs, XComs and states of runs."""

from __future__ import annotations

import json
import os
import runpy
import signal
import subprocess
import sys
from pathlib import Path

import pytest
from support.airflow_versions import CALLBACKS_HAVE_THE_EXCEPTION

from bzctrl_provider import plugin, policy
from bzctrl_provider.outbox import deliver
from bzctrl_provider.settings import settings
from bzctrl_provider.store import failed_runs
from bzctrl_provider.store.database import database

FILE = Path(__file__).parent / "files" / "failed_runs.py"


@pytest.fixture
def run(run, monkeypatch):
    """Return what runs a DAG with the policy, and delivers what was noted."""
    monkeypatch.setenv("AIRFLOW__BZCTRL__INCIDENT_ON_FAILED_RUN", "True")
    settings.cache_clear()

    def run_dag(name):
        dag = runpy.run_path(str(FILE))[name]
        policy.dag_policy(dag)
        return dag.test()

    return run_dag


def read_noted():
    with database().transaction() as tx:
        return [noted.run for noted in failed_runs.list_undecided(tx)]


def test_failed_run_without_a_callback_raises_one_incident(run, bzctrl_sandbox):
    """The reasons are in the XComs, what did not run and the owner in what the listener noted; a second delivery sends nothing."""
    dag_run = run("without_a_callback")
    assert [noted.run_id for noted in read_noted()] == [dag_run.run_id]
    deliver()
    deliver()
    (todo,) = bzctrl_sandbox.todos
    assert todo["title"] == "without_a_callback: 1 of 3 tasks failed (fails)"
    assert todo["assignee"] == "ana@example.com"
    assert todo["orderID"] == dag_run.run_id
    lines = todo["description"].splitlines()
    assert "- fails (@task): 2 of 3 mapped failed (0, 2)" in lines
    assert ("  [2] ValueError: the total of 2 differs" in lines) is CALLBACKS_HAVE_THE_EXCEPTION
    assert "Did not run: load" in lines


@pytest.mark.parametrize(
    ("name", "titles"),
    [
        ("with_a_roll_up", ["with_a_roll_up: fails failed"]),
        (
            "beside_a_roll_up",
            [
                "beside_a_roll_up: 2 of 3 tasks failed (elsewhere, fails)",
                "beside_a_roll_up: fails failed",
            ],
        ),
        ("with_a_notifier", ["its own"]),
        ("that_succeeds", []),
    ],
)
def test_failure_that_the_dag_itself_reports_raises_no_second_incident(run, bzctrl_sandbox, name, titles):
    """A roll-up that handled it, and a notifier of the DAG, are known by the marks in the serialized DAG."""
    run(name)
    deliver()
    assert sorted(todo["title"] for todo in bzctrl_sandbox.todos) == titles


def test_run_that_is_cleared_raises_none(run, bzctrl_sandbox):
    """It is successful by the time of the delivery, by Airflow's own state."""
    from airflow.models.dagrun import DagRun
    from airflow.utils.session import create_session

    dag_run = run("without_a_callback")
    with create_session() as session:
        session.query(DagRun).filter_by(run_id=dag_run.run_id).update({"_state": "success"})
    deliver()
    assert bzctrl_sandbox.todos == []
    assert read_noted() == []


def test_run_of_a_test_is_not_noted_by_default(run, bzctrl_sandbox, monkeypatch):
    """`DAG.test()` calls the listener in its own process."""
    monkeypatch.delenv("AIRFLOW__BZCTRL__IN_TEST_RUNS")
    settings.cache_clear()
    run("without_a_callback")
    assert read_noted() == []
    monkeypatch.setattr(plugin, "_job_processes", [os.getpid()])  # as in a scheduler
    run("without_a_callback")
    assert len(read_noted()) == 1
    deliver()
    assert len(bzctrl_sandbox.todos) == 1


def test_command_line_raises_the_incident_with_its_reasons(run, bzctrl_sandbox):
    """A process that is no task reads states and XComs from Airflow's database."""
    run("without_a_callback")
    done = subprocess.run(
        [Path(sys.executable).parent / "bzctrl", "outbox", "deliver", "--json"],
        env=os.environ | {"PYTHONWARNINGS": "ignore"},
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert len(json.loads(done.stdout)["created"]) == 1
    (todo,) = bzctrl_sandbox.todos
    assert ("ValueError: the total of 2 differs" in todo["description"]) is CALLBACKS_HAVE_THE_EXCEPTION


SCHEDULE = """
import os, runpy, signal, sys

import airflow.serialization.serialized_objects as serialized
from airflow.models.dagrun import DagRun
from airflow.utils.session import create_session
from sqlalchemy import event

from bzctrl_provider import plugin, policy

file, name, run_id, end = sys.argv[1:]
dag = runpy.run_path(file)[name]
policy.dag_policy(dag)
Serialization = getattr(serialized, "DagSerialization", None) or serialized.SerializedDAG
plugin._job_processes.append(os.getpid())
with create_session() as session:
    dag_run = session.query(DagRun).filter_by(run_id=run_id).one()
    dag_run.dag = Serialization.from_dict(Serialization.to_dict(dag))
    dag_run.dag.has_on_failure_callback = False  # there is no DAG processor that would call it
    dag_run.update_state(session=session, execute_callbacks=False)
    assert str(getattr(dag_run.state, "value", dag_run.state)) == "failed"
    if end == "killed":
        event.listen(session, "before_commit", lambda _: os.kill(os.getpid(), signal.SIGKILL))
"""
"""A scheduler that decides about one run, and ends in the middle of its commit or after it."""


@pytest.fixture
def schedule(run, monkeypatch):
    """Return a function that lets a process decide about the run of a DAG as a scheduler does, and returns its exit code."""
    from airflow.models.dagrun import DagRun
    from airflow.utils.session import create_session

    monkeypatch.setenv("AIRFLOW__BZCTRL__IN_TEST_RUNS", "False")
    settings.cache_clear()
    ended = {}

    def decide(name, end="committed"):
        if name not in ended:
            ended[name] = run(name).run_id
            with create_session() as session:
                session.query(DagRun).filter_by(run_id=ended[name]).update({"_state": "running"})
        done = subprocess.run(
            [sys.executable, "-W", "ignore", "-c", SCHEDULE, str(FILE), name, ended[name], end],
            env=os.environ,
            capture_output=True,
            text=True,
            timeout=300,
            check=False,
        )
        assert done.returncode in (0, -signal.SIGKILL), done.stderr
        return done.returncode

    return decide


def test_scheduler_killed_before_its_commit_loses_nothing(schedule, bzctrl_sandbox):
    """The run is noted and still running: a delivery in between waits, the next scheduler fails it again, and there is one incident."""
    assert schedule("without_a_callback", "killed") == -signal.SIGKILL
    assert len(read_noted()) == 1
    deliver()
    assert bzctrl_sandbox.todos == []
    assert schedule("without_a_callback") == 0
    assert len(read_noted()) == 1
    deliver()
    deliver()
    (todo,) = bzctrl_sandbox.todos
    assert todo["title"] == "without_a_callback: 1 of 3 tasks failed (fails)"
    assert "Did not run: load" in todo["description"]


@pytest.mark.parametrize(("name", "number"), [("with_a_roll_up", 1), ("with_a_notifier", 0)])
def test_scheduler_knows_what_the_policy_has_marked(schedule, name, number):
    """Roll-ups with the tasks before them, and a notifier of the DAG, are in the DAG that Airflow serializes."""
    schedule(name)
    noted = read_noted()
    assert len(noted) == number
    assert [run.roll_ups for run in noted] == [{"raise_incident": {"fails": False}}] * number
