from __future__ import annotations

import copy

import pytest
from airflow.providers.common.compat.sdk import DAG, BaseOperator, TaskGroup

from bzctrl_provider import policy
from bzctrl_provider.failure.dag_graph import keep_from_skipping
from bzctrl_provider.operators.bzctrl import IncidentOnFailureOperator


class Branch(BaseOperator):
    """A task that notes what it is to follow and to skip."""

    def __init__(self, **kwargs):
        super().__init__(**{"task_id": "branch", **kwargs})
        self.calls = []

    def skip_all_except(self, ti, branch_task_ids):
        self.calls.append(branch_task_ids)

    def skip(self, ti, tasks):
        self.calls.append(list(tasks))


@pytest.mark.parametrize(
    ("choice", "followed"),
    [
        (None, ["one", "two"]),
        ([], ["one", "two"]),
        ("load", ["load", "one", "two"]),
        (["load", "other"], ["load", "other", "one", "two"]),
        ((name for name in ["load"]), ["load", "one", "two"]),
        (5, 5),
    ],
)
def test_branch_follows_the_roll_ups_besides_its_choice(choice, followed):
    """Each choice has them at its end; an invalid one stays, so that Airflow's own error says what a branch may return."""
    branch = Branch()
    for roll_up in ("two", "one", "two"):
        keep_from_skipping([branch, object()], roll_up)
    branch.skip_all_except("ti", choice)
    assert branch.calls == [followed]


def test_task_that_skips_what_it_names_skips_no_roll_up():
    """Its arguments have names or none, and what has no task id is passed on."""
    with DAG("d", schedule=None):
        load, roll_up = BaseOperator(task_id="load"), IncidentOnFailureOperator(task_id="raise_incident")
    branch = Branch()
    keep_from_skipping([branch], roll_up.task_id)
    branch.skip("ti", iter([load, roll_up]))
    branch.skip(ti="ti", tasks=[roll_up, "group"])
    assert branch.calls == [[load], ["group"]]


def test_error_of_a_branch_stays_its_error():
    """A choice that raises while it is read fails the branch as before."""

    def choose():
        yield "load"
        raise TypeError("no choice")

    branch = Branch()
    keep_from_skipping([branch], "raise_incident")
    with pytest.raises(TypeError, match="no choice"):
        branch.skip_all_except("ti", choose())
    assert branch.calls == []


def test_roll_up_is_kept_from_being_skipped_however_it_is_connected():
    """Both directions, a task group before it, a task group around it and a mapped one; a copy of the branch knows it, too."""
    branches = []

    def new_branch():
        branches.append(Branch(task_id=f"branch_{len(branches)}"))
        return branches[-1]

    with DAG("d", schedule=None) as dag:
        new_branch() >> IncidentOnFailureOperator(task_id="r0")
        [new_branch()] >> IncidentOnFailureOperator(task_id="r1")
        with TaskGroup("checks", prefix_group_id=False) as checks:
            new_branch()
        checks >> IncidentOnFailureOperator(task_id="r2")
        with TaskGroup("report", prefix_group_id=False) as report:
            IncidentOnFailureOperator(task_id="r3")
        new_branch() >> report
        new_branch() >> IncidentOnFailureOperator.partial(task_id="r4").expand(impact=["HIGH"])
    policy.dag_policy(dag)
    for task in (*branches, *map(copy.copy, branches), *map(copy.deepcopy, branches)):
        assert task.skip_all_except.__self__.roll_ups == {task.task_id.replace("branch_", "r")}
