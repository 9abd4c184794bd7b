"""An incident before it is written: its identity, its fields as plain JSON without secrets, or why there is none."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from datetime import UTC, date, datetime
from decimal import Decimal
from enum import Enum
from numbers import Number
from typing import TYPE_CHECKING, Any, Literal

from airflow.providers.common.compat.sdk import redact

from bzctrl_provider.limits import DIGITS_MAX
from bzctrl_provider.notes import add_duplicate_note
from bzctrl_provider.reason_text import exception_text
from bzctrl_provider.text import digest_of, plain_text, safe_repr, web_address

if TYPE_CHECKING:
    from bzctrl_provider.store.incidents import Incident

_ATTEMPTS_LISTED = 10


Outcome = Literal["dismissed", "covered", "ignored", "silenced", "counted", "represented", "known", "tested"]


@dataclass(frozen=True, kw_only=True)
class NotRaised:
    """The decision that no incident is raised for a failure.

    :param outcome: why, in one word: it is ``dismissed`` because nothing has failed, a roll-up has ``covered`` the failure, a route has ``ignored`` it,
        it is ``silenced``, it is ``counted`` until there are enough in a row, it is ``represented`` by the incident of an earlier
        one, it is ``known`` because this is the second call for it, or it is ``tested``.
    :param why: the same in words, which name what it is about.
    :param first: the incident of a failure that is ``represented`` or ``known``.
    """

    outcome: Outcome
    why: str
    first: Incident | None = None

    def __str__(self) -> str:
        return f"No incident: {self.why}."


def name_todo(incident: Incident) -> str:
    """Return how people find the todo of an incident: its key and its address, before it is created its identity."""
    link = web_address(incident.link)
    if incident.key and link:
        return f"{incident.key} ({link})"
    return link or incident.key or f"the incident {incident.identity}"


def identify(*parts: object) -> str:
    """Return the identity of an incident: equal parts give the same one, in every process and on every machine.

    :param parts: the texts that together identify the incident, for example the ids of connection, DAG, run and task,
        the map index, the generation of tries and the identity of the notifier.
    :return: 32 hexadecimal digits, such as ``6f1ed002ab5595859014ebf0951522d9``.
    """
    return digest_of(*parts)[:32]


def redacted(incident: Incident) -> Incident:
    """Return an incident with plain JSON as its fields, and with what Airflow masks masked."""
    todo = {str(name): _plain(value) for name, value in incident.fields.items()}
    # Once more as a whole: Airflow also masks by name, such as the value of "password".
    fields: Any = redact({name: value for name, value in todo.items() if is_set(value)})
    return replace(
        incident,
        fields=fields,
        bzctrl_conn_id=plain_text(str(redact(incident.bzctrl_conn_id))),
        reason=exception_text(incident.reason) or "",
        facts={name: exception_text(value) or "" for name, value in incident.facts.items() if value},
    )


def todo_of(incident: Incident) -> dict[str, Any]:
    """Return the fields to create, with a last line that names the attempts whose outcome is unknown."""
    listed = list(incident.unanswered[:_ATTEMPTS_LISTED])
    if len(incident.unanswered) > _ATTEMPTS_LISTED:
        listed.append(f"and {len(incident.unanswered) - _ATTEMPTS_LISTED} more")
    return add_duplicate_note(incident.fields, listed)


def format_time(seconds: float) -> str:
    """Return seconds since 1970 as a time in UTC, such as ``2026-11-21T19:15:00Z``."""
    return datetime.fromtimestamp(seconds, UTC).strftime("%Y-%m-%dT%H:%M:%SZ")


def is_set(value: Any) -> bool:
    """Return whether a field has a value: neither None nor blank text nor an empty list."""
    return bool(value.strip()) if isinstance(value, str) else value is not None and value != []


def _plain(value: Any) -> Any:
    """Return a value as plain JSON, with what Airflow masks masked."""
    if isinstance(value, Enum):
        return _plain(value.value)
    if value is None or isinstance(value, bool):
        return value
    if isinstance(value, list | tuple | set | frozenset):
        return [_plain(item) for item in value]
    # Not for others: the first look-up of a type among the abstract ones takes longer than all the rest here.
    if not isinstance(value, str | int | float) and isinstance(value, Mapping):
        return {str(key): _plain(item) for key, item in value.items()}
    return _masked(value)


def _masked(value: Any) -> Any:
    text = _text(value)
    masked = str(redact(text))
    is_number = isinstance(value, int | float) and abs(value) < 10**DIGITS_MAX
    return value if is_number and masked == text else masked


def _text(value: Any) -> str:
    if isinstance(value, date):
        return value.isoformat()
    if isinstance(value, int) and abs(value) >= 10**DIGITS_MAX:
        return hex(value)
    if isinstance(value, Decimal) and value.is_finite() and abs(value.adjusted()) <= DIGITS_MAX:
        return f"{value:f}"  # without the exponent, as a todo writes it
    # No object's own text: it may hold a secret, and a todo takes none anyway.
    return str(value) if isinstance(value, str | int | float | Number) else safe_repr(value)
