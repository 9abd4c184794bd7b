"""The mark of the delivery DAG: as long as it is at work, callbacks leave the delivery to it.

A callback that delivers keeps the process that it runs in, and with it one of the few places in which Airflow parses DAG
files. A mark in the spool says that nothing of this is necessary. A spool that the delivery DAG does not reach, such as
the folder of another machine, has no mark, so what is written there is delivered where it was written.
"""

from __future__ import annotations

import logging
from datetime import timedelta
from typing import TYPE_CHECKING

from bzctrl_provider.reason_text import exception_text
from bzctrl_provider.spool.marks import read_mark, write_mark

if TYPE_CHECKING:
    from collections.abc import Callable
    from datetime import datetime

log = logging.getLogger(__name__)

VALID_FOR = timedelta(minutes=5)

_MARK = ".scheduled.json"


def note_scheduled(*, clock: Callable[[], datetime] | None = None) -> None:
    """Note in a local spool that the delivery DAG has just begun to deliver it; never raise.

    :param clock: returns the time, with its zone; default: the present.
    """
    try:
        write_mark(_MARK, {}, clock=clock)
    except Exception as exc:  # noqa: BLE001 - without the mark, callbacks deliver by themselves
        log.warning(
            "The spool could not be marked as delivered by this DAG, so callbacks deliver it too. %s",
            exception_text(exc),
        )


def is_scheduled(*, clock: Callable[[], datetime] | None = None) -> bool:
    """Check whether the delivery DAG has begun a delivery of the spool in the last 5 minutes; never raise.

    :param clock: returns the time, with its zone; default: the present.
    """
    return read_mark(_MARK, max_age=VALID_FOR, clock=clock) is not None
