"""The mark of the delivery DAG: as long as it is at work, callbacks leave the delivery to it.

A callback that delivers keeps the process that it runs in, and with it one of the few places in which Airflow parses DAG
files. A mark in the spool says that nothing of this is necessary. A spool that the delivery DAG does not reach, such as
the folder of another machine, has no mark, so what is written there is delivered where it was written.
"""

from __future__ import annotations

import json
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING

from bzctrl_provider.best_effort import best_effort
from bzctrl_provider.spool.entry import format_time
from bzctrl_provider.spool.outbox import open_local_spool
from bzctrl_provider.times import parse_time

if TYPE_CHECKING:
    from collections.abc import Callable

VALID_FOR = timedelta(minutes=5)

_MARK = ".scheduled.json"


def note_scheduled(*, clock: Callable[[], datetime] | None = None) -> None:
    """Note in a local spool that the delivery DAG has just begun to deliver it; never raise.

    :param clock: returns the time, with its zone; default: the present.
    """
    with best_effort("the mark that this DAG delivers the spool, so callbacks deliver it too"):
        if store := open_local_spool():
            at = format_time(clock() if clock else datetime.now(UTC))
            store.write(_MARK, f"{json.dumps({'at': at})}\n".encode())


def is_scheduled(*, clock: Callable[[], datetime] | None = None) -> bool:
    """Check whether the delivery DAG has begun a delivery of the spool in the last 5 minutes; never raise.

    :param clock: returns the time, with its zone; default: the present.
    """
    try:
        store = open_local_spool()
        began_at = parse_time(json.loads(store.read(_MARK))["at"]) if store else None
    except Exception:  # noqa: BLE001 - an absent or damaged mark is none, and a callback may then deliver
        return False
    # A time far in the future is that of a wrong clock, and would be valid for long.
    now = clock() if clock else datetime.now(UTC)
    return began_at is not None and abs(now - began_at) < VALID_FOR
