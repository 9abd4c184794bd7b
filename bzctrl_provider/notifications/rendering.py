"""The templates of a notifier, rendered with the context of one call."""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING, Any

from airflow.providers.common.compat.sdk import BaseNotifier

from bzctrl_provider.failure import as_text
from bzctrl_provider.fields import TODO_FIELDS
from bzctrl_provider.incidents.fields import TEMPLATED
from bzctrl_provider.lost import log_incident
from bzctrl_provider.reason_text import exception_text
from bzctrl_provider.templates import keep_text

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from airflow.providers.common.compat.sdk import Context
    from jinja2 import Environment

log = logging.getLogger(__name__)


class Renderer:
    """The templates of one call, also for contexts without a DAG and under ``airflow dags test``, whose DAG has no environment.

    :param notifier: whose attributes are rendered in place.
    :param context: of the call.
    :param jinja_env: renders them; default: that of the DAG.
    """

    def __init__(self, notifier: Any, context: Context, jinja_env: Environment | None) -> None:
        self._notifier = notifier
        self._context = context
        self._jinja_env = jinja_env

    def render_fields(self) -> list[str]:
        """Render the parameters of the notifier, and return those whose template raises, each with the reason.

        A callback is the last chance, and the incident is worth more than its field.

        :raises Exception: the template of the connection raises: another BzCtrl must not get the incident.
        """
        left_out = []
        for name in TEMPLATED:
            try:
                setattr(self._notifier, name, as_text(self.render(name, getattr(self._notifier, name))))
            except Exception as exc:
                if name == "bzctrl_conn_id":
                    log_incident({name: getattr(self._notifier, name) for name in TODO_FIELDS})
                    raise
                reason = exception_text(exc)
                log.error(  # noqa: TRY400 - its frames may show secrets
                    "The template of %s cannot be rendered, so the incident is raised without it. %s",
                    name,
                    reason,
                )
                left_out.append(f"{name} ({reason})")
                setattr(self._notifier, name, None)
        return left_out

    def render(self, name: str, value: Any) -> Any:
        """Render the value of one parameter."""
        if _is_word(value):
            return value
        dag = self._context.get("dag")
        if self._jinja_env is None:
            self._jinja_env = self._notifier.get_template_env(
                dag=dag if hasattr(dag, "get_template_env") else None
            )
        jinja_env = keep_text(self._jinja_env, name, value, dag=dag)
        return self._notifier.render_template(value, self._context, jinja_env, set())


def _is_word(value: object) -> bool:
    """Return whether a field is unset, or only letters, digits, ``_`` and ``-``, as the default of a connection's id.

    To make Jinja's environment takes most of a callback's time, and each callback of a DAG is a process of its own.
    """
    return value is None or (isinstance(value, str) and value.replace("-", "_").isidentifier())


class _Templates(BaseNotifier):
    """The class of Airflow with templates that needs no DAG."""

    def notify(self, context: Context) -> None:
        """Do nothing."""


def new_renderer(variables: Mapping[str, Any]) -> Callable[[str, Any], Any]:
    """Return a function that renders the templates of routes and options where Airflow gives no context.

    That is for a DAG file, and for a failed run in the delivery.

    :param variables: the variables of the templates.
    """
    notifier = _Templates()
    env = notifier.get_template_env(dag=None)
    # Airflow 2 reads the key while it renders.
    context: Any = {"dag": None, **variables}
    return lambda _, value: notifier.render_template(value, context, env, set())
