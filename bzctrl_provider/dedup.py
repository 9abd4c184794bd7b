"""One todo for a failure that repeats: within a window of time, the first one stands for the others.

The memory is one Airflow Variable for each key, so it holds across runs, workers and Airflow versions. Two tasks that look
at the same moment may both find nothing: at worst one todo too many, never one too few.
"""

from __future__ import annotations

import hashlib
import logging
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any

from bzctrl_provider.memory import read_variable, safe_key, variable_name, write_variable

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from bzctrl_provider.failure import Failure, LazyFailure

log = logging.getLogger(__name__)

_TEXT_MAX = 500
"""Of what is kept of a todo: a Variable's text stays bounded."""


def check_window(window: object) -> None:
    """Check a parameter of an operator or a notifier.

    :raises ValueError: where it is no timedelta.
    """
    if not isinstance(window, timedelta):
        raise ValueError(f"dedup_window must be a timedelta, such as timedelta(days=1), not {window!r}")  # noqa: TRY004 - as for the other parameters


def default_key(failure: Failure | LazyFailure, *, task_id: str | None = None) -> str:
    """Return the key of a failure: the DAG, the task that raises it, and the ids of what failed."""
    return "/".join([failure.dag_id, task_id or "", *failure.task_ids])


def deduplicated(
    create: Callable[[dict[str, Any]], dict[str, Any]],
    *,
    window: timedelta | None,
    bzctrl_conn_id: str,
    key: str | None,
    failure: Failure | LazyFailure,
    task_id: str | None = None,
) -> Callable[[dict[str, Any]], dict[str, Any]]:
    """Return what creates a todo unless it was seen within the window; ``create`` itself where there is no window.

    :param key: the user's own; default: see ``default_key``. Two connections never stand for each other.
    """
    if window is None:
        return create
    of_connection = f"{bzctrl_conn_id}:{key or default_key(failure, task_id=task_id)}"
    return lambda todo: create_unless_seen(create, todo, key=of_connection, window=window)


def create_unless_seen(
    create: Callable[[dict[str, Any]], dict[str, Any]],
    fields: Mapping[str, Any],
    *,
    key: str,
    window: timedelta,
    now: Callable[[], datetime] = lambda: datetime.now(UTC),
) -> dict[str, Any]:
    """Create a todo unless one with the same key was created within the window.

    The first todo after a window tells in the last line of its description how often the failure was seen in it.

    :param create: creates the todo of some fields and returns it.
    :param fields: of the todo.
    :param key: what counts as the same failure.
    :param window: how long the first todo stands for the others, from its creation on.
    :param now: tells the time, in UTC.
    :return: the created todo, or the first one, with ``deduplicated`` false or true.
    """
    name = variable_name("dedup", hashlib.sha256(key.encode("utf-8", "surrogatepass")).hexdigest()[:32])
    seen = _read(name)
    at = now()
    if seen and at < datetime.fromisoformat(seen["created_at"]) + window:
        _write(name, {**seen, "count": seen["count"] + 1})
        created: dict[str, Any] = seen["created"]
        log.info(
            "%s was created for the same failure at %s: no other one is created within %s.",
            safe_key(created),
            seen["created_at"],
            window,
        )
        return {**created, "deduplicated": True}
    todo = create(_with_count(fields, seen))
    kept = {name: value[:_TEXT_MAX] if isinstance(value, str) else value for name, value in todo.items()}
    _write(name, {"key": key[:_TEXT_MAX], "created_at": at.isoformat(), "count": 1, "created": kept})
    return {**todo, "deduplicated": False}


def _with_count(fields: Mapping[str, Any], seen: Mapping[str, Any]) -> dict[str, Any]:
    if seen.get("count", 1) < 2 or not fields.get("description"):  # noqa: PLR2004 - once is told by its own todo
        return dict(fields)
    since = datetime.fromisoformat(seen["created_at"]).strftime("%Y-%m-%d %H:%M:%S UTC")
    note = f"Seen {seen['count']} times since {since}, when {seen['created'].get('key')} was raised."
    return {**fields, "description": f"{fields['description']}\n\n{note}"}


def _read(name: str) -> dict[str, Any]:
    try:
        seen = read_variable(name)
        datetime.fromisoformat(seen.get("created_at", ""))
    except Exception:  # noqa: BLE001 - a memory that cannot be read must not cost an incident
        return {}
    return seen if isinstance(seen.get("created"), dict) and isinstance(seen.get("count"), int) else {}


def _write(name: str, value: dict[str, Any]) -> None:
    try:
        write_variable(name, value)
    except Exception:
        log.warning(
            "That this failure was seen could not be kept: the next one raises an incident.", exc_info=True
        )
