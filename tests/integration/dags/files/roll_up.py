"""DAGs for the tests of IncidentOnFailureOperator."""

from __future__ import annotations

import datetime as dt

from airflow.providers.common.compat.sdk import DAG, TaskGroup, Variable, task, task_group

from bzctrl_provider.operators.bzctrl import CreateTodoOperator, IncidentOnFailureOperator

ARGS = {"schedule": None, "start_date": dt.datetime(2026, 1, 1, tzinfo=dt.UTC)}


@task
def passes() -> None:
    pass


@task
def fails() -> None:
    raise ValueError("the totals differ by 12.50")


with DAG("one_failed", **ARGS) as one_failed:
    [fails.override(task_id="totals")(), passes.override(task_id="amounts")()] >> IncidentOnFailureOperator(
        task_id="raise_incident"
    )

with DAG("none_failed", **ARGS) as none_failed:
    [passes.override(task_id="totals")(), passes.override(task_id="amounts")()] >> IncidentOnFailureOperator(
        task_id="raise_incident"
    )

with DAG("crashes", **ARGS) as crashes:
    fails.override(task_id="totals")() >> IncidentOnFailureOperator(
        task_id="raise_incident", bzctrl_conn_id="not_there", retries=0
    )

with DAG("mapped_and_grouped", **ARGS) as mapped_and_grouped:

    @task
    def odd_fails(number: int) -> None:
        if number % 2:
            raise ValueError(f"number {number} is odd\nand that is no even number")

    with TaskGroup("checks") as checks:
        odd_fails.override(task_id="validate").expand(number=[0, 1, 2, 3, 4])
        passes.override(task_id="validate_1")()
        fails.override(task_id="totals")()
    checks >> IncidentOnFailureOperator(
        task_id="raise_incident",
        description="{{ failure.task_ids | join(', ') }}\n{{ failure.description }}",
        lrn="{{ failure.tasks | length }}",
    )

with DAG("before_the_checks", **ARGS) as before_the_checks:
    load = fails.override(task_id="load")()
    both = [passes.override(task_id="totals")(), passes.override(task_id="amounts")()]
    load >> both >> IncidentOnFailureOperator(task_id="raise_incident")

with DAG("beside", **ARGS) as beside:
    first, second = fails.override(task_id="first")(), passes.override(task_id="second")()
    [first, second] >> IncidentOnFailureOperator(task_id="raise_incident")
    first >> passes.override(task_id="load")()

with DAG("dealt_with", **ARGS) as dealt_with:
    (
        fails.override(task_id="try_the_fast_way")()
        >> passes.override(task_id="slow_way", trigger_rule="all_done")()
        >> IncidentOnFailureOperator(task_id="raise_incident")
    )

with DAG("mapped_roll_up", **ARGS) as mapped_roll_up:
    fails.override(task_id="totals")() >> IncidentOnFailureOperator.partial(
        task_id="raise_incident", title="{{ task.domain_workspace }}: {{ failure.summary }}"
    ).expand(domain_workspace=["EXA-ONE", "EXA-TWO"])

with DAG("fixed", **ARGS) as fixed:

    @task
    def fails_once() -> None:
        if Variable.get("bzctrl_test_fixed", "no") == "no":
            raise ValueError("not fixed yet")

    fails_once.override(task_id="totals")() >> IncidentOnFailureOperator(task_id="raise_incident")

with DAG("create_todo_after_a_failure", **ARGS) as create_todo_after_a_failure:
    fails.override(task_id="totals")() >> CreateTodoOperator(
        task_id="raise_incident", trigger_rule="one_failed"
    )

with DAG("in_mapped_group", **ARGS) as in_mapped_group:

    @task
    def is_not_two(value: int) -> None:
        if value == 2:
            raise ValueError("the number is two")

    @task_group
    def of_one_number(number: int) -> None:
        """Check one number, with a roll-up of its own."""
        is_not_two(number) >> IncidentOnFailureOperator(task_id="raise_incident")

    of_one_number.expand(number=[0, 1, 2, 3])

with DAG("before_a_mapped_group", **ARGS) as before_a_mapped_group:

    @task
    def list_numbers() -> list[int]:
        return [0, 1, 2]

    @task_group
    def of_each_number(number: int) -> None:
        """Check one number of a list that a task returns."""
        is_not_two.override(task_id="check")(number) >> IncidentOnFailureOperator(task_id="raise_incident")

    numbers = list_numbers()
    numbers >> fails.override(task_id="load")() >> of_each_number.expand(number=numbers)
