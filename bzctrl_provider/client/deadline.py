"""The time that one call may take: a plain object that is passed down from the call to each attempt."""

from __future__ import annotations

import threading
import time
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable


class Deadline:
    """Bound all attempts and waits of one call.

    :param limit_s: seconds from now on.
    :param clock: monotonic seconds.
    :param stopped: an event that ends the waits of the call, and keeps it from sending again.
    """

    def __init__(
        self,
        limit_s: float,
        *,
        clock: Callable[[], float] = time.monotonic,
        stopped: threading.Event | None = None,
    ) -> None:
        self.limit_s = limit_s
        self._clock = clock
        self._ends_at = clock() + limit_s
        self._stopped = stopped or threading.Event()

    def remaining_s(self) -> float:
        """Return the seconds that are left; 0 when the time is used up or the call is stopped."""
        return 0.0 if self._stopped.is_set() else max(self._ends_at - self._clock(), 0.0)

    def wait(self, seconds: float) -> None:
        """Wait, but not longer than until the call is stopped."""
        self._stopped.wait(seconds)
