"""The links from a task to its todo, and to the incident about its failure."""

from __future__ import annotations

from typing import TYPE_CHECKING

from airflow.providers.common.compat.sdk import BaseOperatorLink, XCom

from bzctrl_provider.text import web_address

if TYPE_CHECKING:
    from airflow.providers.common.compat.sdk import BaseOperator, TaskInstanceKey


class BzCtrlTodoLink(BaseOperatorLink):
    """Shows "BzCtrl todo" beside a task that created one. It only reads what the operator pushed."""

    name = "BzCtrl todo"
    xcom_key = "bzctrl_todo_link"

    def get_link(self, operator: BaseOperator, *, ti_key: TaskInstanceKey) -> str:
        """Return the todo's address, or an empty text where there is none (yet)."""
        # Airflow 3 asks in the worker, after the task, where the operator itself knows; Airflow 2 in the web server.
        known: str | None = getattr(operator, "todo_link", None)
        link = known if known is not None else XCom.get_value(key=self.xcom_key, ti_key=ti_key)
        # Airflow hands out whatever it gets, `javascript:` too, and any task may write XComs.
        return web_address(link) or ""


class BzCtrlIncidentLink(BaseOperatorLink):
    """Shows "BzCtrl todo" on a task whose failure callback raised an incident and delivered it itself.

    The API server asks it for every task; it reads the XCom that the callback pushed.
    """

    name = "BzCtrl todo"

    def get_link(self, operator: BaseOperator, *, ti_key: TaskInstanceKey) -> str:  # noqa: ARG002 - Airflow's signature
        """Return the address of the incident, or an empty text, which Airflow does not show."""
        from bzctrl_provider._airflow_internals import read_link

        return web_address(read_link(self.name, BzCtrlTodoLink.xcom_key, ti_key)) or ""
