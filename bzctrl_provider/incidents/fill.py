"""The fields of an incident: what the DAG sets, then the routes, then ``[bzctrl]``, and what is generated from the failure."""

from __future__ import annotations

import logging
from dataclasses import dataclass, field
from datetime import timedelta
from typing import TYPE_CHECKING, Any

from airflow.providers.common.compat.sdk import BaseNotifier

from bzctrl_provider.best_effort import exception_text
from bzctrl_provider.failure.model import as_text, fill_assignee, fill_text
from bzctrl_provider.fields import TODO_FIELDS, add_left_out_note, add_note, add_run_link, keep_text
from bzctrl_provider.incidents.deployment import find_routed
from bzctrl_provider.outbox.writer import log_incident
from bzctrl_provider.rules.field_checks import leave_out_invalid
from bzctrl_provider.settings import settings
from bzctrl_provider.text import NAME_CHARS

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from airflow.providers.common.compat.sdk import Context
    from jinja2 import Environment

    from bzctrl_provider.incidents.deployment import Routed
    from bzctrl_provider.incidents.occurrence import Occurrence

log = logging.getLogger(__name__)

DEFAULT_CONN_ID = "bzctrl_default"

TEMPLATED = (*TODO_FIELDS, "bzctrl_conn_id", "dedup_key")

_PLACE = frozenset({"domain_workspace", "domain", "workspace"})

_OF_THE_DAG = "the DAG"
_OF_THE_OPTIONS = "[bzctrl]"


@dataclass(frozen=True, kw_only=True)
class Wishes:
    """The wishes of a DAG: the parameters of its operator or notifier.

    :param values: by the names of the parameters, rendered: the fields of the todo, ``bzctrl_conn_id``, ``dedup_key``,
        ``dedup_window`` and ``consecutive_failures``. One that has its default counts as left out.
    :param render: renders a template of the routes or of ``[bzctrl]`` for a parameter.
    :param link_to_run: as in ``CreateTodoOperator``.
    :param routes: whether the routes of the deployment apply.
    :param left_out: the parameters that could not be rendered, each with the reason.
    :param templates: the difference of this notifier from others of the same occurrence.
    """

    values: Mapping[str, Any] = field(default_factory=dict)
    render: Callable[[str, Any], Any] = lambda _, value: value
    link_to_run: bool | None = None
    routes: bool = True
    left_out: Sequence[str] = ()
    templates: Sequence[str] = ()


def read_parameters(owner: object) -> dict[str, Any]:
    """Return the parameters of an operator or a notifier after rendering, for ``Wishes``."""
    names = (*TEMPLATED, "dedup_window", "consecutive_failures")
    return {name: as_text(getattr(owner, name)) for name in names}


@dataclass
class Filled:
    """The values for one occurrence, with where each comes from.

    :param values: by the names of the parameters, rendered; without those that nobody sets.
    :param sources: for each of them "the DAG", "route 2" or "[bzctrl]".
    :param left_out: the templates that raise, each with the reason.
    :param note: a sentence for the description about a routes file with faults; empty if there is none.
    :param ignored_by: the route by which no incident is raised; None if one is raised.
    """

    values: dict[str, Any] = field(default_factory=dict)
    sources: dict[str, str] = field(default_factory=dict)
    left_out: list[str] = field(default_factory=list)
    note: str = ""
    ignored_by: str | None = None

    def add(self, given: Mapping[str, tuple[Any, str]], *, render: Callable[[str, Any], Any]) -> None:
        """Add the values of fields that are not set yet; ``domain_workspace``, ``domain`` and ``workspace`` are one.

        :param given: for each field a value and its source.
        """
        taken = self.values.keys() | (_PLACE if _PLACE & self.values.keys() else set())
        for name, (value, source) in given.items():
            if name in taken or not is_given(value):
                continue
            try:
                rendered = as_text(render(name, value)) if name in TEMPLATED else value
            except Exception as exc:  # noqa: BLE001 - a template of a user raises anything, and the other fields stay
                reason = exception_text(exc)
                log.error("The template of %s in %s cannot be rendered. %s", name, source, reason)  # noqa: TRY400 - its frames may show secrets
                self.left_out.append(f"{name} of {source} ({reason})")
                continue
            if is_given(rendered):
                self.values[name], self.sources[name] = rendered, source


def fill(occurrence: Occurrence, wishes: Wishes) -> Filled:
    """Return the values for an occurrence: for each field, the first of DAG, routes and ``[bzctrl]`` that sets it."""
    filled = Filled(left_out=list(wishes.left_out))
    defaults = {
        "bzctrl_conn_id": DEFAULT_CONN_ID,
        "todo_type": "INCIDENT",
        "order_id": occurrence.failure.run_id,
    }
    own = {
        name: value
        for name, value in wishes.values.items()
        if not (isinstance(value, str) and value == defaults.get(name))
    }
    # They are rendered: a template in their data is none.
    filled.add({name: (value, _OF_THE_DAG) for name, value in own.items()}, render=lambda _, value: value)
    if wishes.routes:
        routed = find_routed(occurrence)
        filled.note, filled.ignored_by = routed.note, routed.ignored_by
        filled.add(_with_window(routed), render=wishes.render)
    options = settings()
    of_options = {
        "bzctrl_conn_id": options.conn_id,
        "domain_workspace": options.domain_workspace,
        "priority": options.priority,
        "dedup_window": options.dedup_window,
        "dedup_key": options.dedup_key,
        "consecutive_failures": options.consecutive_failures,
    }
    filled.add({name: (value, _OF_THE_OPTIONS) for name, value in of_options.items()}, render=wishes.render)
    return filled


def _with_window(routed: Routed) -> Mapping[str, tuple[Any, str]]:
    """Return the values of routes with the window as operators and notifiers have it."""
    if "dedup_window_s" not in routed.values:
        return routed.values
    seconds, source = routed.values["dedup_window_s"]
    return {**routed.values, "dedup_window": (timedelta(seconds=seconds), source)}


def is_given(value: object) -> bool:
    """Return whether a field is set: neither to nothing nor to blank text."""
    return bool(value.strip()) if isinstance(value, str) else value is not None


def complete(
    occurrence: Occurrence, wishes: Wishes, filled: Filled, *, notes: Sequence[str] = ()
) -> dict[str, Any]:
    """Return all fields of the todo, without the invalid ones: the incident is worth more than its field.

    :param notes: further sentences for the description.
    """
    failure = occurrence.failure
    fields, invalid = leave_out_invalid({name: filled.values.get(name) for name in TODO_FIELDS})
    fields["todo_type"] = fields["todo_type"] or "INCIDENT"
    # The name of a file is at the end of its path.
    fields["order_id"] = fields["order_id"] or failure.run_id or (failure.file or "")[-NAME_CHARS:]
    fields = fill_text(failure, fields, link_to_run=wishes.link_to_run is not False)
    fields = add_run_link(fields, failure.run_url if wishes.link_to_run else None)
    fields = fill_assignee(failure, fields)
    for note in filter(None, (settings().note, filled.note, *notes)):
        fields = add_note(fields, note)
    return add_left_out_note(fields, [*filled.left_out, *invalid])


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
