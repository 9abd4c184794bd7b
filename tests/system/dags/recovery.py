"""DAGs whose runs fail on request: to be reported once until they succeed, or not at all in a backfill."""

from __future__ import annotations

import os
from datetime import UTC, datetime, timedelta
from pathlib import Path

from airflow.providers.common.compat.sdk import DAG, task

from bzctrl_provider.notifications.bzctrl import BzCtrlNotifier
from bzctrl_provider.operators.bzctrl import IncidentOnFailureOperator

DAY = timedelta(days=1)


def note(context):
    """Say that the callbacks before this one are done."""
    with (Path(os.environ["BZCTRL_TESTS_SHARED"]) / f"called_{context['dag'].dag_id}").open("a") as file:
        file.write(f"{context['run_id']}\n")


@task
def check(dag_run=None):
    if (dag_run.conf or {}).get("ends") != "success":
        raise ValueError("the totals differ")


def new_dag(dag_id, schedule=None, **arguments):
    return DAG(
        dag_id, schedule=schedule, start_date=datetime(2000, 1, 1, tzinfo=UTC), catchup=False, **arguments
    )


with new_dag("recovers_run", on_failure_callback=[BzCtrlNotifier(dedup_window=DAY), note]):
    check()

with new_dag("recovers_task", on_failure_callback=note):
    check.override(on_failure_callback=BzCtrlNotifier(dedup_window=DAY))()

with new_dag("recovers_checks", on_failure_callback=note):
    check() >> IncidentOnFailureOperator(task_id="raise_incident", dedup_window=DAY)

# Of a worker whose clock differs from that of the other components.
for queue in ("ahead", "behind"):
    with new_dag(f"recovers_{queue}", on_failure_callback=note):
        check.override(queue=queue, on_failure_callback=BzCtrlNotifier(dedup_window=DAY))()
    with new_dag(f"recovers_checks_{queue}", on_failure_callback=note):
        roll_up = IncidentOnFailureOperator(task_id="raise_incident", dedup_window=DAY, queue=queue)
        check.override(queue=queue)() >> roll_up

for name in ("backfilled_orders", "backfilled_declarations"):
    with new_dag(name, schedule="@yearly", tags=["policy"]):
        check()
