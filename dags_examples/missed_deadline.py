"""An incident when a run is late, while it is still running.

The story: the feed has to be there by a quarter past. When the run takes longer than that, somebody has to know now, not
when it has failed at last, or has not. Airflow 3.1 and newer watch over that: a ``DeadlineAlert`` calls
``BzCtrlNotifier`` in the triggerer, which raises an incident without holding anything up.

Things to notice:

* Airflow makes the notifier itself, from the class and the ``kwargs``. Its context has the run as a mapping and the
  deadline: ``{{ dag_run.dag_id }}``, ``{{ deadline.deadline_time }}``.
* A missed deadline does not fail the run, and a run that fails in time misses no deadline: a callback or an operator for
  failures is still wanted.
* On older versions there are no deadlines; this DAG is then one without.

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
