"""The mark of the delivery DAG: as long as it is at work, callbacks leave the delivery to it.

A callback that delivers keeps the process that it runs in, and with it one of the few places in which Airflow parses DAG
files. A mark in the spool says that nothing of this is necessary. A spool that the delivery DAG does not reach, such as
the folder of another machine, has no mark, so what is written there is delivered where it was written.
"""

from __future__ import annotations

import json
import logging
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING

from bzctrl_provider.reasons import exception_text
from bzctrl_provider.spool.entry import format_time, parse_time
from bzctrl_provider.spool.outbox import open_local_spool

if TYPE_CHECKING:
    from collections.abc import Callable

log = logging.getLogger(__name__)

VALID_FOR = timedelta(minutes=5)

_MARK = ".scheduled.json"


def note_scheduled(*, clock: Callable[[], datetime] | None = None) -> None:
    """Note in a local spool that the delivery DAG has just begun to deliver it; never raise.

    :param clock: returns the time, with its zone; default: the present.
    """
    try:
        if store := open_local_spool():
            data = {"at": format_time(clock() if clock else datetime.now(UTC))}
            store.write(_MARK, f"{json.dumps(data)}\n".encode())
    except Exception as exc:  # noqa: BLE001 - without the mark, callbacks deliver by themselves
        log.warning(
            "The spool could not be marked as delivered by this DAG, so callbacks deliver it too. %s",
            exception_text(exc),
        )


def is_scheduled(*, clock: Callable[[], datetime] | None = None) -> bool:
    """Check whether the delivery DAG has begun a delivery of the spool in the last 5 minutes; never raise.

    :param clock: returns the time, with its zone; default: the present.
    """
    try:
        store = open_local_spool()
        if store is None:
            return False
        marked_at = parse_time(json.loads(store.read(_MARK))["at"])
    except Exception:  # noqa: BLE001 - there is none, or a damaged one
        return False
    # A time far in the future is that of a wrong clock, which must not keep everybody from delivering.
    now = clock() if clock else datetime.now(UTC)
    return marked_at is not None and abs(now - marked_at) < VALID_FOR
