from __future__ import annotations

import datetime as dt
import json

import pytest
from airflow.providers.common.compat.sdk import AirflowSkipException
from support.bzctrl import sent_todos
from support.contexts import TaskInstance, new_dag, new_run_context, new_task_context

from bzctrl_provider.failure import FailedTask, Failure, LazyFailure
from bzctrl_provider.notifications.bzctrl import BzCtrlNotifier
from bzctrl_provider.operators.bzctrl import CreateTodoOperator, IncidentOnFailureOperator
from bzctrl_provider.successes import LastPass, LastSuccess

NOW = dt.datetime(2026, 11, 21, 6, tzinfo=dt.UTC)
HOUR = dt.timedelta(hours=1)
DAY = dt.timedelta(days=1)
FAILED = Failure(kind="checks", tasks=(FailedTask(task_id="amounts"),), dag_id="customs", run_id="r")
PASSED = Failure(kind="checks", tasks=(), dag_id="customs", run_id="r")


def fail(notifier, run_id, *, succeeded_at=None, **more):
    """Call the notifier for a task that last succeeded at a time."""
    notifier(new_task_context(ti=TaskInstance(succeeded_at=succeeded_at), run_id=run_id, **more))


def ago(**time):
    return dt.datetime.now(dt.UTC) - dt.timedelta(**time)


def soon():
    return dt.datetime.now(dt.UTC)


@pytest.mark.usefixtures("connection")
def test_notifier_failure_after_a_success_is_another_incident(bzctrl, variables, set_airflow_version):
    """Fail, success, fail within one window is 2 incidents; fail, fail is one."""
    set_airflow_version(3, 2)
    notifier = BzCtrlNotifier(dedup_window=DAY)
    fail(notifier, "a", succeeded_at=ago(hours=1))
    fail(notifier, "b", succeeded_at=ago(hours=1))
    assert len(sent_todos(bzctrl)) == 1
    fail(notifier, "c", succeeded_at=soon())
    assert len(sent_todos(bzctrl)) == 2


@pytest.mark.usefixtures("connection")
def test_notifier_without_an_answer_of_airflow_raises_another(bzctrl, variables, set_airflow_version, caplog):
    """An incident too many is better than one too few."""
    set_airflow_version(3, 2)
    notifier = BzCtrlNotifier(dedup_window=DAY)
    fail(notifier, "a")
    ti = TaskInstance(get_previous_ti=lambda **_: 1 / 0)
    notifier(new_task_context(ti=ti, run_id="b"))
    assert len(sent_todos(bzctrl)) == 2
    assert "Skipped the look-up of the last success: ZeroDivisionError" in caplog.text


@pytest.mark.usefixtures("connection")
def test_notifier_of_a_dag_in_a_test_run_keeps_the_window(bzctrl, variables):
    """Airflow cannot be asked there, so the window only ends by its time."""
    for run_id in ("a", "b"):
        BzCtrlNotifier(dedup_window=DAY)(new_run_context(run_id=run_id))
    assert len(sent_todos(bzctrl)) == 1


def roll_up(failure, *, map_index=-1, **parameters):
    """Execute a roll-up."""
    operator = IncidentOnFailureOperator(task_id="raise_incident", order_id="r", **parameters)
    context = new_task_context(
        ti=TaskInstance(task_id="raise_incident", max_tries=0, map_index=map_index),
        failure=LazyFailure({}, lambda _: failure),
    )
    try:
        return operator.execute(context)
    except AirflowSkipException as exc:
        return str(exc)


@pytest.mark.usefixtures("connection")
def test_roll_up_whose_checks_passed_ends_the_window(bzctrl, variables):
    """Fail, fail, pass, fail is 2 incidents, whatever Airflow knows of earlier runs, as after a clear of the same run."""
    for failure in (FAILED, FAILED, PASSED, PASSED, FAILED, FAILED):
        roll_up(failure, dedup_window=DAY)
    assert len(sent_todos(bzctrl)) == 2


@pytest.mark.usefixtures("connection")
def test_roll_up_of_one_map_index_does_not_end_the_window_of_another(bzctrl, variables):
    """In a mapped task group, the checks of each index fail and pass for themselves."""
    for failure, index in ((FAILED, 0), (PASSED, 1), (FAILED, 0)):
        roll_up(failure, map_index=index, dedup_window=DAY)
    assert len(sent_todos(bzctrl)) == 1


@pytest.mark.usefixtures("connection")
def test_roll_up_without_a_window_keeps_nothing(bzctrl, variables, monkeypatch):
    """Neither a Variable is read nor written for the outcome of its checks."""
    monkeypatch.setattr(LastPass, "_write", lambda *_, **__: 1 / 0)
    for parameters in ({}, {"consecutive_failures": 1}):
        assert roll_up(PASSED, **parameters) == "No check failed: there is nothing to raise."
        roll_up(FAILED, **parameters)
    assert not [name for name in variables if "__passed__" in name]


@pytest.mark.usefixtures("connection")
def test_create_todo_of_a_successful_run_keeps_its_window(bzctrl, variables):
    """Its todo may be no failure at all, so a success says nothing about it."""
    for run_id in ("a", "b"):
        operator = CreateTodoOperator(task_id="t", title="t", description="d", order_id="r", dedup_window=DAY)
        operator.execute(new_task_context(ti=TaskInstance(succeeded_at=soon(), max_tries=0), run_id=run_id))
    assert len(sent_todos(bzctrl)) == 1


def test_last_pass_first_pass_after_a_failure_is_kept(variables):
    """Further passes write nothing; the next failure keeps the time."""
    times = iter([NOW, NOW + HOUR, NOW + 2 * HOUR])
    last_pass = LastPass("customs", "raise_incident", now=lambda: next(times))
    last_pass.note_pass()
    assert not variables
    last_pass.note_failure()
    last_pass.note_failure()
    assert last_pass(if_unknown=None) is None
    last_pass.note_pass()
    last_pass.note_pass()
    assert last_pass(if_unknown=None) == NOW + HOUR
    last_pass.note_failure()
    assert last_pass(if_unknown=None) == NOW + HOUR
    assert json.loads(next(iter(variables.values())))["created_at"] == (NOW + 2 * HOUR).isoformat()


def test_last_pass_invalid_variable_is_none(variables):
    """Others can write Variables, too."""
    last_pass = LastPass("customs", "raise_incident")
    last_pass.note_failure()
    (name,) = variables
    for passed_at in (1, "x", "2026-11-21T06:00:00"):
        variables[name] = json.dumps({"passed_at": passed_at})
        assert last_pass(if_unknown=NOW) is None
    for text in ("", "x", "[]"):
        variables[name] = text
        assert last_pass(if_unknown=NOW) is None


def test_last_pass_without_variables_is_unknown_and_raises_nothing(break_variables, caplog):
    """The caller decides what an unknown success is."""
    last_pass = LastPass("customs", "raise_incident")
    last_pass.note_failure()
    last_pass.note_pass()
    assert last_pass(if_unknown=NOW) == NOW
    assert "Skipped the memory of the outcome of the checks" in caplog.text


def test_last_success_is_looked_up_at_most_once(set_airflow_version):
    """The count and the window ask for the same one."""
    set_airflow_version(3, 2)
    asked = []
    ti = TaskInstance(get_previous_ti=lambda **given: asked.append(given))
    last_success = LastSuccess(
        {"ti": ti, "dag": new_dag()}, Failure(kind="task", dag_id="customs", run_id="r")
    )
    assert not asked
    assert [last_success(if_unknown=NOW), last_success(if_unknown=NOW)] == [None, None]
    assert len(asked) == 1
