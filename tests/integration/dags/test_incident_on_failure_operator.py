from __future__ import annotations

from pathlib import Path

import pytest
from support.airflow_versions import CALLBACKS_HAVE_THE_EXCEPTION
from support.store import read

from bzctrl_provider.outbox import deliver
from bzctrl_provider.settings import settings
from bzctrl_provider.store.database import database

FILE = Path(__file__).parent / "files" / "roll_up.py"


def get_state(tis, task_id="raise_incident"):
    return [str(ti.state) for ti in tis[task_id]]


def test_incident_operator_failed_check_raises_one_and_run_stays_failed(run, bzctrl_sandbox):
    """The roll-up succeeds, is the only last task, and masks nothing; title and description are written by themselves."""
    dag_run, tis = run(FILE, "one_failed")
    assert str(dag_run.state) == "failed"
    assert get_state(tis) == ["success"]
    (todo,) = bzctrl_sandbox.todos
    assert todo["title"] == "one_failed: 1 of 2 checks failed (totals)"
    assert todo["description"].startswith(
        "In the DAG one_failed, 1 of 2 checks failed.\n\n- totals (@task): failed\n"
    )
    assert f"\nRun: {dag_run.run_id}\n" in todo["description"]
    assert todo["orderID"] == dag_run.run_id


def test_incident_operator_no_failure_raises_nothing(run, bzctrl_sandbox):
    """The roll-up is skipped, the run succeeds, and BzCtrl hears nothing."""
    dag_run, tis = run(FILE, "none_failed")
    assert str(dag_run.state) == "success"
    assert get_state(tis) == ["skipped"]
    assert bzctrl_sandbox.requests == []


def test_incident_operator_that_queues_its_incident_leaves_the_run_failed(run, bzctrl_sandbox):
    """Its last try puts the incident into the outbox and succeeds; the run is failed, and the first delivery creates one todo."""
    dag_run, tis = run(FILE, "crashes")
    assert str(dag_run.state) == "failed"
    assert get_state(tis) == ["success"]
    result = tis["raise_incident"][0].xcom_pull(task_ids="raise_incident")
    assert (result["queued"], result["key"], result["link"]) == (True, None, None)
    assert bzctrl_sandbox.todos == []
    (waiting,) = read(database())
    assert (waiting.bzctrl_conn_id, waiting.facts["run_id"]) == ("not_there", dag_run.run_id)
    assert len(deliver(bzctrl_conn_id="bzctrl_default", ignore_pauses=True).created) == 1
    (todo,) = bzctrl_sandbox.todos
    assert todo["title"] == "crashes: totals failed"


def test_incident_operator_that_loses_its_incident_leaves_the_run_failed(run, bzctrl_sandbox, monkeypatch):
    """An incident that can neither be raised nor be put into the outbox hides nothing either."""
    monkeypatch.setenv("AIRFLOW__BZCTRL__DATABASE", "sqlite:////dev/null/bzctrl.db")
    settings.cache_clear()
    dag_run, tis = run(FILE, "crashes")
    assert str(dag_run.state) == "failed"
    assert get_state(tis) == ["failed"]
    assert bzctrl_sandbox.todos == []


def test_incident_operator_mapped_and_grouped_checks_have_their_exceptions(run, bzctrl_sandbox):
    """Mapped failures share a line, a task that looks like an instance is none, and the incident has the stored exceptions."""
    dag_run, _ = run(FILE, "mapped_and_grouped")
    assert str(dag_run.state) == "failed"
    (todo,) = bzctrl_sandbox.todos
    assert todo["title"] == "mapped_and_grouped: 2 of 3 checks failed (checks.totals, checks.validate)"
    assert todo["lrn"] == "3"
    lines = todo["description"].splitlines()
    assert lines[0] == "checks.totals, checks.validate"
    assert "- checks.totals (@task): failed" in lines
    assert "- checks.validate (@task): 2 of 5 mapped failed (1, 3)" in lines
    if CALLBACKS_HAVE_THE_EXCEPTION:
        assert "  ValueError: the totals differ by 12.50" in lines
        assert "  [1] ValueError: number 1 is odd" in lines
        assert "  and that is no even number" in lines


