"""The content of a file of the spool."""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from datetime import UTC, date, datetime
from decimal import Decimal
from enum import Enum
from numbers import Number
from typing import Any

from airflow.providers.common.compat.sdk import redact

from bzctrl_provider.limits import DIGITS_MAX, LIST_ITEMS
from bzctrl_provider.notes import add_duplicate_note
from bzctrl_provider.reason_text import exception_text
from bzctrl_provider.text import safe_repr
from bzctrl_provider.times import parse_time

_VERSION = 1

_IDENTITY_CHARS = 32
_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,99}")


def identify(*parts: object) -> str:
    """Return the identity of an entry: equal parts give the same one, in every process and on every machine.

    :param parts: the texts that together identify the incident, for example the ids of connection, DAG, run and task,
        the map index, the generation of tries and the identity of the notifier.
    :return: 32 hexadecimal digits, such as ``6f1ed002ab5595859014ebf0951522d9``.
    """
    # As JSON, because joined text makes ("a", "bc") and ("ab", "c") the same.
    text = json.dumps([str(part) for part in parts])
    return hashlib.sha256(text.encode()).hexdigest()[:_IDENTITY_CHARS]


@dataclass(frozen=True, kw_only=True)
class Entry:
    """Hold a todo that waits for its delivery.

    :param fields: the fields of the todo, as in ``CreateTodoOperator``; unset ones are left out of the file.
    :param bzctrl_conn_id: the connection to create it with.
    :param identity: the name of its file without ``.json``, see ``identify``.
    :param spooled_at: when it was written, with a time zone.
    :param reason: why it could not be created yet; empty if nobody has tried.
    :param facts: for the summary of a storm: ``dag_id``, ``run_id``, ``run_url``, ``reason`` (one line) and ``what``
        (``run``, ``task``, ``deadline`` or ``import``, which has ``file`` instead of the ids).
    :param unanswered: the times in UTC of the attempts whose outcome is unknown.
    :param covers: for the summary of a storm: the identities of the entries that it replaces.
    :param single: whether it is left out of summaries, because the one that had it was rejected.
    """

    fields: Mapping[str, Any]
    bzctrl_conn_id: str
    identity: str
    spooled_at: datetime
    reason: str = ""
    facts: Mapping[str, str] = field(default_factory=dict)
    unanswered: tuple[str, ...] = ()
    covers: tuple[str, ...] = ()
    single: bool = False

    def __post_init__(self) -> None:
        if not _NAME.fullmatch(self.identity):
            raise ValueError(
                f"the identity of an entry of the spool must be made by identify(), not be {safe_repr(self.identity)}"
            )

    @classmethod
    def parse(cls, content: bytes, *, identity: str) -> Entry:
        """Read the content of a file.

        :param identity: the name of the file without ``.json``; a file that was made by hand may have any.
        :raises ValueError: if it is not what this version writes.
        """
        data = _load(content)
        wrong = [name for name, kind in _KINDS.items() if not isinstance(data.get(name), kind)]
        wrong += [name for name in _LISTS if not _is_list_of_text(data.get(name, []))]
        facts = data.get("facts", {})
        if not isinstance(facts, dict):
            wrong.append("facts")
        spooled_at = parse_time(data.get("written_at"), zone=UTC)
        if spooled_at is None and "written_at" not in wrong:
            wrong.append("written_at")
        if wrong or spooled_at is None:
            raise ValueError(f"it is incomplete or damaged at {', '.join(wrong)}")
        unanswered = data.get("unanswered_at", [])
        if data["outcome_unknown"] and not unanswered:
            unanswered = [data["written_at"]]
        return cls(
            fields=data["todo"],
            bzctrl_conn_id=data["bzctrl_conn_id"],
            identity=identity if _NAME.fullmatch(identity) else identify(identity),
            spooled_at=spooled_at,
            reason=data["reason"],
            facts={name: value for name, value in facts.items() if isinstance(value, str)},
            unanswered=tuple(unanswered),
            covers=tuple(data.get("covers", [])),
            single=data.get("single") is True,
        )

    def as_bytes(self) -> bytes:
        """Write the content of the file, readable for people."""
        optional = {
            "unanswered_at": list(self.unanswered),
            "facts": dict(self.facts),
            "covers": list(self.covers),
            "single": self.single,
        }
        data = {
            "version": _VERSION,
            # With its microseconds: the oldest is delivered first.
            "written_at": self.spooled_at.astimezone(UTC).strftime("%Y-%m-%dT%H:%M:%S.%fZ"),
            "bzctrl_conn_id": self.bzctrl_conn_id,
            "reason": self.reason,
            "outcome_unknown": bool(self.unanswered),
            **{name: value for name, value in optional.items() if value},
            "todo": self.fields,
        }
        text = json.dumps(data, ensure_ascii=False, indent=2)
        # UTF-8 holds no half of a surrogate pair, but its escape is the one of JSON.
        return f"{text}\n".encode(errors="backslashreplace")

    def redacted(self) -> Entry:
        """Return the same with plain JSON as its fields, and with what Airflow masks masked."""
        todo = {str(name): _plain(value) for name, value in self.fields.items()}
        # Once more as a whole: Airflow also masks by name, such as the value of "password".
        fields: Any = redact({name: value for name, value in todo.items() if is_set(value)})
        return replace(
            self,
            fields=fields,
            bzctrl_conn_id=str(redact(self.bzctrl_conn_id)),
            reason=exception_text(self.reason) or "",
            facts={name: exception_text(value) or "" for name, value in self.facts.items() if value},
        )

    def after_unanswered(self, time: datetime) -> Entry:
        """Return the same after an attempt whose outcome is unknown."""
        return replace(self, unanswered=(*self.unanswered, format_time(time)))

    def todo(self) -> dict[str, Any]:
        """Return the fields to create, with a last line that names the attempts whose outcome is unknown."""
        listed = list(self.unanswered[:LIST_ITEMS])
        if len(self.unanswered) > LIST_ITEMS:
            listed.append(f"and {len(self.unanswered) - LIST_ITEMS} more")
        return add_duplicate_note(self.fields, listed)


