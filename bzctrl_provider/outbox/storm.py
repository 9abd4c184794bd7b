"""A storm: many incidents at once become one summary. Nothing here reads or writes anything."""

from __future__ import annotations

from datetime import UTC, datetime
from math import ceil
from typing import TYPE_CHECKING

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


def find_storms(members: Iterable[Incident], *, above: int) -> list[list[Incident]]:
    """Return the groups of more than ``above`` incidents of one workspace and assignee; none if it is 0.

    :param members: incidents of one connection, the oldest first, with complete and checked fields.
    """
    groups: dict[tuple[str, str], list[Incident]] = {}
    for member in members:
        place = member.fields["domain_workspace"], member.fields["assignee"]
        groups.setdefault(place, []).append(member)
    return [group for group in groups.values() if len(group) > above] if above > 0 else []


def summarize(members: Sequence[Incident]) -> Incident:
    """Return the summary of a storm, the same for the same incidents.

    :param members: one of ``find_storms``.
    """
    first, last = members[0].written_at, members[-1].written_at
    digest = identify(*sorted(member.identity for member in members))[:8]
    storm_id = f"storm-{datetime.fromtimestamp(first, UTC):%Y%m%dT%H%M%SZ}-{digest}"
    happened = f"{len(members)} {_noun(members)} within {_span(last - first)}"
    sources = list(dict.fromkeys(filter(None, map(_source, members))))
    fields = {
        "todo_type": "INCIDENT",
        "domain_workspace": members[0].fields["domain_workspace"],
        "title": happened + names_in_brackets(sources, room=NAME_CHARS - len(happened)),
        "description": _description(happened, members),
        "assignee": members[0].fields["assignee"],
        "reporter": members[0].fields.get("reporter"),
        **{name: _union(members, name) for name in ("category", "sub_category")},
        "order_id": storm_id,
        **{name: _highest(members, name) for name in ("priority", "impact", "likelihood")},
    }
    return Incident(
        fields={name: value for name, value in fields.items() if value},
        bzctrl_conn_id=members[0].bzctrl_conn_id,
        identity=storm_id,
        written_at=first,
        is_summary=True,
    )


def _noun(members: Iterable[Incident]) -> str:
    kinds = {member.facts.get("what", "") for member in members}
    return _NOUNS.get(kinds.pop(), "failures") if len(kinds) == 1 else "failures"


def _span(seconds: float) -> str:
    minutes = max(1, ceil(seconds / 60))
    return f"{minutes} min" if minutes <= 120 else f"{ceil(minutes / 60)} h"  # noqa: PLR2004 - two hours


def _description(happened: str, members: Sequence[Incident]) -> str:
    first, last = (format_time(member.written_at) for member in (members[0], members[-1]))
    parts = [f"{happened}, from {first} to {last}.", *_by_reason(members)]
    if unsure := [label(member) for member in members if member.unanswered]:
        parts.append(
            f"An earlier attempt to create an incident had no response, so it may exist on its own: {list_names(unsure)}."
        )
    return "\n\n".join(parts)


def _by_reason(members: Sequence[Incident]) -> list[str]:
    """List the members below their reasons, the most frequent first; equal reasons are written once."""
    groups: dict[str, list[Incident]] = {}
    for member in members:
        reason = _fact(member, "reason", max_chars=LINE_CHARS) or "no reason is known"
        groups.setdefault(reason, []).append(member)
    parts: list[str] = []
    room = _LISTED
    for reason, group in sorted(groups.items(), key=lambda group: -len(group[1])):
        if room > 0:
            head = f"{len(group)} times: {reason}" if len(group) > 1 else reason
            parts.append("\n".join([head, *(f"- {_line(member)}" for member in group[:room])]))
            room -= len(group)
    if len(members) > _LISTED:
        parts.append(f"and {len(members) - _LISTED} more")
    return parts


def _line(member: Incident) -> str:
    amount = member.fields.get("financial_impact")
    parts = [
        label(member),
        "" if member.facts.get("reason") else _title(member),
        f"financial impact {amount} EUR" if amount else "",
        _fact(member, "run_url"),
    ]
    return ", ".join(dict.fromkeys(filter(None, parts)))


def label(member: Incident) -> str:
    """Return where a failure happened on one line; otherwise the title of its todo."""
    source, run_id = _source(member), _fact(member, "run_id")
    return f"{source} {run_id}".strip() if source else _title(member)


def _source(member: Incident) -> str:
    return _fact(member, "dag_id") or _fact(member, "file")


def _title(member: Incident) -> str:
    return one_line(str(member.fields.get("title") or ""), max_chars=NAME_CHARS)


def _fact(member: Incident, name: str, *, max_chars: int = TEXT_CHARS) -> str:
    return one_line(member.facts.get(name, ""), max_chars=max_chars)


def _highest(members: Iterable[Incident], name: str) -> str | None:
    levels = [str(member.fields[name]) for member in members if member.fields.get(name)]
    return min(levels, key=LEVELS.index, default=None)


def _union(members: Iterable[Incident], name: str) -> list[str]:
    items = (str(item) for member in members for item in member.fields.get(name) or ())
    return list(dict.fromkeys(items))[:LIST_ITEMS]
