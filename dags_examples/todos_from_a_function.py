"""A function returns the cases, and each becomes a todo.

Use case: accounting needs a task for each overdue invoice, and Python code selects the invoices and writes the texts.
``@task.bzctrl_todo`` makes a task of a function, which returns one mapping, a list of mappings, or None. Each mapping
becomes a todo; None skips the task. The decorator has the fields that are the same for all todos.

Good to know:

* The todos share one token and several connections. If one is rejected, the others are created all the same.
* The created todos are in XCom, in the order of the list.

It needs the connection ``bzctrl_default``. The invoices are examples.
"""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any

from airflow.providers.common.compat.sdk import DAG

from bzctrl_provider.decorators.bzctrl import bzctrl_todo_task

DAYS_ALLOWED = 30

INVOICES: list[dict[str, Any]] = [
    {"number": "2026-0117", "customer": "Example B.V.", "days_overdue": 45},
    {"number": "2026-0121", "customer": "Sample GmbH", "days_overdue": 0},
    {"number": "2026-0130", "customer": "Muster AG", "days_overdue": 31},
]


with DAG(
    dag_id="todos_from_a_function",
    schedule=None,
    start_date=datetime(2026, 1, 1, tzinfo=UTC),
    catchup=False,
    tags=["bzctrl", "example"],
    doc_md=__doc__,
) as dag:
    # The same as @task.bzctrl_todo, but type checkers and editors can follow it.
    @bzctrl_todo_task(todo_type="TASK", status="TODO", category=["Accounting"])
    def remind_customers() -> list[dict[str, Any]]:
        """Return a todo for each invoice that is overdue by more than 30 days."""
        in_three_days = datetime.now(UTC).date() + timedelta(days=3)
        return [
            {
                "title": f"Remind {invoice['customer']} of invoice {invoice['number']}",
                "description": f"It is overdue by {invoice['days_overdue']} days.",
                "order_id": invoice["number"],
                "reminder_date": in_three_days,
            }
            for invoice in INVOICES
            if invoice["days_overdue"] > DAYS_ALLOWED
        ]

    remind_customers()
