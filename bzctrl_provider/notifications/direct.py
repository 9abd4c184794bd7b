"""Sending from a callback whose store cannot be used: all callbacks of a process share 10 seconds.

All callbacks of one DAG file run in one process, which Airflow ends after 50 seconds. Those that it has not called then
are lost, so the first ones must not wait for a BzCtrl that does not respond.
"""

from __future__ import annotations

import asyncio
import time
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from bzctrl_provider.exceptions import BzCtrlTransportError
from bzctrl_provider.field_checks import leave_out_of_format
from bzctrl_provider.lost import log_incident

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from bzctrl_provider.hooks.bzctrl import BzCtrlHook
    from bzctrl_provider.store.incidents import Incident

LIMIT_S = 10.0
_PERIOD_S = 60.0


class Budget:
    """Time that the callbacks of this process may still wait for BzCtrl in all: 10 seconds.

    They begin with the first callback, and again after a minute, because a triggerer runs for months.

    :param clock: returns seconds, as ``time.monotonic`` does.
    """

    def __init__(self, *, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._began_at = float("-inf")

    def renew(self) -> None:
        """Begin again, as a new process does; for tests."""
        self._began_at = float("-inf")

    def remaining_s(self) -> float:
        """Return the remaining seconds.

        :raises BzCtrlTransportError: if none remain.
        """
        now = self._clock()
        if now - self._began_at >= _PERIOD_S:
            self._began_at = now
        remaining_s = self._began_at + LIMIT_S - now
        if remaining_s <= 0:
            raise BzCtrlTransportError(
                f"The incident was not sent: the callbacks of this process have waited {LIMIT_S:.0f} s for BzCtrl in "
                "all, and Airflow ends a process that waits too long. From the outbox it would be sent later: correct the "
                "option database in the section [bzctrl]."
            )
        return remaining_s


budget = Budget()
"""Of this process."""


def send(incident: Incident) -> dict[str, Any]:
    """Create the todo of an incident within the remaining time of this process.

    :return: as ``CreatedTodo.as_dict()``.
    :raises Exception: if it was not created, or the connection is missing or invalid. The log then has its fields.
    """
    with _logged_if_lost(incident):
        limit_s = budget.remaining_s()
        hook = _new_hook(incident.bzctrl_conn_id)
        fields = leave_out_of_format(incident.fields, hook.get_conn().message_format)
        return hook.create_todo(fields, limit_s=limit_s).as_dict()


async def asend(incident: Incident) -> dict[str, Any]:
    """Do the same from a coroutine; the event loop and its own threads stay free meanwhile."""
    with _logged_if_lost(incident):
        limit_s = budget.remaining_s()
        create = _new_hook(incident.bzctrl_conn_id).acreate_todo(incident.fields, limit_s=limit_s)
        try:
            # The limit of the hook does not bound the look-up of the connection.
            created = await asyncio.wait_for(create, limit_s + 1)
        except TimeoutError:
            raise BzCtrlTransportError(
                f"BzCtrl did not respond to the callbacks of this process within {limit_s:.0f} s.",
                outcome_unknown=True,
            ) from None
        return created.as_dict()


@contextmanager
def _logged_if_lost(incident: Incident) -> Iterator[None]:
    try:
        yield
    except Exception:
        log_incident(incident.fields)
        raise


def _new_hook(bzctrl_conn_id: str) -> BzCtrlHook:
    # Only here: it loads the client, which a callback that writes into the outbox does not need.
    from bzctrl_provider.hooks.bzctrl import BzCtrlHook

    return BzCtrlHook(bzctrl_conn_id)
