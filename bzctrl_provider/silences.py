"""Silence failures for a time, by the Airflow Variable ``bzctrl_silences``.

```json
[{"dags": "customs_*", "tasks": "*", "until": "2026-12-01T06:00Z", "comment": "OPS-123"}]
```

A silence that cannot be read does not apply: an incident too many is better than one too few.
"""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

from bzctrl_provider.patterns import Patterns
from bzctrl_provider.text import one_line, safe_repr
from bzctrl_provider.times import parse_time

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

_KEYS = ("dags", "tasks", "until", "comment")
_COMMENT_CHARS = 500
_EVERYTHING = Patterns(("*",))
_ENTRIES_MAX = 1000
_DATE_CHARS = len("2026-12-01")


@dataclass(frozen=True, kw_only=True)
class Silence:
    """Hold one entry of the list.

    :param dags: patterns of DAG ids; default: every DAG.
    :param tasks: patterns of task ids; default: every task.
    :param until: when it ends.
    :param comment: shown if an incident is not raised, such as a ticket's number.
    """

    dags: Patterns = _EVERYTHING
    tasks: Patterns = _EVERYTHING
    until: datetime
    comment: str = ""

    def __str__(self) -> str:
        until = self.until.strftime("%Y-%m-%d %H:%M:%S UTC")
        return f"silenced until {until} ({self.comment})" if self.comment else f"silenced until {until}"


@dataclass(frozen=True)
class Silences:
    """Hold the silences of the Variable.

    :param silences: the valid entries.
    :param faults: the faults of the others; each names its entry, from 1.
    """

    silences: tuple[Silence, ...] = ()
    faults: tuple[str, ...] = ()

    def find_silence(self, dag_id: str | None, task_ids: Iterable[str], *, now: datetime) -> Silence | None:
        """Return the silence of a failure, if all tasks that failed are silenced; otherwise None.

        Several silences together may cover the tasks; the first of them in the list is returned.

        :param dag_id: the DAG; None if it is not known, such as for an import error.
        :param task_ids: the tasks that failed; empty if they are not known. A silence of certain DAGs or tasks does not
            cover what is not known.
        :param now: the present time, with a time zone.
        """
        active = [silence for silence in self.silences if now < silence.until and _fits(silence.dags, dag_id)]
        tasks = set(task_ids)
        if not tasks:
            return next((silence for silence in active if silence.tasks.match_everything), None)
        covering = [
            next((silence for silence in active if silence.tasks.match(task)), None) for task in tasks
        ]
        if None in covering:
            return None
        return next(silence for silence in active if silence in covering)


def _fits(patterns: Patterns, name: str | None) -> bool:
    return patterns.match_everything if name is None else patterns.match(name)


def parse_silences(text: str | None) -> Silences:
    """Read the text of the Variable; never raise.

    Each faulty entry is left out with its faults; the others apply. A time of ``until`` without an offset is UTC, as
    Airflow's own times are by default.

    :param text: JSON, a list of objects; None or blank if the Variable is not set.
    """
    if text is None or not text.strip():
        return Silences()
    try:
        entries = json.loads(text)
    except (ValueError, RecursionError) as exc:
        where = f" at line {exc.lineno}, column {exc.colno}" if isinstance(exc, json.JSONDecodeError) else ""
        return Silences(faults=(f"The Variable is not valid JSON{where}.",))
    if not isinstance(entries, list):
        return Silences(faults=(f"The Variable must be a JSON list of objects, not {safe_repr(entries)}.",))
    silences, faults = [], []
    for number, entry in enumerate(entries[:_ENTRIES_MAX], 1):
        parser = _SilenceParser()
        silence = parser.parse(entry)
        if silence and not parser.faults:
            silences.append(silence)
        faults += [f"Entry {number}: {fault}." for fault in parser.faults]
    if len(entries) > _ENTRIES_MAX:
        faults.append(f"Only the first {_ENTRIES_MAX} of {len(entries)} entries apply.")
    return Silences(tuple(silences), tuple(faults))


