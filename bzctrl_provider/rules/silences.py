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
from difflib import get_close_matches
from typing import TYPE_CHECKING, Any

from bzctrl_provider.text import LINE_CHARS, fits_any, one_line, parse_time, read_patterns, safe_repr

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

_KEYS = ("dags", "tasks", "until", "comment")
_EVERYTHING = ("*",)
_UNTIL = 'an ISO 8601 date and time such as "2026-12-01T06:00Z"'


@dataclass(frozen=True, kw_only=True)
class Silence:
    """One entry of the list.

    :param dags: patterns of DAG ids; default: every DAG.
    :param tasks: patterns of task ids; default: every task.
    :param until: when it ends.
    :param comment: shown if an incident is not raised, such as a ticket's number.
    """

    dags: tuple[str, ...] = _EVERYTHING
    tasks: tuple[str, ...] = _EVERYTHING
    until: datetime
    comment: str = ""

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
        tasks: set[str | None] = set(task_ids)
        positions = []
        for task in tasks or {None}:
            position = next((n for n, silence in enumerate(active) if _fits(silence.tasks, task)), None)
            if position is None:
                return None
            positions.append(position)
        return active[min(positions)]


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
        fields: dict[str, Any] = {}
        found = list(_read_entry(entry, fields))
        errors += [f"Entry {number}: {error}." for error in found]
        if not found:
            silences.append(Silence(**fields))
    return Silences(tuple(silences), tuple(errors))


def _read_entry(entry: Any, fields: dict[str, Any]) -> Iterator[str]:
    """Put the values of an entry into the fields of a silence, and yield its faults."""
    if not isinstance(entry, dict):
        yield f'must be an object such as {{"dags": "customs_*", "until": …}}, not {safe_repr(entry)}'
        return
    for name, value in {"until": None, **entry}.items():
        try:
            fields[name] = _read_value(name, value)
        except ValueError as exc:
            yield str(exc)


def _read_value(name: str, value: Any) -> Any:
    if name not in _KEYS:
        close = get_close_matches(name, _KEYS, n=1)
        remedy = f"did you mean {close[0]}?" if close else f"there are {', '.join(_KEYS)}"
        raise ValueError(f"{safe_repr(name)} is unknown: {remedy}")
    if name == "until":
        return _read_until(value)
    if name == "comment":
        if not isinstance(value, str | None):
            raise ValueError(f"comment must be a text, not {safe_repr(value)}")
        return one_line(value or "", max_chars=LINE_CHARS)
    try:
        return read_patterns(value)
    except ValueError as exc:
        raise ValueError(f"{name} {exc}") from exc


def _read_until(value: Any) -> datetime:
    if value is None:
        raise ValueError(f"until is mandatory: give {_UNTIL}")
    until = parse_time(value.strip(), zone=UTC) if isinstance(value, str) else None
    # A date has no time.
    if until is None or len(value.strip()) <= len("2026-12-01"):
        raise ValueError(f"until must be {_UNTIL}, not {safe_repr(value)}")
    return until
