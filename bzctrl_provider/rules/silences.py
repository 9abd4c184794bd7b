"""Silence failures for a time, by the Airflow Variable ``bzctrl_silences``.

```json
[{"dags": "customs_*", "tasks": "*", "until": "2026-12-01T06:00Z", "comment": "OPS-123"}]
```

A silence that cannot be read does not apply: an incident too many is better than one too few.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from bzctrl_provider.text import (
    LINE_CHARS,
    fits_any,
    one_line,
    parse_time,
    read_patterns,
    read_values,
    safe_repr,
)

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping
    from datetime import datetime

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

    def __str__(self) -> str:
        until = self.until.strftime("%Y-%m-%d %H:%M:%S UTC")
        return f"silenced until {until} ({self.comment})" if self.comment else f"silenced until {until}"


def find_silence(
    silences: Iterable[Silence], dag_id: str | None, task_ids: Iterable[str], *, now: datetime
) -> Silence | None:
    """Return the silence of a failure, if all tasks that failed are silenced; otherwise None.

    Several silences together may cover the tasks; the first of them in the list is returned.

    :param dag_id: the DAG; None if it is not known, such as for an import error.
    :param task_ids: the tasks that failed; empty if they are not known. A silence of certain DAGs or tasks does not
        cover what is not known.
    :param now: the present time, with a time zone.
    """
    active = [silence for silence in silences if now < silence.until and _fits(silence.dags, [dag_id])]
    tasks: list[str | None] = [*task_ids] or [None]
    covering = [silence for silence in active if _fits(silence.tasks, tasks)]
    is_silenced = all(any(_fits(silence.tasks, [task]) for silence in covering) for task in tasks)
    return covering[0] if is_silenced else None


def _fits(patterns: tuple[str, ...], names: Iterable[str | None]) -> bool:
    """Return whether any of the patterns fits any of the names; None is one that is not known, which only ``*`` fits."""
    return any("*" in patterns if name is None else fits_any(patterns, name) for name in names)


def parse_silences(text: str | None) -> tuple[list[Silence], list[str]]:
    """Return the silences of the Variable, and the faults of its other entries, each with its number from 1.

    Each faulty entry is left out; the others apply. A time of ``until`` without an offset is UTC, as Airflow's own times
    are by default.

    :param text: JSON, a list of objects; None or blank if the Variable is not set.
    """
    if text is None or not text.strip():
        return [], []
    try:
        entries = json.loads(text)
    except ValueError as exc:
        where = f" at line {exc.lineno}, column {exc.colno}" if isinstance(exc, json.JSONDecodeError) else ""
        return [], [f"The Variable is not valid JSON{where}."]
    if not isinstance(entries, list):
        return [], [f"The Variable must be a JSON list of objects, not {safe_repr(entries)}."]
    silences, errors = [], []
    for number, entry in enumerate(entries, 1):
        fields, faults = _read_entry(entry)
        errors += [f"Entry {number}: {fault}." for fault in faults]
        if not faults:
            silences.append(Silence(**fields))
    return silences, errors


def _read_entry(entry: Any) -> tuple[dict[str, Any], list[str]]:
    """Return the values of an entry, and its faults."""
    if not isinstance(entry, dict):
        return {}, [f'must be an object such as {{"dags": "customs_*", "until": …}}, not {safe_repr(entry)}']
    fields, faults = read_values({"until": None, **entry}, _RULES)
    return fields, [f"{name if name in _RULES else safe_repr(name)} {fault}" for name, fault in faults]


def _read_until(value: Any) -> datetime:
    if value is None:
        raise ValueError(f"is mandatory: give {_UNTIL}")
    text = value.strip() if isinstance(value, str) else ""
    # The second one is a time without an offset; a date takes none.
    until = parse_time(text) or parse_time(f"{text}Z")
    if until is None:
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