@dataclass
class _SilenceParser:
    faults: list[str] = field(default_factory=list)

    def parse(self, entry: Any) -> Silence | None:
        if not isinstance(entry, dict):
            self.faults.append(
                f'must be an object such as {{"dags": "customs_*", "until": …}}, not {safe_repr(entry)}'
            )
            return None
        for name in entry.keys() - set(_KEYS):
            from difflib import get_close_matches

            close = get_close_matches(name[:80], _KEYS, n=1)
            remedy = f"did you mean {close[0]}?" if close else f"there are {', '.join(_KEYS)}"
            self.faults.append(f"{safe_repr(name)} is unknown: {remedy}")
        dags, tasks = (self._patterns(entry, name) for name in ("dags", "tasks"))
        until = self._until(entry.get("until"))
        comment = entry.get("comment") or ""
        if not isinstance(comment, str):
            self.faults.append(f"comment must be a text, not {safe_repr(comment)}")
            comment = ""
        comment = one_line(comment, max_chars=_COMMENT_CHARS)
        return Silence(dags=dags, tasks=tasks, until=until, comment=comment) if until else None

    def _patterns(self, entry: Mapping[str, Any], name: str) -> Patterns:
        if name not in entry:
            return _EVERYTHING
        try:
            return Patterns.parse(entry[name])
        except ValueError as exc:
            self.faults.append(f"{name} {exc}")
            return _EVERYTHING

    def _until(self, value: Any) -> datetime | None:
        allowed = 'an ISO 8601 date and time such as "2026-12-01T06:00Z"'
        if value is None:
            self.faults.append(f"until is mandatory: give {allowed}")
            return None
        try:
            return _parse_moment(value)
        except (TypeError, ValueError, OverflowError):
            self.faults.append(f"until must be {allowed}, not {safe_repr(value)}")
            return None


def _parse_moment(value: Any) -> datetime:
    """Return the moment of a text in ISO 8601, with a date and a time; UTC if it has no offset."""
    moment = datetime.fromisoformat(value.strip() if isinstance(value, str) else value)
    if len(value.strip()) <= _DATE_CHARS:
        raise ValueError(value)
    return (moment if moment.tzinfo else moment.replace(tzinfo=UTC)).astimezone(UTC)


def count_silenced(record: Mapping[str, Any] | None, silence: Silence, *, now: datetime) -> dict[str, Any]:
    """Return the record of a failure that was silenced once more.

    :param record: the record of the same failure so far; None or empty for the first time.
    :param silence: the silence that covers it.
    :param now: the present time, with a time zone.
    :return: plain JSON data, such as ``{"count": 4, "since": "2026-11-30T22:00:00+00:00",
        "last_at": "2026-12-01T02:00:00+00:00", "comment": "OPS-123"}``.
    """
    count, since, _ = _read_record(record)
    return {
        "count": count + 1,
        "since": (since or now.astimezone(UTC)).isoformat(),
        "last_at": now.astimezone(UTC).isoformat(),
        "comment": silence.comment,
    }


def silenced_note(record: Mapping[str, Any] | None) -> str:
    """Return a sentence for the first incident after a silence; empty if nothing was silenced.

    :param record: see ``count_silenced``. Remove it after the incident was raised.
    """
    count, since, comment = _read_record(record)
    if not count or not since:
        return ""
    times = "once" if count == 1 else f"{count} times"
    reason = f" ({comment})" if comment else ""
    return f"This failure was silenced {times} since {since:%Y-%m-%d %H:%M:%S} UTC{reason}."


def _read_record(record: Mapping[str, Any] | None) -> tuple[int, datetime | None, str]:
    """Return count, first time and comment; others than this package can write Variables, too."""
    count, since = (record or {}).get("count"), parse_time((record or {}).get("since"))
    if not isinstance(count, int) or isinstance(count, bool) or count < 1 or since is None:
        return 0, None, ""
    comment = (record or {}).get("comment")
    shown = one_line(comment, max_chars=_COMMENT_CHARS) if isinstance(comment, str) else ""
    return count, since, shown
