"""An incident for any failed run, raised by a callback of the DAG.

Use case: any task of the DAG may fail, and there are no checks after which an operator could run. Therefore the DAG has
``on_failure_callback=BzCtrlNotifier()``: after each failed run, one incident lists the failed tasks.

Good to know:

* The callback of a DAG runs in the DAG processor after a run has failed, also if a task's process was killed. The callback
  of a *task* (``default_args={"on_failure_callback": BzCtrlNotifier()}``) knows the exception, but Airflow does not call it
  if the process is killed on its last try.
* All fields are optional and are templates. A callback has fewer variables than a task: ``dag``, ``run_id`` and
  ``failure`` are always defined.

It needs the connection ``bzctrl_default``.
"""

from __future__ import annotations

from datetime import UTC, datetime

from airflow.providers.common.compat.sdk import DAG, task

from bzctrl_provider.notifications.bzctrl import BzCtrlNotifier

with DAG(
    dag_id="incident_by_callback",
    schedule=None,
    start_date=datetime(2026, 1, 1, tzinfo=UTC),
    catchup=False,
    on_failure_callback=BzCtrlNotifier(priority="MEDIUM", category=["Operations"]),
    tags=["bzctrl", "example"],
    doc_md=__doc__,
) as dag:

    @task
    def fetch() -> None:
        """Fetch what is not there."""
        raise ConnectionError("the supplier's server does not answer")

    @task
    def store() -> None:
        """Store what was fetched."""

    fetch() >> store()
