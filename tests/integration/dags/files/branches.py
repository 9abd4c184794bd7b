"""DAGs in which a branch is directly before a roll-up, and would skip it; the check ``totals`` fails in most."""

from __future__ import annotations

import datetime as dt

from airflow.providers.common.compat.sdk import (
    DAG,
    BaseBranchOperator,
    BaseOperator,
    SkipMixin,
    TaskGroup,
    task,
    task_group,
)

from bzctrl_provider import policy
from bzctrl_provider.airflow_compat import airflow_at_least
from bzctrl_provider.operators.bzctrl import IncidentOnFailureOperator

ARGS = {"schedule": None, "start_date": dt.datetime(2026, 1, 1, tzinfo=dt.UTC)}


class Branch(BaseBranchOperator):
    """A branch that chooses what it is given; an empty list is the choice of ``LatestOnlyOperator`` in an old run."""

    def __init__(self, choice=None, **kwargs):
        super().__init__(**{"task_id": "branch", **kwargs})
        self.choice = choice

    def choose_branch(self, context):
        """Return the choice, or raise it."""
        if isinstance(self.choice, Exception):
            raise self.choice
        return self.choice


class SkipsAll(BaseOperator, SkipMixin):
    """An operator that skips all tasks directly after it by itself."""

    inherits_from_skipmixin = True

    def execute(self, context):
        """Skip them."""
        run = {"ti": context["ti"]}
        if not airflow_at_least(3, 0):
            dag_run = context["dag_run"]
            run = {"dag_run": dag_run, "execution_date": dag_run.execution_date}
        self.skip(**run, tasks=self.downstream_list)


@task
def passes() -> None:
    pass


@task
def fails() -> None:
    raise ValueError("the totals differ by 12.50")


def new_roll_up(**kwargs):
    return IncidentOnFailureOperator(task_id="raise_incident", **kwargs)


def new_dag(name, branch, *, check=fails, connect=None):
    """Return a DAG with a check, and a branch before ``load``, ``other`` and the roll-up."""
    with DAG(f"branch_{name}", **ARGS) as dag:
        totals = check.override(task_id="totals")()
        first = branch()
        first >> [passes.override(task_id="load")(), passes.override(task_id="other")()]
        if connect:
            connect(dag, [totals, first])
        else:
            [totals, first] >> new_roll_up()
    return dag


@task.branch(task_id="branch")
def decorated_branch():
    return "load"


@task.short_circuit(task_id="branch", ignore_downstream_trigger_rules=False)
def decorated_short_circuit():
    return False


def connect_from_the_branch(_, tasks):
    roll_up = new_roll_up()
    for each in tasks:
        each.set_downstream(roll_up)


def connect_all(dag, _):
    list(dag.tasks) >> new_roll_up()


def connect_a_group_of_it(dag, tasks):
    with TaskGroup("report") as report:
        new_roll_up()
    tasks >> report
    policy.dag_policy(dag)


def connect_mapped(dag, tasks):
    mapped = IncidentOnFailureOperator.partial(task_id="raise_incident").expand(impact=["HIGH"])
    tasks >> mapped
    policy.dag_policy(dag)


def choose_load():
    return Branch(choice="load")


ids = new_dag("chooses_an_id", choose_load)
nothing = new_dag("chooses_nothing", lambda: Branch(choice=None))
decorated = new_dag("decorated", decorated_branch)
short_circuit = new_dag("short_circuit", decorated_short_circuit)
skips_itself = new_dag("skips_itself", lambda: SkipsAll(task_id="branch"))
from_the_branch = new_dag("from_the_branch", choose_load, connect=connect_from_the_branch)
all_tasks = new_dag("all_tasks", lambda: Branch(choice=[]), connect=connect_all)
group_of_it = new_dag("group_of_it", choose_load, connect=connect_a_group_of_it)
mapped = new_dag("mapped", choose_load, connect=connect_mapped)

only_a_skip = new_dag("only_a_skip", choose_load, check=passes)
fails_itself = new_dag("fails_itself", lambda: Branch(choice=ValueError("no branch")), check=passes)

with DAG("branch_in_mapped_group", **ARGS) as in_mapped_group:

    @task
    def is_not_two(value: int) -> None:
        if value == 2:
            raise ValueError("the number is two")

    @task_group
    def of_one_number(number: int) -> None:
        """Check one number, beside a branch, with a roll-up of its own."""
        branch = Branch(choice="of_one_number.load")
        branch >> passes.override(task_id="load")()
        [is_not_two(number), branch] >> new_roll_up()

    of_one_number.expand(number=[1, 2])

with DAG("branch_after_mapped_group", **ARGS) as after_mapped_group:

    @task_group
    def branch_of_one_number(number: int) -> None:
        """Check one number, beside a branch."""
        is_not_two(number)
        Branch(choice=None) >> passes.override(task_id="load")()

    [branch_of_one_number.expand(number=[1, 2]), Branch(choice=None)] >> new_roll_up()
