"""DAGs for the tests of CreateTodoOperator; `dag.test()` wants them in a file of a DAG bundle."""

from __future__ import annotations

import datetime as dt

from airflow.providers.common.compat.sdk import DAG, task

from bzctrl_provider.operators.bzctrl import CreateTodoOperator

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
