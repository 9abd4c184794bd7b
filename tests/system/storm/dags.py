"""The DAG files of a storm: written into a folder, because sixty of them differ in their names only."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from pathlib import Path

DAGS_OF_ONE_FILE = 60
DAGS_OF_OWN_FILES = 60
LATE_DAGS = 40

_FAILS = """
from datetime import UTC, datetime

from airflow.providers.common.compat.sdk import DAG, task


@task
def fails():
    raise ValueError("the warehouse is away")


for dag_id in {dag_ids!r}:
    with DAG(dag_id, schedule=None, start_date=datetime(2026, 1, 1, tzinfo=UTC), tags=["policy"]):
        fails()
"""

_CANARY = """
import os
import time
from datetime import UTC, datetime

from airflow.providers.common.compat.sdk import DAG, task


def note(context):
    with open(os.environ["BZCTRL_TESTS_CANARY"], "a") as file:
        file.write(f"{context['run_id']} {time.time()}\\n")


@task
def fails():
    raise ValueError("the canary")


with DAG("canary", schedule=None, start_date=datetime(2026, 1, 1, tzinfo=UTC), on_failure_callback=note):
    fails()
"""

_LATE = """
from datetime import UTC, datetime, timedelta

from airflow.providers.common.compat.sdk import DAG, task
from airflow.sdk.definitions.deadline import AsyncCallback, DeadlineAlert, DeadlineReference

from bzctrl_provider.notifications.bzctrl import BzCtrlNotifier


@task(pool="closed")
def never_runs(): ...


for number in range({count}):
    with DAG(
        f"late_{{number:02d}}",
        schedule=None,
        start_date=datetime(2026, 1, 1, tzinfo=UTC),
        deadline=DeadlineAlert(
            reference=DeadlineReference.DAGRUN_QUEUED_AT,
            interval=timedelta(seconds=3),
            callback=AsyncCallback(
                BzCtrlNotifier,
                kwargs={{"title": "{{{{ dag_run.dag_id }}}} is late", "order_id": "{{{{ dag_run.dag_id }}}} {{{{ dag_run.dag_run_id }}}}"}},
            ),
        ),
    ):
        never_runs()
"""

_DELIVERY = """
# Airflow looks for DAGs in files with this word only.
from bzctrl_provider.spool import create_delivery_dag

delivery_dag = create_delivery_dag()
"""

ONE_FILE = [f"one_file_{number:02d}" for number in range(DAGS_OF_ONE_FILE)]
OWN_FILES = [f"own_file_{number:02d}" for number in range(DAGS_OF_OWN_FILES)]
FAILING = [*ONE_FILE, *OWN_FILES]
LATE = [f"late_{number:02d}" for number in range(LATE_DAGS)]


def write_dags(folder: Path) -> None:
    """Write the DAG files into an existing folder."""
    files = {
        "one_file.py": _FAILS.format(dag_ids=ONE_FILE),
        **{f"{dag_id}.py": _FAILS.format(dag_ids=[dag_id]) for dag_id in OWN_FILES},
        "canary.py": _CANARY,
        "late.py": _LATE.format(count=LATE_DAGS),
        "delivery.py": _DELIVERY,
    }
    for name, text in files.items():
        (folder / name).write_text(text)
