"""The routes of the deployment for an occurrence. Nothing here raises: a routes file must not cost an incident."""

from __future__ import annotations

import logging
from dataclasses import dataclass, field
from functools import cache
from typing import TYPE_CHECKING, Any

from bzctrl_provider.reason_text import exception_text
from bzctrl_provider.settings import settings

if TYPE_CHECKING:
    from collections.abc import Mapping

    from bzctrl_provider.incidents.occurrence import Occurrence
    from bzctrl_provider.routes import Route, RoutesFile, Routing

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Routed:
    """The values that the routes give to one occurrence.

    :param values: for each field that a route sets its value, as it is written, and the name of the route.
    :param ignored_by: why no incident is raised, such as ``ignore = true in route 2``; None if one is raised.
    :param note: a sentence for the description; empty if the file has no faults.
    """

    values: Mapping[str, tuple[Any, str]] = field(default_factory=dict)
    ignored_by: str | None = None
    note: str = ""


def find_routed(occurrence: Occurrence) -> Routed:
    """Return what the routes of ``[bzctrl] routes_path`` say; without a file, the policy raises none for backfills."""
    if not _may_apply(occurrence):
        return Routed()
    try:
        routing, note = _apply(occurrence)
        if route := routing.ignored_by:
            return Routed(ignored_by=_name_ignore(route))
        return Routed(
            {name: (given.value, given.route.label) for name, given in routing.fields.items()}, note=note
        )
    except Exception as exc:  # noqa: BLE001 - an incident without its routes is better than none
        reason = exception_text(exc)
        log.error("The routes could not be applied, so the incident is raised without them. %s", reason)  # noqa: TRY400 - its frames may show secrets
        return Routed(note="The routes could not be applied.")


def _may_apply(occurrence: Occurrence) -> bool:
    """Check whether the modules of the routes are needed: loading them takes a callback longer than all that it writes."""
    return bool(settings().routes_path) or (
        occurrence.is_of_policy and "backfill" in str(occurrence.run_type).lower()
    )


def find_facts(occurrence: Occurrence) -> dict[str, Any]:
    """Return the parameters of ``RouteFacts`` for an occurrence; those that this Airflow does not have are None."""
    failure = occurrence.failure
    return {
        "dag_id": failure.dag_id or None,
        "tags": occurrence.tags,
        "owner": failure.owner,
        "task_ids": failure.task_ids,
        "run_type": occurrence.run_type,
        "team": occurrence.team,
        "file": failure.file,
    }


def _apply(occurrence: Occurrence) -> tuple[Routing, str]:
    """Return what the routes set, and the note of a file with faults."""
    from bzctrl_provider.routes import POLICY_DEFAULTS, LoadedRoutes, RouteFacts, Routes

    path = settings().routes_path
    loaded = _routes_file(path).load() if path else LoadedRoutes(None)
    defaults = POLICY_DEFAULTS if occurrence.is_of_policy else Routes()
    routes = defaults if loaded.routes is None else loaded.routes
    return routes.apply(RouteFacts(**find_facts(occurrence))), loaded.note


@cache
def _routes_file(path: str) -> RoutesFile:
    """Return one for each path, because it keeps the last good version."""
    from bzctrl_provider.routes import RoutesFile

    return RoutesFile(path)


def _name_ignore(route: Route) -> str:
    if route.number == 0:
        return "a backfill raises none by default, without routes"
    return f"ignore = true in {route.label} of {settings().routes_path}"
