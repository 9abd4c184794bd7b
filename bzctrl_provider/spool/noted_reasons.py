"""The reasons of the latest failures in the local spool, so that the callback of a failed run need not ask Airflow for one.

Such a callback runs in the DAG processor, whose one loop answers the requests of all callbacks, one after the other. The
task that failed notes its reason in the spool too, and the callback finds it there if both have the same folder. The XCom
remains for everything else: other machines, the second of two failed tasks, roll-ups.
"""

from __future__ import annotations

import logging
from datetime import timedelta
from typing import TYPE_CHECKING, Any

from bzctrl_provider.reason_text import exception_text
from bzctrl_provider.spool.marks import read_mark, write_mark

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping
    from datetime import datetime

log = logging.getLogger(__name__)

VALID_FOR = timedelta(hours=1)

_SLOT_DIGITS = 3
"""The last hexadecimal digits of an id, which are random, name its file: so there are never more than 4,096 of them."""


def note_reason(ti: Any, reason: Mapping[str, Any], *, clock: Callable[[], datetime] | None = None) -> None:
    """Note the reason of a try of a task instance, if there is a folder of the spool; never raise.

    :param ti: with the id that Airflow 3 gives to each try. Without one nothing is noted.
    :param reason: plain JSON, as in the XCom.
    :param clock: returns the time, with its zone; default: the present.
    """
    ti_id = _get_id(ti)
    if ti_id is None:
        return
    try:
        write_mark(_name(ti_id), {"ti": ti_id, "reason": reason}, makes_folder=False, clock=clock)
    except Exception as exc:  # noqa: BLE001 - the XCom has it
        log.info(
            "The reason could not be noted in the spool, so it is in the XCom only. %s", exception_text(exc)
        )


def read_noted_reason(ti: Any, *, clock: Callable[[], datetime] | None = None) -> object:
    """Return the reason that this try of a task instance noted in the last hour; None if there is none. Never raise.

    :param ti: with the id that Airflow 3 gives to each try.
    :param clock: returns the time, with its zone; default: the present.
    """
    ti_id = _get_id(ti)
    if ti_id is None:
        return None
    mark = read_mark(_name(ti_id), max_age=VALID_FOR, clock=clock)
    # Another task instance can have the same file.
    return mark.get("reason") if mark and mark.get("ti") == ti_id else None


def _get_id(ti: Any) -> str | None:
    ti_id = getattr(ti, "id", None)
    return None if ti_id is None else str(ti_id)


def _name(ti_id: str) -> str:
    return f".reasons/{ti_id[-_SLOT_DIGITS:]}.json"