def test_incident_operator_failure_before_the_checks_raises_one(run, bzctrl_sandbox):
    """Checks that could not run are no good news: the task before them is named."""
    _dag_run, tis = run(FILE, "before_the_checks")
    assert get_state(tis) == ["success"]
    (todo,) = bzctrl_sandbox.todos
    assert todo["title"] == "before_the_checks: 1 task failed, so that 2 of 2 checks did not run (load)"


def test_task_after_one_check_is_beside_the_operator(run, bzctrl_sandbox):
    """`first >> load` beside `[first, second] >> raise_incident`: load is upstream_failed, one incident is raised."""
    dag_run, tis = run(FILE, "beside")
    assert str(dag_run.state) == "failed"
    assert get_state(tis, "load") == ["upstream_failed"]
    assert len(bzctrl_sandbox.todos) == 1


def test_incident_operator_handled_failure_raises_nothing(run, bzctrl_sandbox):
    """Behind a task that runs whatever happened and succeeds, there is nothing to raise."""
    _dag_run, tis = run(FILE, "dealt_with")
    assert get_state(tis) == ["skipped"]
    assert bzctrl_sandbox.todos == []


def test_incident_operator_mapped_raises_one_per_instance(run, bzctrl_sandbox):
    """One incident for each workspace, with `failure` in the templates of each, and the run stays failed."""
    dag_run, tis = run(FILE, "mapped_roll_up")
    assert str(dag_run.state) == "failed"
    assert get_state(tis) == ["success", "success"]
    assert sorted(todo["title"] for todo in bzctrl_sandbox.todos) == [
        "EXA-ONE: mapped_roll_up: totals failed",
        "EXA-TWO: mapped_roll_up: totals failed",
    ]


@pytest.mark.parametrize(("fixed", "state", "todos"), [("no", "success", 1), ("yes", "skipped", 0)])
def test_incident_operator_check_that_passes_after_clear_raises_nothing(
    run, bzctrl_sandbox, monkeypatch, fixed, state, todos
):
    """The same DAG raises while the check fails, and is skipped once it passes."""
    monkeypatch.setenv("AIRFLOW_VAR_BZCTRL_TEST_FIXED", fixed)
    _, tis = run(FILE, "fixed")
    assert get_state(tis) == [state]
    assert len(bzctrl_sandbox.todos) == todos


def test_create_todo_operator_after_a_failure_describes_it(run, bzctrl_sandbox):
    """CreateTodoOperator without a title writes it from what failed before it."""
    run(FILE, "create_todo_after_a_failure")
    (todo,) = bzctrl_sandbox.todos
    assert todo["title"] == "create_todo_after_a_failure: totals failed"


def test_roll_up_in_mapped_group_one_failure_raises_one_incident(run, bzctrl_sandbox):
    """Four instances of a task group, of which one fails: one incident, and three skipped roll-ups."""
    dag_run, tis = run(FILE, "in_mapped_group")
    assert str(dag_run.state) == "failed"
    assert get_state(tis, "of_one_number.raise_incident") == ["skipped", "skipped", "success", "skipped"]
    (todo,) = bzctrl_sandbox.todos
    assert "- of_one_number.is_not_two[2] (@task): failed" in todo["description"]


def test_roll_up_in_mapped_group_failure_before_the_group_raises_one_incident(run, bzctrl_sandbox):
    """The checks were not mapped because of the failure; the first instance of the roll-up raises, the others are skipped."""
    dag_run, tis = run(FILE, "before_a_mapped_group")
    assert str(dag_run.state) == "failed"
    assert [ti.map_index for ti in tis["of_each_number.check"]] == [-1]
    assert get_state(tis, "of_each_number.raise_incident") == ["success", "skipped", "skipped"]
    (todo,) = bzctrl_sandbox.todos
    assert todo["title"] == "before_a_mapped_group: 1 task failed, so that the check did not run (load)"
