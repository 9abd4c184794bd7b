"""A storm: many incidents at once become one summary. Nothing here reads or writes anything."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass
from datetime import UTC, datetime
from math import ceil
from typing import TYPE_CHECKING, Any

from bzctrl_provider.fields import LEVELS
from bzctrl_provider.outbox.writer import format_time, identify
from bzctrl_provider.store.incidents import Incident
from bzctrl_provider.text import (
    LINE_CHARS,
    LIST_ITEMS,
    NAME_CHARS,
    TEXT_CHARS,
    list_names,
    names_in_brackets,
    one_line,
)

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

_LISTED = 100

_NOUNS = {
    "run": "DAG runs failed",
    "task": "tasks failed",
    "deadline": "deadlines were missed",
    "import": "DAG files cannot be imported",
}


@dataclass(frozen=True)
class Member:
    """An incident that may be part of a storm.

    :param incident: as it waits.
    :param values: its checked fields, completed with those of its connection.
    """

    incident: Incident
    values: dict[str, Any]


def find_storms(members: Iterable[Member], *, above: int) -> list[list[Member]]:
    """Return the groups of more than ``above`` incidents of one workspace and assignee; none if it is 0."""
    groups: dict[tuple[str, str], list[Member]] = {}
    for member in members:
        place = member.values["domain_workspace"], member.values["assignee"]
        groups.setdefault(place, []).append(member)
    return [group for group in groups.values() if len(group) > above] if above > 0 else []


def summarize(members: Sequence[Member]) -> Incident:
    """Return the summary of a storm, the same for the same incidents.

    :param members: incidents of one connection, workspace and assignee, the oldest first.
    """
    first, last = members[0].incident.written_at, members[-1].incident.written_at
    identities = sorted(member.incident.identity for member in members)
    digest = identify(*identities)[:8]
    storm_id = f"storm-{datetime.fromtimestamp(first, UTC):%Y%m%dT%H%M%SZ}-{digest}"
    happened = f"{len(members)} {_noun(members)} within {_span(last - first)}"
    sources = list(dict.fromkeys(filter(None, map(_source, members))))
    fields = {
        "todo_type": "INCIDENT",
        "domain_workspace": members[0].values["domain_workspace"],
        "title": happened + names_in_brackets(sources, room=NAME_CHARS - len(happened)),
        "description": _description(happened, members),
        "assignee": members[0].values["assignee"],
        "reporter": _most_common(member.values.get("reporter") for member in members),
        "category": _union(member.values.get("category") for member in members),
        "sub_category": _union(member.values.get("sub_category") for member in members),
        "order_id": storm_id,
        **{
            name: _highest(member.values.get(name) for member in members)
            for name in ("priority", "impact", "likelihood")
        },
    }
    return Incident(
        fields={name: value for name, value in fields.items() if value},
        bzctrl_conn_id=members[0].incident.bzctrl_conn_id,
        identity=storm_id,
        written_at=first,
        is_summary=True,
    )


def _noun(members: Iterable[Member]) -> str:
    kinds = {member.incident.facts.get("what", "") for member in members}
    return _NOUNS.get(kinds.pop(), "failures") if len(kinds) == 1 else "failures"


def _span(seconds: float) -> str:
    minutes = max(1, ceil(seconds / 60))
    return f"{minutes} min" if minutes <= 120 else f"{ceil(minutes / 60)} h"  # noqa: PLR2004 - two hours


def _description(happened: str, members: Sequence[Member]) -> str:
    first, last = (format_time(member.incident.written_at) for member in (members[0], members[-1]))
    parts = [f"{happened}, from {first} to {last}.", *_by_reason(members)]
    if unsure := [_label(member) for member in members if member.incident.unanswered]:
        parts.append(
            f"An earlier attempt to create an incident had no response, so it may exist on its own: {list_names(unsure)}."
        )
    return "\n\n".join(parts)


def _by_reason(members: Sequence[Member]) -> list[str]:
    """List the members below their reasons, the most frequent first; equal reasons are written once."""
    groups: dict[str, list[Member]] = {}
    for member in members:
        reason = _fact(member, "reason", max_chars=LINE_CHARS) or "no reason is known"
        groups.setdefault(reason, []).append(member)
    ordered = sorted(groups.items(), key=lambda group: -len(group[1]))
    if len(ordered) > LIST_ITEMS:
        rest = [member for _, group in ordered[LIST_ITEMS:] for member in group]
        ordered = [*ordered[:LIST_ITEMS], (f"{len(ordered) - LIST_ITEMS} other reasons", rest)]
    parts: list[str] = []
    listed = 0
    for reason, group in ordered:
        shown = group[: _LISTED - listed]
        listed += len(shown)
        head = f"{len(group)} times: {reason}" if len(group) > 1 else reason
        parts.append("\n".join([head, *(f"- {_line(member)}" for member in shown)]))
    if listed < len(members):
        parts.append(f"and {len(members) - listed} more")
    return parts


def _line(member: Member) -> str:
    amount = member.values.get("financial_impact")
    parts = [
        _label(member),
        "" if member.incident.facts.get("reason") else _title(member),
        f"financial impact {amount} EUR" if amount else "",
        _fact(member, "run_url"),
    ]
    return ", ".join(dict.fromkeys(filter(None, parts)))


def _label(member: Member) -> str:
    source, run_id = _source(member), _fact(member, "run_id")
    return f"{source} {run_id}".strip() if source else _title(member)


def _source(member: Member) -> str:
    return _fact(member, "dag_id") or _fact(member, "file")


def _title(member: Member) -> str:
    return one_line(str(member.values.get("title") or ""), max_chars=NAME_CHARS)


def _fact(member: Member, name: str, *, max_chars: int = TEXT_CHARS) -> str:
    return one_line(member.incident.facts.get(name, ""), max_chars=max_chars)


def _highest(levels: Iterable[object]) -> str | None:
    found = {str(level) for level in levels if level}
    return next((level for level in LEVELS if level in found), None)


def _most_common(values: Iterable[object]) -> str | None:
    counted = Counter(str(value) for value in values if value)
    return counted.most_common(1)[0][0] if counted else None


def _union(lists: Iterable[Any]) -> list[str]:
    return list(dict.fromkeys(str(item) for items in lists for item in items or ()))[:LIST_ITEMS]
