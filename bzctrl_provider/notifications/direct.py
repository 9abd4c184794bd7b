"""Sending from a callback without a spool: all callbacks of a process share one budget of seconds.

All callbacks of one DAG file run in one process, which Airflow ends after 50 seconds. Those that it has not called then
are lost, so the first ones must not wait for a BzCtrl that does not respond.
"""

from __future__ import annotations

import asyncio
import time
from typing import TYPE_CHECKING, Any

from bzctrl_provider.exceptions import BzCtrlTransportError

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

BUDGET_S = 10.0
_PERIOD_S = 60.0


class Budget:
    """Limit the seconds that the callbacks of this process wait for BzCtrl in all, and note the connections that failed.

    It begins with the first callback, and again after a minute, because a triggerer runs for months.

    :param clock: returns seconds, as ``time.monotonic`` does.
    """

    def __init__(self, *, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._began_at = float("-inf")
        self._failed: set[str] = set()

    def renew(self) -> None:
        """Begin again, as a new process does; for tests."""
        self._began_at = float("-inf")

    def take(self, bzctrl_conn_id: str) -> float:
        """Return the remaining seconds.

        :raises BzCtrlTransportError: if none remain, or the connection failed before.
        """
        now = self._clock()
        if now - self._began_at >= _PERIOD_S:
            self._began_at = now
            self._failed.clear()
        if bzctrl_conn_id in self._failed:
            raise BzCtrlTransportError(
                "The incident was not sent: an earlier callback of this process had no response from BzCtrl, and the "
                f"others do not wait for it again within {_PERIOD_S:.0f} s. With a spool, it would be sent later: remove "
                "spool_path = off in the section [bzctrl]."
            )
        remaining_s = self._began_at + BUDGET_S - now
        if remaining_s <= 0:
            raise BzCtrlTransportError(
                f"The incident was not sent: the callbacks of this process have waited {BUDGET_S:.0f} s for BzCtrl in "
                "all, and Airflow ends a process that waits too long. With a spool, it would be sent later: remove "
                "spool_path = off in the section [bzctrl]."
            )
        return remaining_s

    def note_failure(self, bzctrl_conn_id: str) -> None:
        """Keep the next callbacks from trying a connection without a response."""
        self._failed.add(bzctrl_conn_id)


budget = Budget()
"""Of this process."""


def send(fields: Mapping[str, Any], *, bzctrl_conn_id: str) -> dict[str, Any]:
    """Create a todo within the budget of this process.

    :return: as ``CreatedTodo.as_dict()``.
    :raises Exception: if it was not created, or the connection is missing or invalid.
    """
    limit_s = budget.take(bzctrl_conn_id)
    from bzctrl_provider.hooks.bzctrl import BzCtrlHook

    try:
        return BzCtrlHook(bzctrl_conn_id).create_todo(fields, limit_s=limit_s).as_dict()
    except BzCtrlTransportError:
        budget.note_failure(bzctrl_conn_id)
        raise


async def asend(fields: Mapping[str, Any], *, bzctrl_conn_id: str) -> dict[str, Any]:
    """Do the same from a coroutine; the event loop and its own threads stay free meanwhile."""
    limit_s = budget.take(bzctrl_conn_id)
    from bzctrl_provider.hooks.bzctrl import BzCtrlHook

    try:
        # The limit of the hook does not bound the look-up of the connection.
        created = await asyncio.wait_for(
            BzCtrlHook(bzctrl_conn_id).acreate_todo(fields, limit_s=limit_s), limit_s + 1
        )
    except TimeoutError:
        budget.note_failure(bzctrl_conn_id)
        raise BzCtrlTransportError(
            f"BzCtrl did not respond to the callbacks of this process within {limit_s:.0f} s.",
            outcome_unknown=True,
        ) from None
    except BzCtrlTransportError:
        budget.note_failure(bzctrl_conn_id)
        raise
    return created.as_dict()
