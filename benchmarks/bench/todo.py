"""The todo that is created over and over, and a bare session that creates it without this provider."""

from __future__ import annotations

from typing import TYPE_CHECKING
from urllib.parse import urlencode

if TYPE_CHECKING:
    import requests

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
MESSAGE = {
    "todoType": "INCIDENT",
    "domainWorkSpace": "EXA-CON-BUS-WOR",
    "title": FIELDS["title"],
    "description": FIELDS["description"],
    "financialImpact": "7500",
    "status": "IN PROGRESS",
    "priority": "HIGH",
    "assignee": "reporter@example.com",
    "reporter": "reporter@example.com",
    "orderID": "ORDER 777",
}
"""The body of ``FIELDS``."""

CREATE = "/bzctrl-core-api/api/v1/task/add-task"
TOKEN = "/bzctrl-core-api/oauth/token"  # noqa: S105 - a path
GRANT = urlencode({"grant_type": "password", "username": "user@example.com", "password": "a password"})
FORM = {"Content-Type": "application/x-www-form-urlencoded"}


def authorized_by_session(session: requests.Session, host: str | None) -> dict[str, str]:
    """Return the header of a token that a bare session has requested."""
    response = session.post(f"{host}{TOKEN}", data=GRANT, headers=FORM, timeout=30)
    return {"Authorization": f"Bearer {response.json()['access_token']}"}
