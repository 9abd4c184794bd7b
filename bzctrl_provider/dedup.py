"""One todo for a failure that repeats: within a window of time, the first todo counts for the others.

A success ends the window. If it is not known whether there was one, a todo is created.

The memory is one Airflow Variable per key, so it holds across runs, workers and Airflow versions. Two tasks that read it
at the same moment may both find nothing: at worst one todo too many, never one too few.
"""

from __future__ import annotations

import hashlib
import logging
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from functools import partial
from typing import TYPE_CHECKING, Any, Protocol

from bzctrl_provider.best_effort import best_effort
from bzctrl_provider.fields import name_workspace
from bzctrl_provider.limits import TEXT_CHARS
from bzctrl_provider.memory import read_variable, safe_key, variable_name, write_variable
from bzctrl_provider.metrics import count_todos
from bzctrl_provider.recovery import is_within_window
from bzctrl_provider.times import parse_time

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from bzctrl_provider.failure import Failure, LazyFailure

log = logging.getLogger(__name__)

_CLOCK_SKEW = timedelta(hours=1)


class FindSuccess(Protocol):
    """Return the end of the last success before a failure, such as ``successes.LastSuccess``."""

    def __call__(self, *, if_unknown: datetime | None) -> datetime | None:
        """Return None if there was none, and ``if_unknown`` if Airflow cannot be asked."""


def no_success(**_: datetime | None) -> datetime | None:
    """Return None, for a window that only ends by its time."""
    return None


@dataclass(frozen=True, kw_only=True)
class _Seen:
    """Hold a failure that was seen before.

    :param created_at: when its todo was created, with a time zone.
    :param count: how often it was seen since.
    :param created: the todo.
    :param key: the key of the failure, for people who read the Variable.
    :param last: the identity of the incident that was counted last; empty if it has none.
    """

    created_at: datetime
    count: int
    created: Mapping[str, Any]
    key: str
    last: str = ""

    @classmethod
    def parse(cls, value: Mapping[str, Any], *, at: datetime) -> _Seen:
        """Check the JSON of a Variable, which others than this provider can write, too.

        :raises ValueError: if it is not in the form that ``as_json`` returns, or was created after ``at``.
        """
        time, count, created = parse_time(value.get("created_at")), value.get("count"), value.get("created")
        if type(count) is not int or count < 1 or not isinstance(created, dict):
            raise ValueError("it is in another form")
        if time is None or time > at + _CLOCK_SKEW:
            raise ValueError("its time is invalid, has no time zone, or is in the future")
        return cls(
            created_at=time,
            count=count,
            created=created,
            key=str(value.get("key")),
            last=str(value.get("last") or ""),
        )

    def as_json(self) -> dict[str, Any]:
        """Return the form in which it is kept."""
        return {
            "key": self.key[:TEXT_CHARS],
            "created_at": self.created_at.isoformat(),
            "count": self.count,
            **({"last": self.last} if self.last else {}),
            "created": {
                name: value[:TEXT_CHARS] if isinstance(value, str) else value
                for name, value in self.created.items()
            },
        }


def deduplicated(
    create: Callable[[dict[str, Any]], dict[str, Any]],
    *,
    window: timedelta | None,
    bzctrl_conn_id: str,
    key: str | None,
    failure: Failure | LazyFailure,
    task_id: str | None = None,
    identity: str = "",
    last_success: FindSuccess = no_success,
) -> Callable[[dict[str, Any]], dict[str, Any]]:
    """Return a function that creates a todo unless the failure was seen within the window.

    :param window: None returns ``create`` itself.
    :param key: see ``full_key``.
    :param identity: see ``create_unless_seen``.
    :param last_success: see ``create_unless_seen``.
    """
    if window is None:
        return create

    def create_in_its_workspace(todo: dict[str, Any]) -> dict[str, Any]:
        own = full_key(todo, bzctrl_conn_id=bzctrl_conn_id, key=key, failure=failure, task_id=task_id)
        return create_unless_seen(
            create, todo, key=own, window=window, identity=identity, last_success=last_success
        )

    return create_in_its_workspace


