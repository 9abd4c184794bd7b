from __future__ import annotations

from pathlib import Path

import pytest
from support.airflow_versions import VERSION

from bzctrl_provider.settings import settings

FILE = Path(__file__).parent / "files" / "callbacks.py"


def test_notifier_of_a_task_raises_one_for_it(run, bzctrl_sandbox):
    """One for the task that failed, none for the other."""
    dag_run, _ = run(FILE, "of_a_task")
    (todo,) = bzctrl_sandbox.todos
    assert todo["title"] == "of_a_task: totals failed"
    assert todo["priority"] == "HIGH"
    assert todo["orderID"] == dag_run.run_id


def test_notifier_of_a_dag_raises_one_for_the_run(run, bzctrl_sandbox):
    """Its templates are rendered, although the DAG of `dag.test()` has no Jinja environment."""
    run(FILE, "of_a_run")
    (todo,) = bzctrl_sandbox.todos
    assert todo["title"] == "of_a_run failed"


def test_notifier_of_a_dag_names_the_failed_tasks_if_airflow_can_be_asked(run, bzctrl_sandbox):
    """Without a single argument; under `dag.test()` of Airflow 3 there is nothing to ask, so it only names the run."""
    run(FILE, "of_a_run_by_itself")
    (todo,) = bzctrl_sandbox.todos
    known = "1 of 2 tasks failed (totals)" if VERSION < (3, 0) else "the run failed"
    assert todo["title"] == f"of_a_run_by_itself: {known}"


@pytest.mark.parametrize(
    ("dag", "is_marked"),
    [("of_a_task", VERSION >= (3, 1)), ("of_a_run", False), ("of_a_run_by_itself", False)],
)
def test_notifier_in_a_test_run_sends_nothing_if_airflow_marks_it(
    run, bzctrl_sandbox, capfd, caplog, monkeypatch, dag, is_marked
):
    """A developer sees in the log what the incident would have been; without a mark, the run counts as a real one."""
    monkeypatch.delenv("AIRFLOW__BZCTRL__IN_TEST_RUNS")
    settings.cache_clear()
    run(FILE, dag)
    assert len(bzctrl_sandbox.todos) == (0 if is_marked else 1)
    if not is_marked:
        return
    assert bzctrl_sandbox.requests == []
    out, err = capfd.readouterr()
    log = out + err + caplog.text
    assert (
        "No incident: this is a test run, from which callbacks send nothing to BzCtrl unless in_test_runs = True"
        in log
    )
    assert f"{dag}" in log.partition("it would have been ")[2]


def test_notifier_after_other_ends_says_what_happened(run, bzctrl_sandbox):
    """A success, a skip, a retry, a mapped retry, a start and Cosmos' warnings: no text says that something failed."""
    dag_run, _ = run(FILE, "other_ends")
    assert str(dag_run.state) == "success"
    todos = {todo["title"].removeprefix("other_ends: "): todo["description"] for todo in bzctrl_sandbox.todos}
    assert sorted(todos) == [
        "dbt has 2 warnings (not_null_orders_amount, unique_orders_id)",
        "executes is running",
        "fails_first is tried again",
        "mapped[1] is tried again",
        "passes succeeded",
        "skips was skipped",
        "the run succeeded",
        "waits was skipped",
    ]
    assert not [text for text in todos.values() if "failed" in text or "Did not run" in text]
    lines = todos["dbt has 2 warnings (not_null_orders_amount, unique_orders_id)"].splitlines()
    assert "- dbt (DbtTest): warned" in lines
    assert "  not_null_orders_amount: Got 2 results, configured to warn if != 0" in lines
    assert "  unique_orders_id" in lines
