"""The callback that raises an incident: for a task, for a DAG, and for a missed deadline."""

from __future__ import annotations

import copy
import logging
from typing import TYPE_CHECKING, Any

from airflow.providers.common.compat.sdk import BaseNotifier

from bzctrl_provider.best_effort import best_effort
from bzctrl_provider.fields import TODO_FIELDS, TextTemplates
from bzctrl_provider.rules.field_checks import check_literals, find_number_errors, find_window_errors

if TYPE_CHECKING:
    from collections.abc import Generator, Sequence
    from datetime import timedelta
    from typing import Unpack

    from airflow.providers.common.compat.sdk import Context

    from bzctrl_provider.fields import TodoFields
    from bzctrl_provider.notifications.callback import Callback

_SLA_ARGUMENTS = ("dag", "task_list", "blocking_task_list", "slas", "blocking_tis")
"""The arguments of a ``sla_miss_callback``; templates can use them by these names."""


class BzCtrlNotifier(TextTemplates, BaseNotifier):
    """A callback that raises an incident, which says what failed.

    ```python
    DAG("declarations", on_failure_callback=BzCtrlNotifier())
    DAG("declarations", default_args={"on_failure_callback": BzCtrlNotifier(priority="HIGH")})
    ```

    As ``sla_miss_callback`` of a DAG on Airflow 2.11, it raises one incident that names the late tasks, and never an exception.

    For a deadline alert, pass the class; Airflow creates the notifier when the deadline is missed:
    ``AsyncCallback(BzCtrlNotifier, kwargs={"title": "Late: {{ dag_run.dag_id }}"})``.

    The notifier writes title, description and order id (the run's id) if they are left out. Templates can use
    ``{{ failure }}``, as those of the operators.

    A parameter that neither the DAG nor a route sets has the value of ``[bzctrl]``, as in ``IncidentOnFailureOperator``.

    Airflow does not call a task's callback if the task is killed on its last try, and may call it twice after a lost
    worker; it calls a DAG's callback in both cases. ``IncidentOnFailureOperator`` does not depend on callbacks.

    :param bzctrl_conn_id: the Airflow connection, of type ``bzctrl``. (templated, like all fields)
    :param on_retry: whether to raise an incident also while a retry is still to come; default false.
    :param dedup_window: the time for which one incident also represents further failures of the same key, unless a success comes
        between them; off by default, and not for deadline alerts.
    :param dedup_key: the key of failures that count as the same; default: the DAG and the ids of what failed.
    :param consecutive_failures: how many runs in a row must fail before an incident is raised, from 1 to 1000; default: 1.
        Not for deadline alerts.
    :param link_to_run: whether the description has the address of the run in Airflow, as in ``CreateTodoOperator``.
    :param routes: whether the deployment's routes apply; default true. They fill what is left out here.
    :param context: the context that Airflow passes when it creates the notifier (deadline alerts).
    :param fields: the fields of a todo, as in ``CreateTodoOperator``; all optional.
    :raises BzCtrlError: when called, if no incident could be raised. The log then has all of its fields.
    """

    template_fields: Sequence[str] = (*TODO_FIELDS, "bzctrl_conn_id", "dedup_key")

    def __init__(
        self,
        *positional: Any,
        bzctrl_conn_id: str = "bzctrl_default",
        on_retry: bool = False,
        dedup_window: timedelta | None = None,
        dedup_key: str | None = None,
        consecutive_failures: int | None = None,
        link_to_run: bool | None = None,
        routes: bool = True,
        context: Context | None = None,
        **fields: Unpack[TodoFields],
    ) -> None:
        super().__init__()
        if positional:  # above all the context, if the class itself is used as a callback
            raise TypeError(
                "BzCtrlNotifier takes keyword arguments only. As a callback, write BzCtrlNotifier() with parentheses."
            )
        if unknown := fields.keys() - set(TODO_FIELDS):
            raise TypeError(
                f"BzCtrlNotifier has no parameter {', '.join(sorted(unknown))}: its fields are {', '.join(TODO_FIELDS)}"
            )
        # With a context, this is no DAG file but a deadline alert: an invalid field is left out later, and nothing repeats.
        if context is None:
            errors = find_window_errors(dedup_window) + find_number_errors(consecutive_failures)
            check_literals("BzCtrlNotifier", fields, others=errors)
        self.bzctrl_conn_id = bzctrl_conn_id
        self.on_retry = on_retry
        self.dedup_window = dedup_window
        self.dedup_key = dedup_key
        self.consecutive_failures = consecutive_failures
        self.link_to_run = link_to_run
        self.routes = routes
        self.context = context or {}
        for name in TODO_FIELDS:
            setattr(self, name, fields.get(name))

    def __call__(self, *args: Any) -> None:
        """Raise the incident of a context, or as ``sla_miss_callback`` of Airflow 2 that of missed SLAs."""
        if len(args) > 1:
            # Airflow's own handler of an error there raises another one, and calls all callbacks again at each check.
            with best_effort("the incident of missed SLAs", level=logging.ERROR):
                self(dict(zip(_SLA_ARGUMENTS, args, strict=True)))
            return
        self.notify(*args)

    def __await__(self) -> Generator[Any, None, None]:
        """Raise the incident of the context that was given when the notifier was made."""
        return self.async_notify(self.context).__await__()

    def notify(self, context: Context) -> None:
        """Raise the incident of a context."""
        self._new_callback(context).raise_incident()

    async def async_notify(self, context: Context) -> None:
        """Do the same in the triggerer, whose event loop stays free meanwhile."""
        await self._new_callback(context).araise_incident()

    def _new_callback(self, context: Context) -> Callback:
        # Only here: it loads the store and the routes, and a DAG file with the notifier is parsed without them.
        from bzctrl_provider.notifications.callback import Callback

        # Of a copy: rendering replaces the templates, and a DAG's next run needs them again.
        return Callback(copy.copy(self), context)


send_bzctrl_notification = BzCtrlNotifier
