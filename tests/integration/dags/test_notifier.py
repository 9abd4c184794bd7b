from __future__ import annotations

from pathlib import Path

from support.airflow_versions import VERSION

FILE = Path(__file__).parent / "files" / "callbacks.py"


def test_the_callback_of_a_task_raises_an_incident_for_it(run, bzctrl_sandbox):
    """One for the task that failed, none for the other."""
    dag_run, _ = run(FILE, "of_a_task")
    (todo,) = bzctrl_sandbox.todos
    assert todo["title"] == "of_a_task: totals failed"
    assert todo["priority"] == "HIGH"
    assert todo["orderID"] == dag_run.run_id


def test_the_callback_of_a_dag_raises_an_incident_for_the_run(run, bzctrl_sandbox):
    """Its templates are rendered, although the DAG of `dag.test()` has no Jinja environment."""
    run(FILE, "of_a_run")
    (todo,) = bzctrl_sandbox.todos
    assert todo["title"] == "of_a_run failed"


def test_the_callback_of_a_dag_tells_which_tasks_failed_where_it_can(run, bzctrl_sandbox):
    """Without a single argument; under `dag.test()` Airflow 3 has nobody to ask, so the run alone is told."""
    run(FILE, "of_a_run_by_itself")
    (todo,) = bzctrl_sandbox.todos
    known = "1 of 2 tasks failed (totals)" if VERSION < (3, 0) else "the run failed"
    assert todo["title"] == f"of_a_run_by_itself: {known}"
