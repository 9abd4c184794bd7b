"""Decide by the last success whether a failure belongs to the one before it. No Airflow here, and no storage."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

from bzctrl_provider.limits import LIST_ITEMS, TEXT_CHARS
from bzctrl_provider.times import parse_time

if TYPE_CHECKING:
    from collections.abc import Mapping
    from datetime import timedelta


def is_recovered(*, since: datetime, last_success_at: datetime | None) -> bool:
    """Return whether a success came after a failure.

    :param since: when the failure was seen, with a time zone.
    :param last_success_at: the end of the last successful run; None if there was none or it is not known.
    """
    return last_success_at is not None and last_success_at > since


def is_within_window(
    *, first_at: datetime, now: datetime, window: timedelta, last_success_at: datetime | None
) -> bool:
    """Return whether the first incident still covers a failure: the window has not ended, and no success came since.

    If the last success is not known, only the window counts.

    :param first_at: when the first incident was raised, with a time zone.
    :param now: the present time, with a time zone; another worker's clock may be behind that of the first incident.
    :param window: how long an incident covers the same failure.
    :param last_success_at: see ``is_recovered``.
    """
    # A difference instead of a sum: first_at plus the longest timedelta is beyond the calendar.
    return now - first_at < window and not is_recovered(since=first_at, last_success_at=last_success_at)


@dataclass(frozen=True)
class FailureStreak:
    """Count failures in a row.

    :param count: the failures since the last success.
    :param last_at: when the last of them was seen.
    :param occurrences: the names of the last of them, such as the runs' ids.
    """

    count: int
    last_at: datetime
    occurrences: tuple[str, ...]

    @classmethod
    def parse(cls, record: Mapping[str, Any] | None) -> FailureStreak | None:
        """Read a streak from JSON data; None if it is none, for others can write Variables, too."""
        try:
            values = dict(record or {})
        except (TypeError, ValueError):
            return None
        count, occurrences = values.get("count"), values.get("occurrences")
        last_at = parse_time(values.get("last_at"))
        if type(count) is not int or count < 1 or last_at is None or not isinstance(occurrences, list):
            return None
        return cls(count, last_at, tuple(map(str, occurrences)))

    def as_dict(self) -> dict[str, Any]:
        """Return plain JSON data."""
        return {
            "count": self.count,
            "last_at": self.last_at.isoformat(),
            "occurrences": list(self.occurrences),
        }


def count_failure(
    streak: FailureStreak | None, *, occurrence: str, now: datetime, last_success_at: datetime | None
) -> FailureStreak:
    """Return the streak with one more failure.

    A success after the last failure begins it again. The same occurrence counts once: Airflow may call a callback twice,
    and a run may be cleared.

    :param streak: the streak so far; None for the first failure.
    :param occurrence: the name of this failure, the same in a second call for it.
    :param now: the present time, with a time zone.
    :param last_success_at: the end of the last successful run before this failure; None if there was none or it is not
        known.
    """
    occurrence = occurrence[:TEXT_CHARS]
    if streak is None or is_recovered(since=streak.last_at, last_success_at=last_success_at):
        return FailureStreak(1, now.astimezone(UTC), (occurrence,))
    if occurrence in streak.occurrences:
        return streak
    last = (*streak.occurrences, occurrence)[-LIST_ITEMS:]
    return FailureStreak(streak.count + 1, now.astimezone(UTC), last)
