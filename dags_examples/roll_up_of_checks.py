"""Many checks, one incident, one line.

The story: every hour a handful of feeds is compared with the ledger, and each feed has a check of its own, mapped over
the list of feeds. When three of them differ, nobody wants three incidents, and nobody wants to write the text of one.
``checks >> IncidentOnFailureOperator(...)`` waits for all of them, raises one incident that lists what failed and why, and
leaves the run failed.

Things to notice:

* The incident's title and description are written by themselves. ``failure`` is there in the templates of the other
  fields, as ``financial_impact`` shows.
* ``remember_exception`` keeps each task's exception for the incident: Airflow tells a task downstream *that* another one
  failed, but not *why*.
* Nothing stands behind ``raise_incident``. What has to run after good checks hangs on the checks, beside it.

It needs the connection ``bzctrl_default``. The feeds and their differences are made up.
"""

from __future__ import annotations

from datetime import UTC, datetime

from airflow.providers.common.compat.sdk import DAG, task

from bzctrl_provider.failure import remember_exception
from bzctrl_provider.operators.bzctrl import IncidentOnFailureOperator

DIFFERENCES = {"orders": 0, "invoices": 1250, "refunds": 0, "shipments": 80}
"""EUR by which each feed differs from the ledger."""


with DAG(
    dag_id="roll_up_of_checks",
    schedule=None,
    start_date=datetime(2026, 1, 1, tzinfo=UTC),
    catchup=False,
    default_args={"on_failure_callback": remember_exception},
    tags=["bzctrl", "example"],
    doc_md=__doc__,
) as dag:

    @task
    def matches_the_ledger(feed: str) -> None:
        """Fail where a feed and the ledger differ."""
        if difference := DIFFERENCES[feed]:
            raise ValueError(f"the feed {feed} differs from the ledger by EUR {difference}")

    @task
    def close_the_hour() -> None:
        """Go on; only after good checks."""

    checks = matches_the_ledger.expand(feed=list(DIFFERENCES))
    checks >> close_the_hour()
    checks >> IncidentOnFailureOperator(
        task_id="raise_incident",
        priority="HIGH",
        # A made-up rule of thumb: each feed that differs puts EUR 1,000 at stake.
        financial_impact="{{ 1000 * failure.tasks | length }}",
    )
