"""DAGs for the tests of BzCtrlNotifier."""

from __future__ import annotations

import datetime as dt

from airflow.providers.common.compat.sdk import DAG, task

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
