"""Look into the spool without a change to it."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Literal

from bzctrl_provider.reason_text import exception_text
from bzctrl_provider.spool.entry import Entry
from bzctrl_provider.spool.outbox import REJECTED
from bzctrl_provider.spool.store import UnusableFileError

if TYPE_CHECKING:
    from datetime import datetime

    from bzctrl_provider.spool.store import Store

READ_MAX = 10_000
"""How many files are read. In a folder that takes about one second."""


@dataclass(frozen=True, kw_only=True)
class Item:
    """Describe a file of the spool.

    :param name: the name of the file.
    :param state: ``waiting``; ``rejected`` by BzCtrl or as a damaged file; ``unusable`` if it cannot be read.
    :param reason: why it waits or was rejected; empty if nobody has tried to send it.
    :param entry: its content; None if it cannot be read.
    """

    name: str
    state: Literal["waiting", "rejected", "unusable"]
    reason: str
    entry: Entry | None


@dataclass(frozen=True, kw_only=True)
class Inspection:
    """Hold the contents of the spool.

    :param items: the files that were read, at most ``READ_MAX``: those that wait, then the unusable and the rejected
        ones; each the oldest first.
    :param unread: how many files wait beside them.
    :param rejected_count: how many files are in ``rejected/``.
    """

    items: tuple[Item, ...]
    unread: int
    rejected_count: int

    @property
    def waiting_count(self) -> int:
        """Return how many entries wait."""
        return sum(item.state == "waiting" for item in self.items) + self.unread

    @property
    def unusable_count(self) -> int:
        """Return how many files have the name of an entry and cannot be read."""
        return sum(item.state == "unusable" for item in self.items)

    @property
    def count(self) -> int:
        """Return how many files there are of any state."""
        return self.waiting_count + self.unusable_count + self.rejected_count

    def oldest_s(self, now: datetime) -> float | None:
        """Return for how many seconds the oldest waits; None if none waits.

        :param now: the present time, with a time zone.
        """
        times = [item.entry.spooled_at for item in self.items if item.state == "waiting" and item.entry]
        return max(0.0, (now - min(times)).total_seconds()) if times else None


def inspect_spool(store: Store, *, read_max: int = READ_MAX) -> Inspection:
    """Return the contents of the spool; nothing is moved or written, unlike in a delivery.

    :param store: where the files are.
    :param read_max: how many files to read.
    :raises OSError: the spool cannot be listed.
    """
    names, rejected = _entry_names(store.names()), _entry_names(store.names(REJECTED))
    waiting = [_read(store, name) for name in names[:read_max]]
    refused = [_read_rejected(store, name) for name in rejected[: max(0, read_max - len(waiting))]]
    # A file that has just been delivered is gone.
    items = [item for item in (*waiting, *refused) if item is not None]
    return Inspection(
        items=tuple(sorted(items, key=_order)),
        unread=max(0, len(names) - read_max),
        rejected_count=len(rejected),
    )


def _entry_names(names: list[str]) -> list[str]:
    return sorted(name for name in names if name.endswith(".json") and not name.startswith("."))


def _order(item: Item) -> tuple[int, float, str]:
    time = item.entry.spooled_at.timestamp() if item.entry else 0.0
    return ("waiting", "unusable", "rejected").index(item.state), time, item.name


def _read(store: Store, name: str) -> Item | None:
    try:
        entry = Entry.parse(store.read(name), identity=name.rpartition("/")[2].removesuffix(".json"))
    except FileNotFoundError:
        return None
    except (UnusableFileError, ValueError) as exc:
        return Item(name=name, state="unusable", reason=f"{exc}", entry=None)
    except Exception as exc:  # noqa: BLE001 - each storage has errors of its own
        return Item(name=name, state="unusable", reason=exception_text(exc) or "", entry=None)
    return Item(name=name, state="waiting", reason=entry.reason, entry=entry)


def _read_rejected(store: Store, name: str) -> Item | None:
    item = _read(store, f"{REJECTED}/{name}")
    if item is None or item.entry is not None:
        return item and replace(item, state="rejected")
    try:
        reason = store.read(f"{REJECTED}/{name}.reason.txt").decode(errors="replace").strip()
    except Exception:  # noqa: BLE001 - the file's own reason is good enough
        reason = item.reason
    return replace(item, state="rejected", reason=reason)
