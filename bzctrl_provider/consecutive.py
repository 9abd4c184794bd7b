"""Wait for several failures in a row before an incident is raised: ``consecutive_failures``.

The count is one Airflow Variable per key, as in ``dedup``. If it cannot be read or written, the incident is raised.
"""

from __future__ import annotations

import hashlib
from datetime import UTC, datetime
from typing import TYPE_CHECKING

from bzctrl_provider.best_effort import best_effort
from bzctrl_provider.limits import TEXT_CHARS
from bzctrl_provider.memory import read_variable, variable_name, write_variable
from bzctrl_provider.recovery import FailureStreak, count_failure

if TYPE_CHECKING:
    from collections.abc import Callable

    from bzctrl_provider.dedup import FindSuccess

COUNTED_XCOM_KEY = "bzctrl_counted"
"""Of a roll-up that was skipped because more failures in a row are needed."""


def find_wait(
    required: int | None,
    *,
    key: str,
    occurrence: str,
    last_success: FindSuccess,
    now: Callable[[], datetime] = lambda: datetime.now(UTC),
) -> str | None:
    """Count a failure, and return why no incident is raised for it yet, such as ``failure 2 of 3 in a row``.

    :param required: how many failures in a row raise an incident; None or 1 counts nothing.
    :param key: the same for failures that count as the same; see ``dedup.full_key``.
    :param occurrence: the name of this failure: a run counts once, also if it is cleared or its callback is called twice.
    :param last_success: returns the end of the last success.
    :param now: returns the time, in UTC.
    :return: None if the incident is raised.
    """
    if required is None or required <= 1:
        return None
    name = variable_name("failures", hashlib.sha256(key.encode("utf-8", "surrogatepass")).hexdigest()[:32])
    wait = None
    with best_effort("the count of failures in a row, so the incident is raised"):
        streak = FailureStreak.parse(read_variable(name))
        counted = count_failure(
            streak,
            occurrence=occurrence,
            now=now(),
            # An unknown success does not begin the count again: an incident too many is better than one too few.
            last_success_at=last_success(if_unknown=None) if streak else None,
        )
        if counted != streak:
            time = counted.last_at.isoformat()
            write_variable(name, {"key": key[:TEXT_CHARS], "created_at": time, **counted.as_dict()})
        if counted.count < required:
            wait = f"failure {counted.count} of {required} in a row"
    return wait
