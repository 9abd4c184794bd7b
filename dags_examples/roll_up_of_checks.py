"""One incident for several checks, with one line in the DAG.

Use case: every hour some feeds are compared with the ledger, in one task that is mapped over the list of feeds. If three of
them differ, one incident for all three is enough. ``checks >> IncidentOnFailureOperator(...)`` waits for all of them,
raises one incident that lists the failed checks with their exceptions, and leaves the run failed.

Good to know:

* The operator writes title and description. The templates of the other fields can use ``failure``, as ``financial_impact``
  does.
* The operator adds a failure callback to the checks, which keeps each task's exception for the incident: from Airflow, a task
  downstream gets only the *state* of another task, not its exception.
* The incident has the names of the feeds, because ``map_index_template`` gives them to the mapped instances.
* No task is downstream of ``raise_incident``. Tasks that need successful checks are downstream of the checks, beside it.

It needs the connection ``bzctrl_default``. The feeds and their differences are examples.
"""

from __future__ import annotations

from datetime import UTC, datetime

from airflow.providers.common.compat.sdk import DAG, task

from bzctrl_provider.operators.bzctrl import IncidentOnFailureOperator

DIFFERENCES = {"orders": 0, "invoices": 1250, "refunds": 0, "shipments": 80}
"""EUR by which each feed differs from the ledger."""


with DAG(
    dag_id="roll_up_of_checks",
    schedule=None,
    start_date=datetime(2026, 1, 1, tzinfo=UTC),
    catchup=False,
    tags=["bzctrl", "example"],
    doc_md=__doc__,
) as dag:

    @task(map_index_template="{{ task.op_kwargs.feed }}")
    def matches_the_ledger(feed: str) -> None:
        """Fail if the feed and the ledger differ."""
        if difference := DIFFERENCES[feed]:
            raise ValueError(f"the feed {feed} differs from the ledger by EUR {difference}")

    @task
    def close_the_hour() -> None:
        """Run only after successful checks."""

    checks = matches_the_ledger.expand(feed=list(DIFFERENCES))
    checks >> close_the_hour()
    checks >> IncidentOnFailureOperator(
        task_id="raise_incident",
        priority="HIGH",
        # A made-up rule of thumb: each feed that differs puts EUR 1,000 at stake.
        financial_impact="{{ 1000 * failure.tasks | length }}",
    )
