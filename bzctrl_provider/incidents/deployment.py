"""The rules of the deployment for an occurrence: its routes and its silences. Nothing here raises: they must not cost an incident."""

from __future__ import annotations

import logging
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any, NamedTuple

from bzctrl_provider.best_effort import best_effort
from bzctrl_provider.outbox.writer import format_time
from bzctrl_provider.rules.silences import Silence, find_silence, parse_silences
from bzctrl_provider.settings import settings
from bzctrl_provider.store import problems
from bzctrl_provider.store.database import database
from bzctrl_provider.text import LIST_ITEMS, digest_of

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from bzctrl_provider.failure.model import Failure, LazyFailure
    from bzctrl_provider.incidents.occurrence import Occurrence
    from bzctrl_provider.rules.routes import LoadedRoutes, Route

log = logging.getLogger(__name__)


class Routed(NamedTuple):
    """The values that the routes give to one occurrence.

    :param values: for each field that a route sets its value, as it is written, and the name of the route.
    :param ignored_by: why no incident is raised, such as ``ignore = true in route 2``; None if one is raised.
    :param note: a sentence for the description; empty if the file has no faults.
    """

    values: Mapping[str, tuple[Any, str]] = {}
    ignored_by: str | None = None
    note: str = ""


def find_routed(occurrence: Occurrence) -> Routed:
    """Return what the routes of ``[bzctrl] routes_path`` say; without a file, the policy raises none for backfills."""
    # Otherwise the modules of the routes are not loaded: that takes a callback longer than all that it writes.
    if settings().routes_path or occurrence.is_of_policy:
        with best_effort("the routes, so the incident is raised without them", level=logging.ERROR):
            return _apply_routes(occurrence)
        return Routed(note="The routes could not be applied.")
    return Routed()


def load_routes(occurrence: Occurrence) -> tuple[Sequence[Route], LoadedRoutes]:
    """Return the routes for an occurrence, which are the defaults if there is no good file, and what the file has."""
    from bzctrl_provider.rules.routes import POLICY_DEFAULTS, LoadedRoutes, open_routes

    path = settings().routes_path
    loaded = open_routes(path).load() if path else LoadedRoutes(None)
    defaults = POLICY_DEFAULTS if occurrence.is_of_policy else ()
    return defaults if loaded.routes is None else loaded.routes, loaded


def _apply_routes(occurrence: Occurrence) -> Routed:
    from bzctrl_provider.rules.routes import apply_routes, find_ignoring

    routes, loaded = load_routes(occurrence)
    names = find_names(occurrence)
    if ignoring := find_ignoring(routes, names):
        by_file = f"ignore = true in {ignoring.label} of {settings().routes_path}"
        by_default = "a backfill raises none by default, without routes"
        return Routed(ignored_by=by_file if ignoring.number else by_default)
    fields = apply_routes(routes, names)
    values = {name: (value, route.label) for name, (value, route) in fields.items()}
    if "dedup_window_s" in values:
        # As operators and notifiers have it.
        seconds, label = values.pop("dedup_window_s")
        values["dedup_window"] = timedelta(seconds=seconds), label
    return Routed(values, note=loaded.note)


def find_names(occurrence: Occurrence) -> dict[str, tuple[str, ...] | None]:
    """Return the names of an occurrence that each matcher of a route compares; None if they are not known."""
    from bzctrl_provider.rules.routes import current_run_type

    failure = occurrence.failure
    owner = failure.owner
    run_type = current_run_type(occurrence.run_type) if occurrence.run_type else None
    return {
        "dags": _one(failure.dag_id),
        "tags": None if occurrence.tags is None else tuple(occurrence.tags),
        # Airflow joins the owners of a DAG's tasks by commas.
        "owners": None if owner is None else tuple(filter(None, map(str.strip, owner.split(",")))),
        # An incident without a known task is one whose tasks Airflow does not report.
        "tasks": tuple(failure.task_ids) or None,
        "run_types": _one(run_type),
        "teams": _one(occurrence.team),
        "files": _one(failure.file),
    }


def _one(name: str | None) -> tuple[str, ...] | None:
    return (name,) if name else None


SILENCES_VARIABLE = "bzctrl_silences"


class Silencing(NamedTuple):
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
    read_text: Callable[[], str | None] | None = None,
    is_counted: bool = True,
) -> Silencing:
    """Return whether a failure is silenced; if so, count it.

    :param failure: the failure.
    :param read_text: returns the text of the Variable; default: as a task and a callback can read it.
    :param is_counted: whether the failure has happened; otherwise nothing is written.
    """
    silence, text = None, ""
    with best_effort(f"the silences of the Variable {SILENCES_VARIABLE}"):
        text = ((read_text or _read_text)() or "").strip()
        silences, errors = parse_silences(text)
        if errors:
            log.warning(
                "The Variable %s has faults, and the entries with faults silence nothing: %s",
                SILENCES_VARIABLE,
                " ".join(errors[:LIST_ITEMS]),
            )
        silence = find_silence(silences, failure.dag_id or None, failure.task_ids, now=datetime.now(UTC))
    if not text or not is_counted:
        return Silencing(silence)
    key = digest_of("silenced", failure.dag_id, *sorted(failure.task_ids))
    with best_effort("the count of silenced failures"), database().transaction() as tx:
        if silence is None:
            problem = problems.find(tx, key)
            if problem.since is None:
                return Silencing()
            times = "once" if problem.in_a_row == 1 else f"{problem.in_a_row} times"
            note = f"This failure was silenced {times} since {format_time(problem.since)}."
            return Silencing(note=note, key=key)
        problem = problems.lock(tx, key, f"silenced {failure.dag_id}")
        # The operator and the policy may both see the failure of one run.
        problems.save(tx, key, problem.with_failure(failure.run_id, now=tx.now))
    return Silencing(silence)


def _read_text() -> str | None:
    from airflow.providers.common.compat.sdk import Variable

    # By position: the parameter's name changed with Airflow 3.
    text: str | None = Variable.get(SILENCES_VARIABLE, None)
    return text
