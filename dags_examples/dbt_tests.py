"""The dbt tests that failed become one incident.

The story: dbt builds the orders of a shop and tests them. Some orders have a status that does not exist, one belongs to a
customer that does not exist, and the ledger was not loaded. Sales has to know which tests failed and where their SQL is,
without a look into dbt's log.

Things to notice:

* dbt writes all results into ``run_results.json``, also when tests failed, and ``checks_from_dbt`` makes a todo of them. It
  returns None if nothing failed, so that the task is skipped. If dbt ended before it wrote results, the incident says so.
* The owners are defined in ``meta.owner`` of the dbt project. With ``one_for_all=False`` each test becomes an incident of its own,
  assigned to the owner of the test or of its model.
* Each run has a folder of its own for dbt's artifacts: those of another run are never read.
* ``raise_incident`` is a teardown: it runs after a failure, too, and leaves the run failed. ``publish`` is beside it.

It needs the connection ``bzctrl_default``. dbt builds the project in ``data/dbt_shop`` where ``dbt`` and its adapter for
DuckDB are installed (``pip install dbt-core dbt-duckdb``). Otherwise, the artifacts of a recorded run are used.
"""

from __future__ import annotations

import shutil
import subprocess
import tempfile
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from airflow.providers.common.compat.sdk import DAG, AirflowFailException, task

from bzctrl_provider.checks import checks_from_dbt
from bzctrl_provider.decorators.bzctrl import bzctrl_todo_task

PROJECT = Path(__file__).parent / "data" / "dbt_shop"


def target(run_id: str) -> Path:
    """Return the folder for the artifacts of one run; with several workers, it has to be on storage that they share."""
    return Path(tempfile.gettempdir()) / "dbt_shop" / run_id


with DAG(
    dag_id="dbt_tests",
    schedule=None,
    start_date=datetime(2026, 1, 1, tzinfo=UTC),
    catchup=False,
    tags=["bzctrl", "example"],
    doc_md=__doc__,
) as dag:

    @task
    def build(run_id: Any = None) -> None:
        """Build and test the models; fail where dbt fails."""
        folder = target(run_id)
        dbt = shutil.which("dbt")
        if dbt is None:
            print("dbt is not installed: the artifacts of a recorded run are used.")  # noqa: T201 - it is in the task's log
            folder.mkdir(parents=True, exist_ok=True)
            shutil.copy(PROJECT / "recorded" / "run_results.json", folder)
            shutil.copy(PROJECT / "recorded" / "manifest.json.gz", folder / "manifest.json")
            raise AirflowFailException("In the recorded run, tests failed.")
        options = {
            "--profiles-dir": PROJECT,
            "--project-dir": PROJECT,
            "--target-path": folder,
            "--log-path": folder,
        }
        words = [str(word) for option in options.items() for word in option]
        done = subprocess.run([dbt, "--no-send-anonymous-usage-stats", "build", *words], check=False)  # noqa: S603 - all words are written here
        if done.returncode:
            raise AirflowFailException(f"dbt ended with {done.returncode}; its log is above.")

    @bzctrl_todo_task(priority="HIGH", category=["Data quality"])
    def raise_incident(run_id: Any = None) -> Any:
        """Return one incident about all tests that failed."""
        return checks_from_dbt(target(run_id) / "run_results.json", target(run_id) / "manifest.json")

    @task
    def publish() -> None:
        """Hand the orders on; here, say so."""
        print("The orders are published.")  # noqa: T201 - what a task prints is in its log

    build() >> [raise_incident().as_teardown(), publish()]
