"""DAGs that fail at the same moment, and count as the same."""

from __future__ import annotations

import os
import time
from datetime import UTC, datetime, timedelta
from pathlib import Path

from airflow.providers.common.compat.sdk import DAG, task

from bzctrl_provider.notifications.bzctrl import BzCtrlNotifier
from bzctrl_provider.operators.bzctrl import IncidentOnFailureOperator

WINDOW = timedelta(hours=1)
START = datetime(2026, 1, 1, tzinfo=UTC)


@task
def fails():
    raise ValueError("the totals differ by 7")


@task(queue="race")
def fails_with_others():
    """Fail as soon as the test says so."""
    go = Path(os.environ["BZCTRL_TESTS_SHARED"]) / "go"
    go.with_name(f"here-{os.getpid()}").touch()
    ends_at = time.monotonic() + 120
    while not go.exists() and time.monotonic() < ends_at:
        time.sleep(0.01)
    raise ValueError("the totals differ by 7")


with DAG("race_runs", schedule=None, start_date=START, tags=["policy"], max_active_runs=60):
    fails()

with DAG("race_tasks", schedule=None, start_date=START, max_active_runs=60, max_active_tasks=60):
    callback = BzCtrlNotifier(dedup_window=WINDOW, dedup_key="race of tasks", consecutive_failures=3)
    fails_with_others.override(on_failure_callback=callback)()

with DAG("race_roll_ups", schedule=None, start_date=START, max_active_runs=60, max_active_tasks=60):
    fails() >> IncidentOnFailureOperator(
        task_id="raise_incident", dedup_window=WINDOW, dedup_key="race of roll-ups", queue="race"
    )
