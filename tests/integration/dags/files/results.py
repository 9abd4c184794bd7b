"""DAGs in which a tool ends in different ways, and a task after it reads its results; nothing else follows the tool."""

from __future__ import annotations

import datetime as dt
import json
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING, Any

from airflow.providers.common.compat.sdk import DAG, AirflowSkipException, task

from bzctrl_provider.checks import checks_from_dbt, checks_from_gx
from bzctrl_provider.decorators.bzctrl import bzctrl_todo_task
from bzctrl_provider.failure import remember_exception
from bzctrl_provider.notifications.bzctrl import BzCtrlNotifier

if TYPE_CHECKING:
    from collections.abc import Callable

ARGS: Any = {"schedule": None, "start_date": dt.datetime(2026, 1, 1, tzinfo=dt.UTC)}


def results_of(*statuses: str) -> str:
    results = [
        {"unique_id": "test.shop.not_null", "status": status, "failures": 1, "message": None}
        for status in statuses
    ]
    schema = {"dbt_schema_version": "https://schemas.getdbt.com/dbt/run-results/v6.json"}
    return json.dumps({"metadata": schema, "results": results})


def read(path: Path) -> Any:
    return checks_from_dbt(path)


def read_wrongly(path: Path) -> Any:
    raise KeyError("results")


def skip(path: Path) -> Any:
    raise AirflowSkipException


def new_dag(
    name: str,
    *,
    writes: str | None,
    fails: bool,
    reads: Callable[[Path], Any] = read,
    before: Any = None,
    on_failure_callback: Any = None,
) -> DAG:
    """Return a DAG with a tool and the task after it.

    :param writes: the results of the tool; None if it ends before it writes any.
    :param fails: whether the tool fails.
    :param reads: makes a todo of the results.
    :param before: a task before the tool.
    :param on_failure_callback: of the task after it.
    """
    with DAG(f"results_{name}", **ARGS) as dag:

        @task(on_failure_callback=remember_exception)
        def build(run_id: Any = None) -> None:
            if writes is not None:
                path(run_id).write_text(writes)
            if fails:
                raise ValueError("dbt ended with 2; its log is above")

        @bzctrl_todo_task(on_failure_callback=on_failure_callback)
        def raise_incident(run_id: Any = None) -> Any:
            return reads(path(run_id))

        def path(run_id: str) -> Path:
            return Path(tempfile.gettempdir()) / f"{name} {run_id}.json"

        built = build()
        if before:
            before() >> built
        built >> raise_incident().as_teardown()
    return dag


@task
def skips() -> None:
    raise AirflowSkipException


@task
def fails_before() -> None:
    raise ValueError("no connection")


FAILED, PASSED, HALF = results_of("fail"), results_of("pass"), results_of("fail")[:50]

tests_fail = new_dag("tests_fail", writes=FAILED, fails=True)
crashes = new_dag("crashes", writes=None, fails=True)
writes_an_empty_list = new_dag("writes_an_empty_list", writes=results_of(), fails=True)
runs_nothing = new_dag("runs_nothing", writes=results_of(), fails=False)
fails_after_its_tests = new_dag("fails_after_its_tests", writes=PASSED, fails=True)
writes_half_a_file = new_dag("writes_half_a_file", writes=HALF, fails=True)
reader_is_wrong = new_dag("reader_is_wrong", writes=FAILED, fails=True, reads=read_wrongly)
reader_skips = new_dag("reader_skips", writes=FAILED, fails=True, reads=skip)
before_dbt_failed = new_dag("before_dbt_failed", writes=PASSED, fails=False, before=fails_before)
passes = new_dag("passes", writes=PASSED, fails=False)
is_skipped = new_dag("is_skipped", writes=None, fails=False, before=skips)
passes_with_half_a_file = new_dag("passes_with_half_a_file", writes=HALF, fails=False)
reports_half_a_file = new_dag(
    "reports_half_a_file", writes=HALF, fails=False, on_failure_callback=BzCtrlNotifier()
)
gx_crashes = new_dag("gx_crashes", writes=None, fails=True, reads=lambda _: checks_from_gx(None))

with DAG("results_mapped", **ARGS) as mapped:

    @task
    def build() -> None:
        raise ValueError("no results")

    @bzctrl_todo_task
    def raise_incident(file: str) -> Any:
        return None

    build() >> raise_incident.expand(file=["orders"]).as_teardown()
