"""An incident for any failed run, by a callback of the DAG.

The story: a DAG that others depend on has no checks to hang an operator on; what may fail is any of its tasks. So the DAG
itself gets ``on_failure_callback=BzCtrlNotifier()``: when a run has failed, for whatever reason, one incident tells which
tasks failed.

Things to notice:

* The callback of a DAG runs in the DAG processor, once a run has failed, also where a task's process was killed. The
  callback of a *task* (``default_args={"on_failure_callback": BzCtrlNotifier()}``) knows the exception, but is not called
  where the process is killed on its last try.
* All fields can be given, with templates. A callback has fewer variables than a task: ``dag`` and ``run_id`` are always
  there, and so is ``failure``.

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
