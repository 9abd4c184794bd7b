"""A task for a person, with a reminder.

Use case: once a month somebody has to check and approve the tariff table. The DAG creates a TASK, BzCtrl's word for planned
work; an INCIDENT is something that went wrong. It is assigned to ``assignee``, whom BzCtrl reminds a week after the run.

Each field belongs to one type or to both: a task has a ``result`` and no ``impact``. A field of the wrong type is rejected
with its name before a request is sent.

It needs the connection ``bzctrl_default``.
"""

from __future__ import annotations

from datetime import UTC, datetime

from airflow.providers.common.compat.sdk import DAG

from bzctrl_provider.operators.bzctrl import CreateTodoOperator

with DAG(
    dag_id="task_with_reminder",
    schedule="0 6 1 * *",
    start_date=datetime(2026, 1, 1, tzinfo=UTC),
    catchup=False,
    tags=["bzctrl", "example"],
    doc_md=__doc__,
) as dag:
    CreateTodoOperator(
        task_id="ask_for_sign_off",
        todo_type="TASK",
        title="Sign off the tariff table",
        description="Please compare the tariff table with the official one and sign it off.\nRun: {{ ti.log_url }}",
        status="TODO",
        priority="MEDIUM",
        assignee="tariffs@example.com",
        reminder_date="{{ (macros.datetime.now() + macros.timedelta(days=7)).date() }}",
    )
