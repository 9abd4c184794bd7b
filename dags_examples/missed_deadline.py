"""An incident for a late run, raised while the run is still running.

Use case: the feed has to be complete 15 minutes after the hour. If the run takes longer, somebody has to act before the run
ends. Airflow 3.1 and newer call ``BzCtrlNotifier`` in the triggerer for a ``DeadlineAlert``; it raises the incident without
blocking the triggerer.

Good to know:

* Airflow creates the notifier from the class and the ``kwargs``. Its context has the run as a mapping, and the deadline:
  ``{{ dag_run.dag_id }}``, ``{{ deadline.deadline_time }}``.
* A missed deadline does not fail the run. Airflow calls the alert also for a run that failed before its deadline, for which
  the notifier raises nothing: use a callback or an operator for failures as well.
* Older versions of Airflow have no deadlines; there, this DAG has none.

It needs the connection ``bzctrl_default``.
"""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any

from airflow.providers.common.compat.sdk import DAG, task
from airflow.providers.common.compat.version_compat import AIRFLOW_V_3_1_PLUS

from bzctrl_provider.notifications.bzctrl import BzCtrlNotifier

deadline: dict[str, Any] = {}
if AIRFLOW_V_3_1_PLUS:
    from airflow.sdk.definitions.deadline import (  # type: ignore[attr-defined]  # 3.1 has all three here
        AsyncCallback,
        DeadlineAlert,
        DeadlineReference,
    )

    deadline["deadline"] = DeadlineAlert(
        reference=DeadlineReference.DAGRUN_QUEUED_AT,
        interval=timedelta(seconds=15),
        callback=AsyncCallback(
            BzCtrlNotifier,
            kwargs={
                "title": "{{ dag_run.dag_id }} is late",
                "description": "It should have ended by {{ deadline.deadline_time }}.\nRun: {{ dag_run.dag_run_id }}",
                "priority": "HIGH",
            },
        ),
    )


with DAG(
    dag_id="missed_deadline",
    schedule=None,
    start_date=datetime(2026, 1, 1, tzinfo=UTC),
    catchup=False,
    tags=["bzctrl", "example"],
    doc_md=__doc__,
    params={"seconds": 40},
    **deadline,
) as dag:

    @task.bash
    def wait_for_the_feed() -> str:
        """Take longer than there is time."""
        return "sleep {{ params.seconds }}"

    wait_for_the_feed()
