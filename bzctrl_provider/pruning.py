"""Find the Variables of this provider that nothing needs any more. No Airflow here, and no storage."""

from __future__ import annotations

import json
import re
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal

from bzctrl_provider.times import parse_time

if TYPE_CHECKING:
    from collections.abc import Iterator
    from datetime import datetime, timedelta

VARIABLE_PREFIX = "bzctrl__"

_NAME = re.compile(r"bzctrl__(?P<kind>memory|dedup|failures|passed|silenced)__.*__[0-9a-f]{16}", re.DOTALL)

_TIMES = ("written_at", "created_at", "last_at", "since")
"""The keys of the times that ``memory``, ``dedup``, ``consecutive``, ``successes`` and ``silencing`` write."""

_TODO = "created"
"""The key of a created todo: its content is not from this provider."""

State = Literal["used", "unused", "unreadable"]


@dataclass(frozen=True, kw_only=True)
class VariableAge:
    """Hold the age of one Variable of this provider.

    :param name: of the Variable.
    :param kind: the kind of its content: ``memory``, ``dedup``, ``failures``, ``passed`` or ``silenced``.
    :param last_used_at: the newest time in it; None if it holds nothing, or cannot be read.
    :param reason: why it cannot be read; empty if it can.
    """

    name: str
    kind: str
    last_used_at: datetime | None = None
    reason: str = ""

    def state(self, *, now: datetime, older_than: timedelta) -> State:
        """Return ``unused`` if it can be removed; one that holds nothing can, and an unreadable one cannot.

        :param now: the present time, with a time zone.
        :param older_than: the age from which on a Variable is not needed.
        """
        if self.reason:
            return "unreadable"
        if self.last_used_at is None:
            return "unused"
        return "unused" if now - self.last_used_at >= older_than else "used"

    def age_s(self, now: datetime) -> int | None:
        """Return how many seconds ago it was last used; None if that is not known.

        :param now: the present time, with a time zone.
        """
        return None if self.last_used_at is None else max(0, int((now - self.last_used_at).total_seconds()))


def read_age(name: str, text: str | None) -> VariableAge | None:
    """Return the age of a Variable; None if its name is not one that this provider gives.

    :param name: of the Variable.
    :param text: its value; None if Airflow cannot decrypt it.
    """
    match = _NAME.fullmatch(name)
    if not match:
        return None
    kind = match["kind"]
    if text is None:
        return VariableAge(name=name, kind=kind, reason="it cannot be decrypted")
    try:
        value = json.loads(text)
    except (ValueError, RecursionError):
        return VariableAge(name=name, kind=kind, reason="it is not JSON")
    if not isinstance(value, dict):
        return VariableAge(name=name, kind=kind, reason="it is no JSON object")
    newest = max(_times(value), default=None)
    reason = "it has no time" if value and newest is None else ""
    return VariableAge(name=name, kind=kind, last_used_at=newest, reason=reason)


def _times(value: dict[str, Any]) -> Iterator[datetime]:
    pending: list[dict[str, Any]] = [value]
    while pending:
        current = pending.pop()
        pending += [child for key, child in current.items() if key != _TODO and isinstance(child, dict)]
        for key in _TIMES:
            if (time := parse_time(current.get(key))) is not None:
                yield time
