"""What a file of the spool says."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, replace
from datetime import UTC, date, datetime
from decimal import Decimal
from enum import Enum
from numbers import Number
from typing import Any

from bzctrl_provider.failure import exception_text
from bzctrl_provider.notes import add_duplicate_note
from bzctrl_provider.text import safe_repr

_VERSION = 1

_DIGITS_MAX = 400
"""As in a todo, which refuses longer numbers; Python writes no integer of more than 4,300 digits."""


@dataclass(frozen=True, kw_only=True)
class Entry:
    """What a file says.

    ``unanswered_at`` has the times of all attempts whose outcome is unknown: one that certainly failed afterwards does
    not tell what became of them.
    """

    written_at: str
    bzctrl_conn_id: str
    reason: str
    todo: dict[str, Any]
    unanswered_at: tuple[str, ...] = ()

    @classmethod
    def from_fields(
        cls,
        fields: Mapping[str, Any],
        *,
        bzctrl_conn_id: str,
        reason: str,
        written_at: datetime,
        outcome_unknown: bool,
    ) -> Entry:
        """Make one of the fields of a todo, with what Airflow masks masked."""
        from airflow.providers.common.compat.sdk import redact

        todo = {name: _plain(value) for name, value in fields.items()}
        # Once more as a whole: Airflow also masks what stands under the name of a secret.
        masked: Any = redact({name: value for name, value in todo.items() if _is_set(value)})
        return cls(
            written_at=_iso(written_at),
            bzctrl_conn_id=str(redact(bzctrl_conn_id)),
            reason=exception_text(str(reason)) or "",
            todo=masked,
            unanswered_at=(_iso(written_at),) if outcome_unknown else (),
        )

    @classmethod
    def parse(cls, content: bytes) -> Entry:
        """Read a file's content.

        :raises ValueError: where it is not what this version writes.
        """
        try:
            data = json.loads(content)
        except (ValueError, RecursionError) as exc:
            raise ValueError(f"it is no JSON: {exc}") from None
        if not isinstance(data, dict) or data.get("version") != _VERSION:
            raise ValueError(f"it is no todo in version {_VERSION} of the spool's format")
        kinds = {
            "written_at": str,
            "bzctrl_conn_id": str,
            "reason": str,
            "outcome_unknown": bool,
            "todo": dict,
        }
        wrong = [name for name, kind in kinds.items() if not isinstance(data.get(name), kind)]
        unanswered_at = data.get("unanswered_at", [])
        if not isinstance(unanswered_at, list) or not all(isinstance(time, str) for time in unanswered_at):
            wrong.append("unanswered_at")
        if wrong:
            raise ValueError(f"it is incomplete or damaged at {', '.join(wrong)}")
        if data["outcome_unknown"] and not unanswered_at:
            unanswered_at = [data["written_at"]]
        return cls(
            written_at=data["written_at"],
            bzctrl_conn_id=data["bzctrl_conn_id"],
            reason=data["reason"],
            todo=data["todo"],
            unanswered_at=tuple(unanswered_at),
        )

    def as_bytes(self) -> bytes:
        """Write the file's content, readable for people."""
        data = {
            "version": _VERSION,
            "written_at": self.written_at,
            "bzctrl_conn_id": self.bzctrl_conn_id,
            "reason": self.reason,
            "outcome_unknown": bool(self.unanswered_at),
            **({"unanswered_at": self.unanswered_at} if self.unanswered_at else {}),
            "todo": self.todo,
        }
        text = json.dumps(data, ensure_ascii=False, indent=2)
        # UTF-8 holds no half of a surrogate pair, but its escape is the one of JSON.
        return f"{text}\n".encode(errors="backslashreplace")

    def unanswered(self, time: datetime) -> Entry:
        """Return the same after an attempt whose outcome is unknown."""
        return replace(self, unanswered_at=(*self.unanswered_at, _iso(time)))

    def message(self) -> dict[str, Any]:
        """Return the fields to create, with a last line that tells of attempts whose outcome is unknown."""
        return add_duplicate_note(self.todo, self.unanswered_at)


def _plain(value: Any) -> Any:
    """Return a value as plain JSON, with what Airflow masks masked."""
    from airflow.providers.common.compat.sdk import redact

    if isinstance(value, Enum):
        return _plain(value.value)
    if value is None or isinstance(value, bool):
        return value
    if isinstance(value, Mapping):
        return {str(key): _plain(of_key) for key, of_key in value.items()}
    if isinstance(value, list | tuple | set | frozenset):
        return [_plain(one) for one in value]
    text = _text(value)
    masked = str(redact(text))
    is_number = isinstance(value, int | float) and abs(value) < 10**_DIGITS_MAX
    return value if is_number and masked == text else masked


def _text(value: Any) -> str:
    if isinstance(value, date):
        return value.isoformat()
    if isinstance(value, int) and abs(value) >= 10**_DIGITS_MAX:
        return hex(value)
    if isinstance(value, Decimal) and value.is_finite() and abs(value.adjusted()) <= _DIGITS_MAX:
        return f"{value:f}"  # without the exponent, as a todo writes it
    # No object's own text: it may hold a secret, and a todo takes none anyway.
    return str(value) if isinstance(value, str | Number) else safe_repr(value)


def _is_set(value: Any) -> bool:
    return bool(value.strip()) if isinstance(value, str) else value is not None and value != []


def _iso(time: datetime) -> str:
    return time.astimezone(UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
