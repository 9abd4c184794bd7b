from __future__ import annotations

import json
import os
import re
import sys
from pathlib import Path
from types import ModuleType

import pytest
from airflow.providers.common.compat.sdk import AirflowException, BaseOperator
from support.airflow_versions import VERSION

DAGS_FOLDER = Path(__file__).parents[3] / "dags_examples"


@pytest.fixture(autouse=True)
def _recorded(monkeypatch, tmp_path):
    """Let the examples use the recorded results, with the artifacts of their runs in a folder of the test."""
    monkeypatch.setenv("PATH", "")
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))


def states(tis):
    return {task: str(ti.state) for task, (ti,) in tis.items()}


def test_example_failed_dbt_tests_are_one_incident(run, bzctrl_sandbox):
    """One request creates an incident that lists the failed tests with their SQL; the run stays failed."""
    dag_run, tis = run(DAGS_FOLDER / "dbt_tests.py")
    assert str(dag_run.state) == "failed"
    assert states(tis) == {"build": "failed", "raise_incident": "success", "publish": "upstream_failed"}
    (todo,) = bzctrl_sandbox.todos
    assert todo["todoType"] == "INCIDENT"
    assert todo["title"].startswith("dbt shop: 4 of 6 tests failed (not_null of customers.email, ")
    assert "- accepted_values of orders.status: failed, 1 failure\n" in todo["description"]
    assert (
        "relationships_orders_customer_id__id__ref_customers_.sql\n  Owner: customer-data@example.com"
        in (todo["description"])
    )
    assert todo["priority"] == "HIGH"
    assert todo["orderID"] == dag_run.run_id
    assert [request.path.rpartition("/")[2] for request in bzctrl_sandbox.requests] == ["token", "add-task"]


def test_example_missing_dbt_artifacts_fail_the_task(run, bzctrl_sandbox, monkeypatch):
    """Where dbt ended before it wrote its results, the task that reads them fails and creates nothing."""
    monkeypatch.setattr("shutil.copy", lambda *args: None)
    dag_run, tis = run(DAGS_FOLDER / "dbt_tests.py")
    assert str(dag_run.state) == "failed"
    assert states(tis)["raise_incident"] == "failed"
    assert bzctrl_sandbox.todos == []


def test_example_failed_expectations_are_one_incident(run, bzctrl_sandbox):
    """One request creates an incident for their common owner, without a value of the data; the run stays failed."""
    dag_run, tis = run(DAGS_FOLDER / "great_expectations_checks.py")
    assert str(dag_run.state) == "failed"
    assert states(tis) == {"validate": "failed", "raise_incident": "success", "publish": "upstream_failed"}
    (todo,) = bzctrl_sandbox.todos
    assert todo["title"] == (
        "Great Expectations orders: 2 of 3 expectations failed "
        "(expect_column_values_to_be_in_set of status, expect_column_values_to_not_be_null of amount)"
    )
    assert todo["assignee"] == "sales@example.com"
    assert "Unexpected: 2 of 5 (40 %)" in todo["description"]
    assert "cancelled?" not in todo["description"]
    assert [request.path.rpartition("/")[2] for request in bzctrl_sandbox.requests] == ["token", "add-task"]


PAGE = DAGS_FOLDER.parent / "docs" / "how-to" / "great-expectations.md"
RECORDED = DAGS_FOLDER.parent / "tests" / "unit" / "checks" / "artifacts" / "gx-1.24" / "suite_described.json"


class RecordedValidation(BaseOperator):
    """Takes the place of the operator of ``airflow-provider-great-expectations``: pushes what GX described, and fails."""

    def __init__(self, *, configure_dataframe, configure_expectations, **kwargs):
        super().__init__(**kwargs)
        assert callable(configure_dataframe)
        assert callable(configure_expectations)

    def execute(self, context):
        context["ti"].xcom_push(key="return_value", value=json.loads(RECORDED.read_text()))
        raise AirflowException("Great Expectations data validation failed.")


def test_dag_of_the_page_with_the_result_of_the_airflow_provider_creates_one_incident(
    run, bzctrl_sandbox, monkeypatch
):
    """The DAG of the how-to pulls the XCom that was pushed before the failure; its run stays failed."""
    (source,) = re.findall(r'```python title="dags/orders_quality.py"\n(.*?)```', PAGE.read_text(), re.DOTALL)
    if VERSION < (3, 0):
        source = source.replace(
            "from airflow.sdk import DAG, task",
            "from airflow import DAG\nfrom airflow.decorators import task",
        )
    stub = ModuleType("validate_dataframe")
    stub.GXValidateDataFrameOperator = RecordedValidation
    monkeypatch.setitem(sys.modules, "great_expectations_provider", ModuleType("great_expectations_provider"))
    monkeypatch.setitem(sys.modules, "great_expectations_provider.operators", ModuleType("operators"))
    monkeypatch.setitem(sys.modules, "great_expectations_provider.operators.validate_dataframe", stub)
    folder = Path(os.environ["AIRFLOW_HOME"]) / "dags_of_docs"
    folder.mkdir(exist_ok=True)
    file = folder / "orders_quality.py"
    file.write_text(
        source.replace(
            'with DAG("orders_quality", schedule=None):', 'with DAG("orders_quality", schedule=None) as dag:'
        )
    )
    try:
        dag_run, tis = run(file)
    finally:
        file.unlink()
    assert str(dag_run.state) == "failed"
    assert states(tis) == {"validate": "failed", "raise_incident": "success", "publish": "upstream_failed"}
    (todo,) = bzctrl_sandbox.todos
    assert todo["title"].startswith("Great Expectations shop-raw_orders: 5 of 6 expectations failed (")
    assert todo["category"] == ["Data quality"]
