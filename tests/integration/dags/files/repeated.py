"""DAGs whose check fails or passes as the environment says, for the tests of failures that repeat."""

from __future__ import annotations

import datetime as dt
import os

from airflow.providers.common.compat.sdk import DAG, task

from bzctrl_provider.notifications.bzctrl import BzCtrlNotifier
from bzctrl_provider.operators.bzctrl import IncidentOnFailureOperator

ARGS = {"schedule": None, "start_date": dt.datetime(2026, 1, 1, tzinfo=dt.UTC)}
PARAMETERS = {"dedup_window": dt.timedelta(days=1), "consecutive_failures": 2}
NOTIFIER = BzCtrlNotifier(**PARAMETERS)


@task
def check() -> None:
    if os.environ["OUTCOME"] == "fail":
        raise ValueError("the totals differ by 12.50")


@task(trigger_rule="all_done")
def mask() -> None:
    """Make the run successful, whatever the check did."""


with DAG("repeated_of_a_task", default_args={"on_failure_callback": NOTIFIER}, **ARGS) as repeated_of_a_task:
    check()

with DAG(
    "repeated_of_a_masked_task", default_args={"on_failure_callback": NOTIFIER}, **ARGS
) as repeated_of_a_masked_task:
    check() >> mask()

with DAG("repeated_of_a_run", on_failure_callback=NOTIFIER, **ARGS) as repeated_of_a_run:
    check()

with DAG("repeated_of_a_roll_up", **ARGS) as repeated_of_a_roll_up:
    check() >> [mask(), IncidentOnFailureOperator(task_id="raise_incident", **PARAMETERS)]
