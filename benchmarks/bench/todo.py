"""The todo that is created over and over."""

from __future__ import annotations

FIELDS = {
    "todo_type": "INCIDENT",
    "domain_workspace": "EXA-CON-BUS-WOR",
    "title": "amounts: 2 of 5 checks failed",
    "description": "In the DAG amounts, 2 of 5 checks failed.\n\n- totals (SQLCheckOperator): failed",
    "financial_impact": 7500,
    "priority": "HIGH",
    "reporter": "reporter@example.com",
    "order_id": "ORDER 777",
}
