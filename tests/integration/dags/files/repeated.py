"""DAGs whose check fails or passes as the environment says, for the tests of failures that repeat."""

from __future__ import annotations

import datetime as dt
import os

from airflow.providers.common.compat.sdk import DAG, task

from bzctrl_provider.notifications.bzctrl import BzCtrlNotifier
from bzctrl_provider.operators.bzctrl import IncidentOnFailureOperator

ARGS = {"schedule": None, "start_date": dt.datetime(2026, 1, 1, tzinfo=dt.UTC)}
DAY = dt.timedelta(days=1)


@task
def check() -> None:
    if os.environ["OUTCOME"] == "fail":
        raise ValueError("the totals differ by 12.50")


@task(trigger_rule="all_done")
def mask() -> None:
    """Make the run successful, whatever the check did."""


for number in (None, 3):
    parameters = {"dedup_window": DAY, "consecutive_failures": number}
    notifier = BzCtrlNotifier(**parameters)
    end = f"_{number}" if number else ""

    with DAG(f"repeated_of_a_task{end}", default_args={"on_failure_callback": notifier}, **ARGS) as dag:
        check()
    globals()[dag.dag_id] = dag

    with DAG(
        f"repeated_of_a_masked_task{end}", default_args={"on_failure_callback": notifier}, **ARGS
    ) as dag:
        check() >> mask()
    globals()[dag.dag_id] = dag

    with DAG(f"repeated_of_a_run{end}", on_failure_callback=notifier, **ARGS) as dag:
        check()
    globals()[dag.dag_id] = dag

    with DAG(f"repeated_of_a_roll_up{end}", **ARGS) as dag:
        check() >> [mask(), IncidentOnFailureOperator(task_id="raise_incident", **parameters)]
    globals()[dag.dag_id] = dag
