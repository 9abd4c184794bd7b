"""The fields of an incident: what the DAG sets, then the routes, then ``[bzctrl]``, and what is generated from the failure."""

from __future__ import annotations

import logging
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from airflow.providers.common.compat.sdk import BaseNotifier

from bzctrl_provider.best_effort import exception_text
from bzctrl_provider.failure.model import as_text, fill_text
from bzctrl_provider.fields import PLACE, TODO_FIELDS, add_left_out_note, add_note, add_run_link
from bzctrl_provider.incidents.deployment import Routed, find_routed
from bzctrl_provider.rules.field_checks import is_given, leave_out_invalid
from bzctrl_provider.settings import settings
from bzctrl_provider.text import NAME_CHARS

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from bzctrl_provider.incidents.occurrence import Occurrence

log = logging.getLogger(__name__)

DEFAULT_CONN_ID = "bzctrl_default"

TEMPLATED = (*TODO_FIELDS, "bzctrl_conn_id", "dedup_key")


@dataclass(frozen=True, kw_only=True)
class Wishes:
    """The wishes of a DAG: the parameters of its operator or notifier.

    :param values: by the names of the parameters, rendered: the fields of the todo, ``bzctrl_conn_id``, ``dedup_key``,
        ``dedup_window`` and ``consecutive_failures``. One that has its default counts as left out.
    :param render: renders a template of the routes or of ``[bzctrl]`` for a parameter.
    :param link_to_run: as in ``CreateTodoOperator``.
    :param routes: whether the routes of the deployment apply.
    :param left_out: the parameters that could not be rendered, each with its error.
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
    :param left_out: the templates that raise, each with its error.
    :param routed: what the routes say.
    """

    values: dict[str, Any] = field(default_factory=dict)
    sources: dict[str, str] = field(default_factory=dict)
    left_out: list[str] = field(default_factory=list)
    routed: Routed = field(default_factory=Routed)

    def add(self, given: Mapping[str, tuple[Any, str]], *, render: Callable[[str, Any], Any]) -> None:
        """Add the values of fields that are not set yet; ``domain_workspace``, ``domain`` and ``workspace`` are one.

        :param given: for each field a value and its source.
        """
        taken = set(self.values)
        if not taken.isdisjoint(PLACE):
            taken.update(PLACE)
        for name, (value, source) in given.items():
            if name in taken or not is_given(value):
                continue
            try:
                rendered = as_text(render(name, value)) if name in TEMPLATED else value
            except Exception as exc:  # noqa: BLE001 - a template of a user raises anything, and the other fields stay
                error = exception_text(exc)
                log.error("The template of %s in %s cannot be rendered. %s", name, source, error)  # noqa: TRY400 - its frames may show secrets
                self.left_out.append(f"{name} of {source} ({error})")
                continue
            if is_given(rendered):
                self.values[name], self.sources[name] = rendered, source


def fill(occurrence: Occurrence, wishes: Wishes) -> Filled:
    """Return the values for an occurrence: for each field, the first of DAG, routes and ``[bzctrl]`` that sets it."""
    defaults = {
        "bzctrl_conn_id": DEFAULT_CONN_ID,
        "todo_type": "INCIDENT",
        "order_id": occurrence.failure.run_id,
    }
    # Only a text is compared: another value may raise when it is.
    own = {
        name: value
        for name, value in wishes.values.items()
        if is_given(value) and not (isinstance(value, str) and value == defaults.get(name))
    }
    filled = Filled(own, dict.fromkeys(own, "the DAG"), list(wishes.left_out))
    if wishes.routes:
        filled.routed = find_routed(occurrence)
        filled.add(filled.routed.values, render=wishes.render)
    options = settings()
    of_options = {
        "bzctrl_conn_id": options.conn_id,
        "domain_workspace": options.domain_workspace,
        "priority": options.priority,
        "dedup_window": options.dedup_window,
        "dedup_key": options.dedup_key,
        "consecutive_failures": options.consecutive_failures,
    }
    filled.add({name: (value, "[bzctrl]") for name, value in of_options.items()}, render=wishes.render)
    return filled


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
    # Without the address of an owner, it is that of the connection.
    fields["assignee"] = fields["assignee"] or failure.assignee
    fields = fill_text(failure, fields, link_to_run=wishes.link_to_run is not False)
    fields = add_run_link(fields, failure.run_url if wishes.link_to_run else None)
    for note in filter(None, (settings().note, filled.routed.note, *notes)):
        fields = add_note(fields, note)
    return add_left_out_note(fields, [*filled.left_out, *invalid])


def new_renderer(variables: Mapping[str, Any]) -> Callable[[str, Any], Any]:
    """Return a function that renders the templates of routes and options where Airflow gives no context.

    That is for a DAG file, and for a failed run in the delivery.

    :param variables: the variables of the templates.
    """
    notifier = BaseNotifier()  # a class of Airflow that has templates without a DAG
    env = notifier.get_template_env(dag=None)
    # Airflow 2 reads the key while it renders.
    context: Any = {"dag": None, **variables}
    return lambda _, value: notifier.render_template(value, context, env, set())
