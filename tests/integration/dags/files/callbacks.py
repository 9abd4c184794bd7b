"""DAGs for the tests of BzCtrlNotifier."""

from __future__ import annotations

import datetime as dt
from typing import Any

from airflow.providers.common.compat.sdk import (
    DAG,
    AirflowSkipException,
    BaseOperator,
    BaseSensorOperator,
    task,
)

from bzctrl_provider.notifications.bzctrl import BzCtrlNotifier

ARGS = {"schedule": None, "start_date": dt.datetime(2026, 1, 1, tzinfo=dt.UTC)}


@task
def passes() -> None:
    pass


@task
def fails() -> None:
    raise ValueError("the totals differ by 12.50")


with DAG(
    "of_a_task", default_args={"on_failure_callback": BzCtrlNotifier(priority="HIGH")}, **ARGS
) as of_a_task:
    [fails.override(task_id="totals")(), passes.override(task_id="amounts")()]

with DAG("of_a_run", on_failure_callback=BzCtrlNotifier(title="{{ dag.dag_id }} failed"), **ARGS) as of_a_run:
    fails.override(task_id="totals")()

with DAG("of_a_run_by_itself", on_failure_callback=[BzCtrlNotifier()], **ARGS) as of_a_run_by_itself:
    fails.override(task_id="totals")()
    passes.override(task_id="amounts")()


CALLBACKS: Any = {
    f"on_{event}_callback": BzCtrlNotifier(on_retry=True)
    for event in ("success", "skipped", "retry", "failure")
}
"""Each has the text of what happened."""


@task
def skips() -> None:
    raise AirflowSkipException


@task
def fails_first(ti: Any = None) -> None:
    if ti.try_number == 1:
        raise ValueError("the first try")


@task
def fails_first_if(this: bool, ti: Any = None) -> None:
    if this and ti.try_number == 1:
        raise ValueError("the first try")


class Waits(BaseSensorOperator):
    """Waits for what does not come, and is skipped."""

    def poke(self, context: Any) -> bool:
        return False


class DbtTest(BaseOperator):
    """Calls back for warnings as the operators of Astronomer Cosmos do: while the task runs, with a copy of its context."""

    def __init__(self, *, on_warning_callback: Any, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.on_warning_callback = on_warning_callback

    def execute(self, context: Any) -> None:
        warned: Any = dict(context.items())
        warned["test_names"] = ["not_null_orders_amount", "unique_orders_id"]
        warned["test_results"] = ["Got 2 results, configured to warn if != 0", None]
        self.on_warning_callback(warned)


TWICE: Any = {"retries": 1, "retry_delay": dt.timedelta(0)}

with DAG(
    "other_ends",
    on_success_callback=BzCtrlNotifier(),
    on_failure_callback=BzCtrlNotifier(),
    default_args=CALLBACKS,
    **ARGS,
) as other_ends:
    passes.override(task_id="passes")() >> [
        passes.override(task_id="executes", on_execute_callback=BzCtrlNotifier(), on_success_callback=None)(),
        skips.override(task_id="skips")(),
        fails_first.override(task_id="fails_first", on_success_callback=None, **TWICE)(),
        fails_first_if.override(task_id="mapped", on_success_callback=None, **TWICE).expand(
            this=[False, True]
        ),
        Waits(task_id="waits", mode="reschedule", timeout=0, poke_interval=0, soft_fail=True),
        DbtTest(task_id="dbt", on_warning_callback=BzCtrlNotifier(), on_success_callback=None),
    ]

with DAG("deferred", **ARGS) as deferred:
    load = passes.override(task_id="load", on_failure_callback=BzCtrlNotifier())()
    load >> passes.override(task_id="publish")()
