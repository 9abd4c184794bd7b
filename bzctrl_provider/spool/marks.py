"""Short-lived notes in a local spool, by which the processes of one machine know what another one has just done or read."""

from __future__ import annotations

import json
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

from bzctrl_provider.spool.entry import format_time
from bzctrl_provider.spool.outbox import open_local_spool
from bzctrl_provider.times import parse_time

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping
    from datetime import timedelta


def write_mark(
    name: str,
    data: Mapping[str, Any],
    *,
    makes_folder: bool = True,
    clock: Callable[[], datetime] | None = None,
) -> None:
    """Write a note, instead of the earlier one of this name; do nothing without a local spool.

    :param data: plain JSON.
    :param makes_folder: whether to make the folder of the spool; otherwise nothing is written into a spool without one.
    :param clock: returns the time, with its zone; default: the present.
    :raises Exception: if it cannot be written.
    """
    store = open_local_spool()
    if store and (makes_folder or store.exists("")):
        content = {"at": format_time(clock() if clock else datetime.now(UTC)), **data}
        store.write(name, f"{json.dumps(content)}\n".encode())


def read_mark(
    name: str, *, max_age: timedelta, clock: Callable[[], datetime] | None = None
) -> dict[str, Any] | None:
    """Return a note; None if there is none, or an older or damaged one. Never raises.

    :param clock: returns the time, with its zone; default: the present.
    """
    try:
        store = open_local_spool()
        if store is None:
            return None
        data = json.loads(store.read(name))
        written_at = parse_time(data["at"])
        # A time far in the future is that of a wrong clock, and would be valid for long.
        now = clock() if clock else datetime.now(UTC)
        return data if written_at is not None and abs(now - written_at) < max_age else None
    except Exception:  # noqa: BLE001 - as if there were none
        return None
