"""Tasks that create todos in BzCtrl."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, ClassVar

from airflow.providers.common.compat.sdk import AirflowFailException, BaseOperator

from bzctrl_provider.exceptions import (
    BzCtrlAuthError,
    BzCtrlConfigError,
    BzCtrlRejectedError,
    BzCtrlValidationError,
)
from bzctrl_provider.links.bzctrl import BzCtrlTodoLink

if TYPE_CHECKING:
    from collections.abc import Sequence
    from datetime import date

    from airflow.providers.common.compat.sdk import Context

    from bzctrl_provider.client.todo import Text

_TODO_FIELDS = (
    "todo_type",
    "domain_workspace",
    "domain",
    "workspace",
    "title",
    "description",
    "result",
    "financial_impact",
    "impact",
    "likelihood",
    "status",
    "priority",
    "assignee",
    "reporter",
    "category",
    "sub_category",
    "order_id",
    "lrn",
    "reminder_date",
)

_NOT_MENDED_BY_A_RETRY = (BzCtrlConfigError, BzCtrlValidationError, BzCtrlAuthError, BzCtrlRejectedError)


class CreateTodoOperator(BaseOperator):
    """Creates one incident or task in BzCtrl.

    Every field of the todo is a template field and is checked after rendering; all faults are reported at once.
    The task's page gets the link "BzCtrl todo".

    :param todo_type: ``INCIDENT`` (default) or ``TASK``. (templated, like all that follow)
    :param title: text; line breaks become spaces. Mandatory.
    :param description: text. Mandatory.
    :param domain_workspace: where it belongs, such as ``EXA-CON-BUS-WOR``; default: the connection's.
    :param domain: with ``workspace``, instead of ``domain_workspace``.
    :param workspace: see ``domain``.
    :param result: text; tasks only.
    :param financial_impact: an amount in EUR: a number, or digits with an optional decimal point; incidents only.
    :param impact: ``HIGH``, ``MEDIUM`` or ``LOW``; incidents only.
    :param likelihood: ``HIGH``, ``MEDIUM`` or ``LOW``; incidents only.
    :param status: ``IN PROGRESS`` (default), ``TODO``, ``DONE`` or ``EXPIRED``.
    :param priority: ``HIGH``, ``MEDIUM`` or ``LOW``.
    :param assignee: an e-mail address; default: the connection's, else the reporter.
    :param reporter: an e-mail address; default: the connection's.
    :param category: a list of texts, or one text.
    :param sub_category: a list of texts, or one text.
    :param order_id: text, which BzCtrl makes a tag; default: the id of the DAG run, so that the tag leads back to it.
    :param lrn: text, a Local Reference Number, which BzCtrl makes a tag.
    :param reminder_date: a date, a datetime or ISO 8601 text.
    :param bzctrl_conn_id: the Airflow connection, of type ``bzctrl``.
    :return: what was created, as a mapping: ``key``, ``link``, ``title``, ``todo_type``, ``description``, ``tags``.
    :raises AirflowFailException: where a retry cannot help: the connection or the todo is faulty, or BzCtrl refused
        the credentials or the todo.
    :raises BzCtrlError: anything else; Airflow retries the task.
    """

    template_fields: Sequence[str] = (*_TODO_FIELDS, "bzctrl_conn_id")
    template_fields_renderers: ClassVar[dict[str, str]] = {
        "description": "md",
        "result": "md",
        "category": "json",
        "sub_category": "json",
    }
    operator_extra_links = (BzCtrlTodoLink(),)
    ui_color = "#f6d9d5"

    def __init__(
        self,
        *,
        todo_type: str = "INCIDENT",
        title: Text = None,
        description: Text = None,
        domain_workspace: Text = None,
        domain: Text = None,
        workspace: Text = None,
        result: Text = None,
        financial_impact: Text = None,
        impact: str | None = None,
        likelihood: str | None = None,
        status: str | None = None,
        priority: str | None = None,
        assignee: str | None = None,
        reporter: str | None = None,
        category: Sequence[Text] | Text = None,
        sub_category: Sequence[Text] | Text = None,
        order_id: Text = "{{ run_id }}",
        lrn: Text = None,
        reminder_date: date | str | None = None,
        bzctrl_conn_id: str = "bzctrl_default",
        **kwargs: Any,
    ) -> None:
        super().__init__(**kwargs)
        self.todo_type = todo_type
        self.title = title
        self.description = description
        self.domain_workspace = domain_workspace
        self.domain = domain
        self.workspace = workspace
        self.result = result
        self.financial_impact = financial_impact
        self.impact = impact
        self.likelihood = likelihood
        self.status = status
        self.priority = priority
        self.assignee = assignee
        self.reporter = reporter
        self.category = category
        self.sub_category = sub_category
        self.order_id = order_id
        self.lrn = lrn
        self.reminder_date = reminder_date
        self.bzctrl_conn_id = bzctrl_conn_id

    def execute(self, context: Context) -> dict[str, Any]:
        """Create the todo."""
        # Imported here, so that a DAG file that names the operator is parsed without the hook.
        from bzctrl_provider.hooks.bzctrl import BzCtrlHook

        hook = BzCtrlHook(self.bzctrl_conn_id)
        try:
            created = hook.create_todo({name: getattr(self, name) for name in _TODO_FIELDS})
        except _NOT_MENDED_BY_A_RETRY as exc:
            raise AirflowFailException(str(exc)) from exc
        if created.link:
            context["ti"].xcom_push(key=BzCtrlTodoLink.xcom_key, value=created.link)
        return created.as_dict()
