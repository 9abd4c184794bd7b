"""Silence failures for a time, by the Airflow Variable ``bzctrl_silences``.

```json
[{"dags": "customs_*", "tasks": "*", "until": "2026-12-01T06:00Z", "comment": "OPS-123"}]
```

A silence that cannot be read does not apply: an incident too many is better than one too few.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

from bzctrl_provider.text import LINE_CHARS, fits_any, one_line, parse_time, read_patterns, safe_repr, suggest

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping

_UNTIL = 'an ISO 8601 date and time such as "2026-12-01T06:00Z"'


@dataclass(frozen=True, kw_only=True)
class Silence:
    """One entry of the list.

    :param dags: patterns of DAG ids; default: every DAG.
    :param tasks: patterns of task ids; default: every task.
    :param until: when it ends.
    :param comment: shown if an incident is not raised, such as a ticket's number.
    """

    dags: tuple[str, ...] = ("*",)
    tasks: tuple[str, ...] = ("*",)
    until: datetime
    comment: str = ""

    def covered(self, tasks: set[str | None]) -> set[str | None]:
        """Return which of some tasks it covers; None is one that is not known."""
        return {task for task in tasks if _fits(self.tasks, task)}

    def __str__(self) -> str:
        until = self.until.strftime("%Y-%m-%d %H:%M:%S UTC")
        return f"silenced until {until} ({self.comment})" if self.comment else f"silenced until {until}"


@dataclass(frozen=True)
class Silences:
    """The silences of the Variable.

    :param silences: the valid entries.
    :param errors: the faults of the others; each names its entry, from 1.
    """

    silences: tuple[Silence, ...] = ()
    errors: tuple[str, ...] = ()

    def find_silence(self, dag_id: str | None, task_ids: Iterable[str], *, now: datetime) -> Silence | None:
        """Return the silence of a failure, if all tasks that failed are silenced; otherwise None.

        Several silences together may cover the tasks; the first of them in the list is returned.

        :param dag_id: the DAG; None if it is not known, such as for an import error.
        :param task_ids: the tasks that failed; empty if they are not known. A silence of certain DAGs or tasks does not
            cover what is not known.
        :param now: the present time, with a time zone.
        """
        active = [silence for silence in self.silences if now < silence.until and _fits(silence.dags, dag_id)]
        tasks: set[str | None] = set(task_ids) or {None}
        covering = [silence for silence in active if silence.covered(tasks)]
        covered = set().union(*(silence.covered(tasks) for silence in covering))
        return covering[0] if covered == tasks else None


def _fits(patterns: tuple[str, ...], name: str | None) -> bool:
    return "*" in patterns if name is None else fits_any(patterns, name)


def parse_silences(text: str | None) -> Silences:
    """Read the text of the Variable.

    Each faulty entry is left out with its faults; the others apply. A time of ``until`` without an offset is UTC, as
    Airflow's own times are by default.

    :param text: JSON, a list of objects; None or blank if the Variable is not set.
    """
    if text is None or not text.strip():
        return Silences()
    try:
        entries = json.loads(text)
    except ValueError as exc:
        where = f" at line {exc.lineno}, column {exc.colno}" if isinstance(exc, json.JSONDecodeError) else ""
        return Silences(errors=(f"The Variable is not valid JSON{where}.",))
    if not isinstance(entries, list):
        return Silences(errors=(f"The Variable must be a JSON list of objects, not {safe_repr(entries)}.",))
    silences, errors = [], []
    for number, entry in enumerate(entries, 1):
        fields, faults = _read_entry(entry)
        errors += [f"Entry {number}: {fault}." for fault in faults]
        if not faults:
            silences.append(Silence(**fields))
    return Silences(tuple(silences), tuple(errors))


def _read_entry(entry: Any) -> tuple[dict[str, Any], list[str]]:
    """Return the values of an entry, and its faults."""
    if not isinstance(entry, dict):
        return {}, [f'must be an object such as {{"dags": "customs_*", "until": …}}, not {safe_repr(entry)}']
    fields: dict[str, Any] = {}
    faults = []
    for name, value in {"until": None, **entry}.items():
        if name not in _RULES:
            faults.append(f"{safe_repr(name)} is unknown: {suggest(name, _RULES)}")
            continue
        try:
            fields[name] = _RULES[name](value)
        except ValueError as exc:
            faults.append(f"{name} {exc}")
    return fields, faults


def _read_until(value: Any) -> datetime:
    if value is None:
        raise ValueError(f"is mandatory: give {_UNTIL}")
    until = parse_time(value.strip(), zone=UTC) if isinstance(value, str) else None
    # A date has no time.
    if until is None or len(value.strip()) <= len("2026-12-01"):
        raise ValueError(f"must be {_UNTIL}, not {safe_repr(value)}")
    return until


def _read_comment(value: Any) -> str:
    if not isinstance(value, str | None):
        raise ValueError(f"must be a text, not {safe_repr(value)}")  # noqa: TRY004 - a fault of the Variable
    return one_line(value or "", max_chars=LINE_CHARS)


_RULES: Mapping[str, Callable[[Any], Any]] = {
    "dags": read_patterns,
    "tasks": read_patterns,
    "until": _read_until,
    "comment": _read_comment,
}
"""The keys of an entry, each with what returns its value, or raises ``ValueError``."""
