"""A function finds the cases, and each becomes a todo.

The story: the people in accounting want a task for each invoice that is overdue. Which ones are, and what there is to say
of each, is easiest said in Python. ``@task.bzctrl_todo`` makes a task of a function: what it returns becomes one todo (a
mapping), many (a list of them), or none (None, which skips the task). What is the same for all stands in the decorator.

Things to notice:

* Many todos share one token and several connections; one that is refused does not keep the others from being created.
* What was created goes to XCom, in the order of the list.

It needs the connection ``bzctrl_default``. The invoices are made up.
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