def format_time(time: datetime) -> str:
    """Return a time in UTC, such as ``2026-11-21T19:15:00Z``."""
    return time.astimezone(UTC).strftime("%Y-%m-%dT%H:%M:%SZ")


_KINDS = {
    "written_at": str,
    "bzctrl_conn_id": str,
    "reason": str,
    "outcome_unknown": bool,
    "todo": dict,
}
_LISTS = ("unanswered_at", "covers")


def _load(content: bytes) -> dict[str, Any]:
    try:
        data = json.loads(content)
    except (ValueError, RecursionError) as exc:
        raise ValueError(f"it is not JSON: {exc}") from None
    if not isinstance(data, dict) or data.get("version") != _VERSION:
        raise ValueError(f"it is not a todo in version {_VERSION} of the spool's format")
    return data


def _is_list_of_text(value: object) -> bool:
    return isinstance(value, list) and all(isinstance(item, str) for item in value)


def _plain(value: Any) -> Any:
    """Return a value as plain JSON, with what Airflow masks masked."""
    if isinstance(value, Enum):
        return _plain(value.value)
    if value is None or isinstance(value, bool):
        return value
    if isinstance(value, Mapping):
        return {str(key): _plain(item) for key, item in value.items()}
    if isinstance(value, list | tuple | set | frozenset):
        return [_plain(item) for item in value]
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
    return str(value) if isinstance(value, str | Number) else safe_repr(value)


def is_set(value: Any) -> bool:
    """Return whether a field has a value: neither None nor blank text nor an empty list."""
    return bool(value.strip()) if isinstance(value, str) else value is not None and value != []
