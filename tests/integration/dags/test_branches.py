from __future__ import annotations

from pathlib import Path

import pytest

FILE = Path(__file__).parent / "files" / "branches.py"


@pytest.mark.parametrize(
    ("name", "skipped", "failed"),
    [
        ("ids", {"other"}, "1 of 2 checks failed (totals)"),
        ("nothing", {"load", "other"}, "1 of 2 checks failed (totals)"),
        ("decorated", {"other"}, "1 of 2 checks failed (totals)"),
        ("short_circuit", {"load", "other"}, "1 of 2 checks failed (totals)"),
        ("skips_itself", {"load", "other"}, "1 of 2 checks failed (totals)"),
        ("from_the_branch", {"other"}, "1 of 2 checks failed (totals)"),
        ("all_tasks", {"load", "other"}, "1 of 4 checks failed (totals)"),
        ("group_of_it", {"other"}, "1 of 2 checks failed (totals)"),
        ("mapped", {"other"}, "1 of 2 checks failed (totals)"),
        ("fails_itself", set(), "1 of 2 checks failed (branch)"),
    ],
)
def test_roll_up_after_a_branch_that_would_skip_it_raises_the_incident(
    run, bzctrl_sandbox, name, skipped, failed
):
    """There is one incident for each choice and each way to connect them, and the branch skips only its other tasks."""
    dag_run, tis = run(FILE, name)
    assert str(dag_run.state) == "failed"
    (todo,) = bzctrl_sandbox.todos
    assert todo["title"] == f"{dag_run.dag_id}: {failed}"
    assert {task_id for task_id, of in tis.items() if str(of[0].state) == "skipped"} == skipped


def test_roll_up_beside_a_branch_in_a_mapped_group_raises_the_incident_of_its_index(run, bzctrl_sandbox):
    """The branch of each instance keeps the roll-up of that instance from being skipped."""
    _, tis = run(FILE, "in_mapped_group")
    assert [str(ti.state) for ti in tis["of_one_number.raise_incident"]] == ["skipped", "success"]
    (todo,) = bzctrl_sandbox.todos
    assert "- of_one_number.is_not_two[1] (@task): failed" in todo["description"]


def test_roll_up_after_a_mapped_group_with_a_branch_raises_the_incident(run, bzctrl_sandbox):
    """It is after that branch and after another one, and both would skip it."""
    run(FILE, "after_mapped_group")
    (todo,) = bzctrl_sandbox.todos
    assert (
        todo["title"] == "branch_after_mapped_group: 1 of 3 checks failed (branch_of_one_number.is_not_two)"
    )


def test_roll_up_after_a_branch_that_skips_it_and_no_failure_raises_nothing(run, bzctrl_sandbox):
    """A skip is no failure."""
    dag_run, tis = run(FILE, "only_a_skip")
    assert str(dag_run.state) == "success"
    assert [str(ti.state) for ti in tis["raise_incident"]] == ["skipped"]
    assert bzctrl_sandbox.requests == []
