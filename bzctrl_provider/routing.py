"""The routes of the deployment for a failure in Airflow. Nothing here raises: a routes file must not cost an incident."""

from __future__ import annotations

import logging
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import timedelta
from functools import cache
from typing import TYPE_CHECKING, Any

from bzctrl_provider._airflow_internals import find_team
from bzctrl_provider.failure import as_text
from bzctrl_provider.fields import TODO_FIELDS
from bzctrl_provider.reason_text import exception_text
from bzctrl_provider.settings import settings

if TYPE_CHECKING:
    from collections.abc import Callable

    from bzctrl_provider.failure import Failure, LazyFailure
    from bzctrl_provider.routes import Route, RoutesFile, Routing

log = logging.getLogger(__name__)

_PLACE = frozenset({"domain_workspace", "domain", "workspace"})
_TEMPLATED = (*TODO_FIELDS, "bzctrl_conn_id", "dedup_key")


@dataclass(frozen=True)
class Routed:
    """The values that the routes give to one failure.

    :param values: the fields of the todo, ``bzctrl_conn_id``, ``dedup_key``, ``dedup_window`` and
        ``consecutive_failures``, as far as a route sets them; rendered.
    :param ignored_by: why no incident is raised, such as ``ignore = true in route 2``; None if one is raised.
    :param notes: sentences for the description.
    """

    values: Mapping[str, Any] = field(default_factory=dict)
    ignored_by: str | None = None
    notes: tuple[str, ...] = ()

    def without(self, is_set: Callable[[str], bool]) -> dict[str, Any]:
        """Return the values of the fields that are not set yet; ``domain_workspace``, ``domain`` and ``workspace`` are one."""
        has_place = any(map(is_set, _PLACE))
        return {
            name: value
            for name, value in self.values.items()
            if not is_set(name) and not (has_place and name in _PLACE)
        }


def find_routed(
    context: Mapping[str, Any],
    failure: Failure | LazyFailure,
    *,
    render: Callable[[Any], Any],
    is_from_policy: bool = False,
    is_set: Callable[[str], bool] = lambda _: False,
) -> Routed:
    """Return the values that the routes of ``[bzctrl] routes_path`` give to a failure.

    :param context: Airflow's context of a task, a callback or a deadline alert.
    :param failure: the failure.
    :param render: renders a template with the context. If it raises, the field is left out with a note.
    :param is_from_policy: whether the policy raises the incident; without a file, it raises none for backfills.
    :param is_set: returns whether the DAG sets a field, so that its route is not rendered.
    """
    if not _may_apply(context, is_from_policy=is_from_policy):
        return Routed()
    try:
        routing, note = _apply(find_facts(context, failure), is_from_policy=is_from_policy)
        if routing.ignored_by:
            return Routed(ignored_by=_name_ignore(routing.ignored_by))
        values, notes = _render(routing, render, is_set)
    except Exception as exc:  # noqa: BLE001 - an incident without its routes is better than none
        reason = exception_text(exc)
        log.error("The routes could not be applied, so the incident is raised without them. %s", reason)  # noqa: TRY400 - its frames may show secrets
        return Routed(notes=("The routes could not be applied.",))
    return Routed(values, notes=(note, *notes) if note else notes)


def _may_apply(context: Mapping[str, Any], *, is_from_policy: bool) -> bool:
    """Check whether the modules of the routes are needed: loading them takes a callback longer than all that it writes."""
    return bool(settings().routes_path) or (
        is_from_policy and "backfill" in str(_find_run_type(context)).lower()
    )


def _find_run_type(context: Mapping[str, Any]) -> object:
    dag_run = context.get("dag_run")
    # In a deadline alert, the run is a mapping.
    return dag_run.get("run_type") if isinstance(dag_run, Mapping) else getattr(dag_run, "run_type", None)


def find_facts(context: Mapping[str, Any], failure: Failure | LazyFailure) -> dict[str, Any]:
    """Return the parameters of ``RouteFacts`` for a failure; those that this Airflow does not have are None."""
    dag = context.get("dag")
    return {
        "dag_id": failure.dag_id or None,
        "tags": getattr(dag, "tags", None),
        "owner": getattr(dag, "owner", None),
        "task_ids": failure.task_ids,
        "run_type": _find_run_type(context),
        "team": find_team(context.get("ti")),
        "file": failure.file,
    }


def _apply(facts: Mapping[str, Any], *, is_from_policy: bool) -> tuple[Routing, str]:
    """Return what the routes set, and the note of a file with faults."""
    from bzctrl_provider.routes import POLICY_DEFAULTS, LoadedRoutes, RouteFacts, Routes

    path = settings().routes_path
    loaded = _routes_file(path).load() if path else LoadedRoutes(None)
    defaults = POLICY_DEFAULTS if is_from_policy else Routes()
    routes = defaults if loaded.routes is None else loaded.routes
    return routes.apply(RouteFacts(**facts)), loaded.note


@cache
def _routes_file(path: str) -> RoutesFile:
    """Return one for each path, because it keeps the last good version."""
    from bzctrl_provider.routes import RoutesFile

    return RoutesFile(path)


def _name_ignore(route: Route) -> str:
    if route.number == 0:
        return "the default without routes: a backfill raises none"
    return f"ignore = true in {route.label} of {settings().routes_path}"


def _render(
    routing: Routing, render: Callable[[Any], Any], is_set: Callable[[str], bool]
) -> tuple[dict[str, Any], tuple[str, ...]]:
    """Return the values that are left after rendering, and notes about the others."""
    values: dict[str, Any] = {}
    notes = []
    for name in _TEMPLATED:
        if name not in routing.fields or is_set(name):
            continue
        given = routing.fields[name]
        try:
            value = as_text(render(given.value))
        except Exception as exc:  # noqa: BLE001 - a template of a user raises anything, and the other fields stay
            reason = exception_text(exc)
            log.error("The template of %s in %s cannot be rendered. %s", name, given.route.label, reason)  # noqa: TRY400 - its frames may show secrets
            notes.append(f"Left out, because the template in {given.route.label} raises: {name} ({reason}).")
            continue
        if value is not None and value != "":
            values[name] = value
    if (window := routing.fields.get("dedup_window_s")) is not None:
        values["dedup_window"] = timedelta(seconds=window.value)
    if (count := routing.fields.get("consecutive_failures")) is not None:
        values["consecutive_failures"] = count.value
    return values, tuple(notes)


def is_given(value: object, *, default: str | None) -> bool:
    """Return whether a DAG sets a field: neither to nothing, nor to blank text, nor to the default of the parameter."""
    if isinstance(value, str):
        return bool(value.strip()) and value != default
    return value is not None