def full_key(
    fields: Mapping[str, Any],
    *,
    bzctrl_conn_id: str,
    key: str | None,
    failure: Failure | LazyFailure,
    task_id: str | None = None,
) -> str:
    """Return the key that two failures share if they count as the same one.

    Failures of two connections or workspaces are never the same: the incident of one team must not suppress that of
    another.

    :param fields: of the todo.
    :param key: the user's own; default: the DAG, the task that raises the incident, and the ids of the failed tasks.
    """
    key = key or "/".join([failure.dag_id, task_id or "", *failure.task_ids])
    return f"{bzctrl_conn_id}:{name_workspace(fields)}:{key}"


def create_unless_seen(
    create: Callable[[dict[str, Any]], dict[str, Any]],
    fields: Mapping[str, Any],
    *,
    key: str,
    window: timedelta,
    identity: str = "",
    last_success: FindSuccess = no_success,
    now: Callable[[], datetime] = lambda: datetime.now(UTC),
) -> dict[str, Any]:
    """Create a todo unless one with the same key was created within the window, and no success came since.

    The last line of the description of the first todo after a window says how often the failure was seen in it.

    :param create: creates the todo of some fields and returns it.
    :param fields: of the todo.
    :param key: the same for failures that count as the same.
    :param window: how long the first todo counts for the others, from its creation on.
    :param identity: of the incident: one that is raised twice, because Airflow calls a callback twice, counts once.
    :param last_success: returns the end of the last success; it is asked only if the window has not ended by its time.
    :param now: returns the time, in UTC.
    :return: the created todo, or the first one, with ``deduplicated`` false or true.
    """
    name = variable_name("dedup", hashlib.sha256(key.encode("utf-8", "surrogatepass")).hexdigest()[:32])
    at = now()
    seen = _read(name, at=at)
    if seen and identity and identity == seen.last:
        log.info("Airflow called this callback before: the incident is raised once.")
        return {**seen.created, "deduplicated": True}
    if seen and _covers(seen, at=at, window=window, last_success=last_success):
        _write(name, replace(seen, count=seen.count + 1, last=identity))
        log.info(
            "%s was raised for the same failure at %s: no other one is raised within %s.",
            _name(seen.created),
            seen.created_at.isoformat(),
            window,
        )
        count_todos("deduplicated", todo_type=fields.get("todo_type"))
        return {**seen.created, "deduplicated": True}
    todo = create(_with_count(fields, seen))
    _write(name, _Seen(created_at=at, count=1, created=todo, key=key, last=identity))
    return {**todo, "deduplicated": False}


def _covers(seen: _Seen, *, at: datetime, window: timedelta, last_success: FindSuccess) -> bool:
    """Return whether the first todo counts for a failure."""
    is_within = partial(is_within_window, first_at=seen.created_at, now=at, window=window)
    if not is_within(last_success_at=None):
        return False
    success_at = last_success(if_unknown=at)
    if is_within(last_success_at=success_at):
        return True
    log.info(
        "%s was raised for the same failure at %s, but a success at %s ended its window.",
        _name(seen.created),
        seen.created_at.isoformat(),
        success_at and success_at.isoformat(),
    )
    return False


def _with_count(fields: Mapping[str, Any], seen: _Seen | None) -> dict[str, Any]:
    description = fields.get("description")
    if not seen or seen.count == 1 or not isinstance(description, str) or not description:
        return dict(fields)
    since = seen.created_at.astimezone(UTC).strftime("%Y-%m-%d %H:%M:%S UTC")
    note = f"Seen {seen.count} times since {since}, when {_name(seen.created)} was raised."
    return {**fields, "description": f"{description}\n\n{note}"}


def _name(created: Mapping[str, Any]) -> str:
    """Return the key of a todo; an incident that was written into the spool has none yet."""
    return safe_key(created) if created.get("key") else "the first incident"


def _read(name: str, *, at: datetime) -> _Seen | None:
    seen = None
    with best_effort("the memory of this failure, so a todo is created"):
        if value := read_variable(name):
            seen = _Seen.parse(value, at=at)
    return seen


def _write(name: str, seen: _Seen) -> None:
    with best_effort("the memory of this failure, so the next one creates another todo"):
        write_variable(name, seen.as_json())
