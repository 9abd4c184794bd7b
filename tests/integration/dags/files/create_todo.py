"""DAGs for the tests of CreateTodoOperator; `dag.test()` wants them in a file of a DAG bundle."""

from __future__ import annotations

import datetime as dt

from airflow.providers.common.compat.sdk import DAG, task

from bzctrl_provider.notifications.bzctrl import BzCtrlNotifier
from bzctrl_provider.operators.bzctrl import CreateTodoOperator, IncidentOnFailureOperator

START = dt.datetime(2026, 1, 1, tzinfo=dt.UTC)

with DAG(
    "rendered",
    schedule=None,
    start_date=START,
    params={"level": "high", "amount": 1234.5, "tag": "IT", "conn": "bzctrl_default"},
) as rendered:
    CreateTodoOperator(
        task_id="create",
        todo_type="{{ 'incident' }}",
        domain="EXA-{{ 'CON' }}",
        workspace="{{ 'WOR' }}",
        title="{{ dag.dag_id }}",
        description="run {{ run_id }}",
        financial_impact="{{ params.amount }}",
        impact="{{ params.level }}",
        likelihood="{{ params.level }}",
        priority="{{ params.level }}",
        status="{{ 'to do' }}",
        assignee="{{ 'a' }}@example.com",
        reporter="{{ 'r' }}@example.com",
        category=["Customs", "{{ params.tag }}"],
        sub_category="{{ params.tag }}",
        lrn="{{ 7 * 6 }}",
        reminder_date="{{ '2026-11-21' }}",
        bzctrl_conn_id="{{ params.conn }}",
    )

with DAG("native", schedule=None, start_date=START, render_template_as_native_obj=True) as native:
    CreateTodoOperator(
        task_id="create",
        title="{{ 2026 }}",
        description="{{ 12.5 }}",
        financial_impact="{{ 1e16 }}",
        category="{{ ['Customs', 'IT'] }}",
        order_id="{{ 725462 }}",
        lrn="{{ none }}",
        reminder_date="{{ macros.datetime(2026, 11, 21, 23, 59) }}",
    )

with DAG(
    "native_text",
    schedule=None,
    start_date=START,
    render_template_as_native_obj=True,
    params={"id": "2026_0117"},
) as native_text:

    @task
    def find_ids() -> list[str]:
        return ["0x1F"]

    @task
    def find_rows() -> list[dict[str, str]]:
        return [{"order_id": "10,5", "title": "1E5"}]

    @task.bzctrl_todo(lrn="{{ params.id }}", order_id="2026.10", link_to_run=False)
    def from_arguments(number: object, text: str) -> dict[str, object]:
        """Return the type of an argument, which Airflow renders as the DAG says."""
        return {"title": type(number).__name__, "description": text}

    @task(on_failure_callback=BzCtrlNotifier(order_id="725462J", lrn="{{ params.id }}", title="notifier"))
    def fails() -> None:
        raise ValueError

    shared = {"lrn": "{{ params.id }}", "description": "True"}
    CreateTodoOperator(task_id="plain", title="2026_0117", order_id="2026.10", **shared)
    CreateTodoOperator.partial(task_id="expand", title="expand", **shared).expand(order_id=find_ids())
    CreateTodoOperator.partial(task_id="literals", title="literals", **shared).expand(order_id=["1E5"])
    CreateTodoOperator.partial(task_id="rows", **shared).expand_kwargs(find_rows())
    CreateTodoOperator.partial(task_id="kwargs", **shared).expand_kwargs(
        [{"order_id": "2026.10", "title": "{{ params.id }}"}]
    )
    from_arguments("{{ '31' }}", "2026.10 is a date")
    fails() >> IncidentOnFailureOperator(task_id="roll_up", title="roll-up", order_id="2026.10", **shared)

with DAG("mapped", schedule=None, start_date=START) as mapped:

    @task
    def orders() -> list[str]:
        return ["ORDER 1", "ORDER 2", "ORDER 3"]

    CreateTodoOperator.partial(task_id="create", title="{{ task.order_id }}", description="d").expand(
        order_id=orders()
    )

with DAG("faulty", schedule=None, start_date=START, render_template_as_native_obj=True) as faulty:
    CreateTodoOperator(task_id="level", title="t", description="d", impact="{{ 'urgent' }}")
    CreateTodoOperator(task_id="title", title="{{ none }}", description="d")
    CreateTodoOperator(task_id="connection", title="t", description="d", bzctrl_conn_id="not_there")

with DAG("plain", schedule=None, start_date=START) as plain:
    CreateTodoOperator(task_id="create", title="t", description="d")
