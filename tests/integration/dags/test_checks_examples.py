from __future__ import annotations

import json
import os
import re
import sys
from pathlib import Path
from types import ModuleType

import pytest
from airflow.providers.common.compat.sdk import AirflowException, BaseOperator
from support.airflow_versions import CALLBACKS_HAVE_THE_EXCEPTION, VERSION

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


def test_example_missing_dbt_artifacts_are_one_incident(run, bzctrl_sandbox, monkeypatch):
    """Where dbt ended before it wrote its results, the incident says so; the run stays failed."""
    monkeypatch.setattr("shutil.copy", lambda *args: None)
    dag_run, tis = run(DAGS_FOLDER / "dbt_tests.py")
    assert str(dag_run.state) == "failed"
    assert states(tis)["raise_incident"] == "success"
    (todo,) = bzctrl_sandbox.todos
    assert todo["title"] == "dbt ended without results"
    assert "there is no file " in todo["description"]
    assert todo["priority"] == "HIGH"


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


FILE = Path(__file__).parent / "files" / "results.py"
NOTHING = "dbt ended without results"
BUILD_FAILED = "{dag}: build failed"


@pytest.mark.parametrize(
    ("dag", "run_state", "state", "title", "texts"),
    [
        # Nothing follows the task that runs dbt, so that a task after it decides how the run ends.
        ("tests_fail", "failed", "success", "dbt shop: not_null failed", ()),
        ("crashes", "failed", "success", NOTHING, ("there is no file ",)),
        ("writes_an_empty_list", "failed", "success", NOTHING, ("the list of results is empty",)),
        ("runs_nothing", "success", "success", NOTHING, ("the list of results is empty",)),
        (
            "fails_after_its_tests",
            "failed",
            "success",
            BUILD_FAILED,
            ("ValueError: dbt ended with 2", "Log of build: "),
        ),
        (
            "writes_half_a_file",
            "failed",
            "success",
            BUILD_FAILED,
            (
                "raise_incident raised an error: bzctrl_provider.exceptions.BzCtrlValidationError: No todo",
                "is no JSON",
            ),
        ),
        (
            "reader_is_wrong",
            "failed",
            "success",
            BUILD_FAILED,
            ("raise_incident raised an error: KeyError: 'results'",),
        ),
        ("reader_skips", "failed", "skipped", None, ()),
        ("before_dbt_failed", "failed", "success", NOTHING, ()),
        ("passes", "success", "skipped", None, ()),
        ("is_skipped", "success", "skipped", None, ()),
        ("passes_with_half_a_file", "success", "failed", None, ()),
        ("reports_half_a_file", "success", "failed", "{dag}: raise_incident failed", ()),
        (
            "gx_crashes",
            "failed",
            "success",
            "Great Expectations ended without results",
            ("the result is None",),
        ),
        ("mapped", "failed", "success", BUILD_FAILED, ()),
    ],
)
def test_todo_as_a_teardown_after_each_end_of_a_tool(
    run, bzctrl_sandbox, dag, run_state, state, title, texts
):
    """Each failure before it has an incident and leaves the run failed; without a failure there is none."""
    dag_run, tis = run(FILE, dag)
    assert str(dag_run.state) == run_state
    assert {str(ti.state) for ti in tis["raise_incident"]} == {state}
    assert [todo["title"] for todo in bzctrl_sandbox.todos] == (
        [title.format(dag=dag_run.dag_id)] if title else []
    )
    for text in texts:
        if CALLBACKS_HAVE_THE_EXCEPTION or not text.startswith("ValueError"):
            assert text in bzctrl_sandbox.todos[0]["description"]
