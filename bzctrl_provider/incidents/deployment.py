"""The rules of the deployment for an occurrence: its routes and its silences. Nothing here raises: they must not cost an incident."""

from __future__ import annotations

import logging
from dataclasses import dataclass, field
from datetime import UTC, datetime
from functools import cache
from typing import TYPE_CHECKING, Any

from bzctrl_provider.best_effort import best_effort, exception_text
from bzctrl_provider.outbox.writer import format_time
from bzctrl_provider.rules.silences import parse_silences
from bzctrl_provider.settings import settings
from bzctrl_provider.store import problems
from bzctrl_provider.store.database import database
from bzctrl_provider.text import LIST_ITEMS, digest_of

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from bzctrl_provider.failure.model import Failure, LazyFailure
    from bzctrl_provider.incidents.occurrence import Occurrence
    from bzctrl_provider.rules.routes import Route, RoutesFile, Routing
    from bzctrl_provider.rules.silences import Silence, Silences
    from bzctrl_provider.store.repeats import Problem

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
    from bzctrl_provider.rules.routes import POLICY_DEFAULTS, LoadedRoutes, RouteFacts, Routes

    path = settings().routes_path
    loaded = _routes_file(path).load() if path else LoadedRoutes(None)
    defaults = POLICY_DEFAULTS if occurrence.is_of_policy else Routes()
    routes = defaults if loaded.routes is None else loaded.routes
    return routes.apply(RouteFacts(**find_facts(occurrence))), loaded.note


@cache
def _routes_file(path: str) -> RoutesFile:
    """Return one for each path, because it keeps the last good version."""
    from bzctrl_provider.rules.routes import RoutesFile

    return RoutesFile(path)


def _name_ignore(route: Route) -> str:
    if route.number == 0:
        return "a backfill raises none by default, without routes"
    return f"ignore = true in {route.label} of {settings().routes_path}"


SILENCES_VARIABLE = "bzctrl_silences"


@dataclass(frozen=True)
class Silencing:
    """The decision about one failure.

    :param silence: the silence that covers it; None if its incident is raised.
    :param note: a sentence for the description about earlier failures that were silenced; empty if there were none.
    :param key: of the problem that counts them, which ends with the incident; None if there is none.
    """

    silence: Silence | None = None
    note: str = ""
    key: str | None = None


def find_silencing(
    failure: Failure | LazyFailure,
    *,
    now: Callable[[], datetime] = lambda: datetime.now(UTC),
    read_text: Callable[[], str | None] | None = None,
    is_counted: bool = True,
) -> Silencing:
    """Return whether a failure is silenced; if so, count it.

    :param failure: the failure.
    :param now: returns the present time, with a time zone.
    :param read_text: returns the text of the Variable; default: as a task and a callback can read it.
    :param is_counted: whether the failure has happened; otherwise nothing is written.
    """
    silence, is_used = None, False
    with best_effort(f"the silences of the Variable {SILENCES_VARIABLE}"):
        text = (read_text or _read_text)()
        is_used = bool(text and text.strip())
        if is_used:
            silence = _parse(text).find_silence(failure.dag_id or None, failure.task_ids, now=now())
    if not is_used:
        return Silencing()
    if not is_counted:
        return Silencing(silence)
    key = digest_of("silenced", failure.dag_id, *sorted(failure.task_ids))
    with best_effort("the count of silenced failures"), database().transaction() as tx:
        if silence is None:
            return _with_note(problems.find(tx, key), key)
        problem = problems.lock(tx, key, f"silenced {failure.dag_id}")
        # The operator and the policy may both see the failure of one run.
        problems.save(tx, key, problem.with_failure(failure.run_id, now=tx.now))
    return Silencing(silence)


def _with_note(problem: Problem, key: str) -> Silencing:
    if not problem.in_a_row or problem.since is None:
        return Silencing()
    times = "once" if problem.in_a_row == 1 else f"{problem.in_a_row} times"
    return Silencing(note=f"This failure was silenced {times} since {format_time(problem.since)}.", key=key)


def _read_text() -> str | None:
    from airflow.providers.common.compat.sdk import Variable

    # By position: the parameter's name changed with Airflow 3.
    text: str | None = Variable.get(SILENCES_VARIABLE, None)
    return text


def _parse(text: str | None) -> Silences:
    silences = parse_silences(text)
    if silences.errors:
        log.warning(
            "The Variable %s has faults, and the entries with faults silence nothing: %s",
            SILENCES_VARIABLE,
            " ".join(silences.errors[:LIST_ITEMS]),
        )
    return silences
