"""Times that are stored in Variables and files, which others than this provider can write, too."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from datetime import tzinfo


def parse_time(value: object, *, zone: tzinfo | None = None) -> datetime | None:
    """Return the time of a text in ISO 8601, in UTC; None for anything else.

    :param zone: the time zone of a text that names none; default: such a text is no time.
    """
    try:
        time = datetime.fromisoformat(value) if isinstance(value, str) else None
        if time is None or (time.tzinfo or zone) is None:
            return None
        return (time if time.tzinfo else time.replace(tzinfo=zone)).astimezone(UTC)
    except (ValueError, OverflowError):
        return None
