"""DAGs for the tests of the policy, none of which has a callback for it."""

from __future__ import annotations

import datetime as dt
from typing import Any

from airflow.providers.common.compat.sdk import DAG, task

from bzctrl_provider.notifications.bzctrl import BzCtrlNotifier
from bzctrl_provider.operators.bzctrl import IncidentOnFailureOperator

ARGS: Any = {"schedule": None, "start_date": dt.datetime(2026, 1, 1, tzinfo=dt.UTC), "tags": ["finance"]}


@task
def passes() -> None:
    pass


@task
def fails(number: int = 0) -> None:
    if number % 2 == 0:
        raise ValueError(f"the total of {number} differs")


with DAG("without_a_callback", default_args={"owner": "ana@example.com"}, **ARGS) as without_a_callback:
    (
        passes.override(task_id="extract")()
        >> fails.expand(number=[0, 1, 2])
        >> passes.override(task_id="load")()
    )

with DAG("with_a_roll_up", **ARGS) as with_a_roll_up:
    fails() >> IncidentOnFailureOperator(task_id="raise_incident")

with DAG("beside_a_roll_up", **ARGS) as beside_a_roll_up:
    fails() >> IncidentOnFailureOperator(task_id="raise_incident")
    fails.override(task_id="elsewhere")()

with DAG("with_a_notifier", on_failure_callback=BzCtrlNotifier(title="its own"), **ARGS) as with_a_notifier:
    fails()

with DAG("that_succeeds", **ARGS) as that_succeeds:
    passes()
