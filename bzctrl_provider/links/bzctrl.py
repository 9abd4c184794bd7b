"""The links from a task to its todos, and to the incident about its failure."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from airflow.providers.common.compat.sdk import BaseOperatorLink, XCom

from bzctrl_provider.airflow_compat import airflow_at_least
from bzctrl_provider.best_effort import best_effort
from bzctrl_provider.text import web_address

if TYPE_CHECKING:
    from collections.abc import Mapping

    from airflow.providers.common.compat.sdk import BaseOperator, TaskInstanceKey


class BzCtrlTodoLink(BaseOperatorLink):
    """The link "BzCtrl todo" of a task that created one. It only reads the XCom that the operator pushed."""

    name = "BzCtrl todo"
    xcom_key = "bzctrl_todo_link"

    def get_link(self, operator: BaseOperator, *, ti_key: TaskInstanceKey) -> str:
        """Return the todo's address, or an empty text if there is none (yet)."""
        # Airflow 3 asks in the worker after the task, from the operator that has run; Airflow 2 asks in the web server.
        known: str | None = getattr(operator, "todo_link", None)
        link = known if known is not None else XCom.get_value(key=self.xcom_key, ti_key=ti_key)
        # Airflow hands out whatever it gets, `javascript:` too, and any task may write XComs.
        return web_address(link) or ""


class BzCtrlFurtherTodoLink(BzCtrlTodoLink):
    """The link "BzCtrl todo 02" and so on of a task that created several todos.

    :param number: of the todo, from 2. Two digits in the name, because Airflow sorts the links of a task by name.
    """

    def __init__(self, number: int) -> None:
        self.number = number
        self.name = f"{BzCtrlTodoLink.name} {number:02}"
        self.xcom_key = f"{BzCtrlTodoLink.xcom_key}_{number:02}"

    def get_link(self, operator: BaseOperator, *, ti_key: TaskInstanceKey) -> str:  # noqa: ARG002 - Airflow's signature
        """Return the address of this todo, or an empty text, which Airflow 3 does not show."""
        known: tuple[str, ...] = getattr(operator, "todo_links", ())
        return (web_address(known[self.number - 1]) or "") if len(known) >= self.number else ""


class BzCtrlIncidentLink(BzCtrlTodoLink):
    """The link "BzCtrl todo" of a task whose failure callback raised an incident and delivered it itself."""

    def get_link(self, operator: BaseOperator, *, ti_key: TaskInstanceKey) -> str:  # noqa: ARG002 - Airflow's signature
        """Return an empty text: the callback pushes the address, after Airflow asked for the links of the task."""
        return ""


def push_incident_link(context: Mapping[str, Any], link: object) -> None:
    """Keep the link of an incident as an XCom of the task that failed; never raise."""
    address = web_address(link)
    # An operator of this provider has a link of its own.
    if address is None or getattr(context.get("task"), "todo_link", None):
        return
    with best_effort("the link of the incident as an XCom of the task"):
        context["ti"].xcom_push(key=BzCtrlIncidentLink.xcom_key, value=address)


LINKS_OF_TODOS: tuple[BaseOperatorLink, ...] = (
    BzCtrlTodoLink(),
    *(BzCtrlFurtherTodoLink(number) for number in range(2, 11) if airflow_at_least(3, 0)),
)
"""The links of a task with several todos: one for each of the first ten.

Airflow 2 shows a disabled button for each link without an address, so there it is one, to the only todo or to the log.
"""
