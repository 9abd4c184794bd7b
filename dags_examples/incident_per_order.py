"""One incident for each invalid order, with the order's number as its tag.

Use case: customs declarations are collected, and some have no amount. Each of them has another order and another Local
Reference Number (LRN) and needs an incident of its own, so the operator is mapped over the result of a task. BzCtrl makes
``order_id`` and ``lrn`` tags, with which users find the incident of an order.

``expand_kwargs`` takes one mapping of operator arguments for each incident. ``partial`` has the arguments that are the same
for all of them, with templates as usual. If no order is invalid, the task is skipped.

It needs the connection ``bzctrl_default``. The declarations below are examples.
"""

from __future__ import annotations

from datetime import UTC, datetime

from airflow.providers.common.compat.sdk import DAG, task

from bzctrl_provider.operators.bzctrl import CreateTodoOperator

DECLARATIONS = [
    {"order": "ORDER 777", "lrn": "26NL0000725462", "goods": "Cut flowers", "amount": "18250.00"},
    {"order": "ORDER 778", "lrn": "26NL0000725463", "goods": "Bicycle parts", "amount": ""},
    {"order": "ORDER 779", "lrn": "26NL0000725470", "goods": "Cocoa beans", "amount": "96400.50"},
    {"order": "ORDER 780", "lrn": "26NL0000725471", "goods": "Ceramic tiles", "amount": ""},
]


with DAG(
    dag_id="incident_per_order",
    schedule=None,
    start_date=datetime(2026, 1, 1, tzinfo=UTC),
    catchup=False,
    tags=["bzctrl", "example"],
    doc_md=__doc__,
) as dag:

    @task
    def faulty_declarations() -> list[dict[str, str]]:
        """Return the arguments of one incident for each declaration without an amount."""
        return [
            {
                "title": f"Customs declaration without an amount: {declaration['goods']}",
                "order_id": declaration["order"],
                "lrn": declaration["lrn"],
            }
            for declaration in DECLARATIONS
            if not declaration["amount"]
        ]

    CreateTodoOperator.partial(
        task_id="raise_incident",
        description="The declaration cannot be filed. Please ask the customer for the amount.\nRun: {{ ti.log_url }}",
        category=["Customs"],
        impact="MEDIUM",
        priority="HIGH",
        map_index_template="{{ task.order_id }}",
    ).expand_kwargs(faulty_declarations())
