"""The expectations of Great Expectations that were not met become one incident.

The story: before the orders of a shop are published, Great Expectations validates them with the suite in
``data/gx_orders/suite.json``. Two orders have a status that does not exist, and one has no amount. Sales has to know which
columns are wrong and by how much, but the values themselves stay where they are: they could be personal data.

Things to notice:

* The result is pushed to XCom before the task fails, as the operators of ``airflow-provider-great-expectations`` do it;
  ``checks_from_gx`` makes a todo of either. It returns None if all expectations were met, so that the task is skipped. If
  there is no result, the incident says so.
* The owner is defined in ``meta.owner`` of the expectations, and the incident is assigned to the one that they have in common.
* ``raise_incident`` is a teardown: it runs after a failure, too, and leaves the run failed. ``publish`` is beside it.

It needs the connection ``bzctrl_default``. The suite runs where GX Core is installed (``pip install great-expectations``).
Otherwise, the result of a recorded run is used.
"""

from __future__ import annotations

import json
from datetime import UTC, datetime
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from airflow.providers.common.compat.sdk import DAG, AirflowFailException, task

from bzctrl_provider.checks import checks_from_gx
from bzctrl_provider.decorators.bzctrl import bzctrl_todo_task

DATA = Path(__file__).parent / "data"


def validate_orders() -> dict[str, Any]:
    """Validate the orders with GX Core, and return the result as JSON."""
    import great_expectations as gx
    import pandas as pd

    context = gx.get_context(mode="ephemeral")
    asset = context.data_sources.add_pandas("shop").add_dataframe_asset("orders")
    expectations = json.loads((DATA / "gx_orders" / "suite.json").read_text())
    definition = gx.ValidationDefinition(
        name="orders",
        data=asset.add_batch_definition_whole_dataframe("all"),
        suite=context.suites.add(gx.ExpectationSuite(name="orders", expectations=expectations)),
    )
    orders = pd.read_csv(DATA / "dbt_shop" / "seeds" / "raw_orders.csv")
    run = context.validation_definitions.add(definition).run
    result: dict[str, Any] = run(batch_parameters={"dataframe": orders}).to_json_dict()
    return result


with DAG(
    dag_id="great_expectations_checks",
    schedule=None,
    start_date=datetime(2026, 1, 1, tzinfo=UTC),
    catchup=False,
    tags=["bzctrl", "example"],
    doc_md=__doc__,
) as dag:

    @task
    def validate(ti: Any = None) -> None:
        """Validate the orders; push the result, and fail if an expectation was not met."""
        if find_spec("great_expectations"):
            result = validate_orders()
        else:
            print("GX Core is not installed: the result of a recorded run is used.")  # noqa: T201 - it is in the task's log
            result = json.loads((DATA / "gx_orders" / "recorded.json").read_text())
        ti.xcom_push(key="return_value", value=result)
        if not result["success"]:
            raise AirflowFailException("Not all expectations were met.")

    @bzctrl_todo_task(priority="HIGH", category=["Data quality"])
    def raise_incident(ti: Any = None) -> Any:
        """Return one incident about all expectations that were not met."""
        return checks_from_gx(ti.xcom_pull(task_ids="validate"))

    @task
    def publish() -> None:
        """Hand the orders on; here, say so."""
        print("The orders are published.")  # noqa: T201 - what a task prints is in its log

    validate() >> [raise_incident().as_teardown(), publish()]
