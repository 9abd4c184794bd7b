"""The state of the entries, written so that a delivery can be killed at every step.

```text
6f1ed0….json             an entry that waits
.attempt.json            the entries that are being sent; there is one only while a delivery is at work, or was killed
.pause-….json            a connection that is not to be used for a while; ``beside``: deliveries beside other work
.lock                    locked by the delivery at work, in local spools
delivered/6f1ed0….json   the tombstone of an entry: key and link of its todo, for 7 days
rejected/6f1ed0….json    an entry that BzCtrl rejects, with the reason
```

The order of the steps is what makes it safe: note the attempt, send, write the tombstone, delete the entry.
"""

from __future__ import annotations

import json
import logging
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any

from bzctrl_provider.best_effort import best_effort
from bzctrl_provider.limits import TEXT_CHARS
from bzctrl_provider.reason_text import exception_text
from bzctrl_provider.spool.entry import Entry, format_time, identify
from bzctrl_provider.spool.outbox import DELIVERED, REJECTED
from bzctrl_provider.spool.store import UnusableFileError
from bzctrl_provider.text import one_line
from bzctrl_provider.times import parse_time

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from bzctrl_provider.spool.store import Store

TOMBSTONE_AGE = timedelta(days=7)
PAUSE = timedelta(seconds=60)
PAUSE_MAX = timedelta(minutes=30)

_ATTEMPT = ".attempt.json"
_PAUSE = ".pause-"
_PAUSE_BESIDE = f"{_PAUSE}beside.json"


@dataclass(frozen=True, kw_only=True)
class Waiting:
    """Hold an entry with the name of its file."""

    name: str
    entry: Entry


@dataclass(frozen=True, kw_only=True)
class Todo:
    """Hold the todo that was created for an entry, as its tombstone names it."""

    key: str | None
    link: str | None


@dataclass
class Inventory:
    """Hold the content of the spool.

    :param waiting: the entries, the oldest first.
    :param unusable: the files that have the name of an entry, are none and stay, each with the reason.
    :param damaged: the files that were moved to ``rejected/``, each with the reason.
    """

    waiting: list[Waiting] = field(default_factory=list)
    unusable: dict[str, str] = field(default_factory=dict)
    damaged: dict[str, str] = field(default_factory=dict)


class Ledger:
    """Read and write what a delivery has to remember.

    :param store: where the files are.
    """

    def __init__(self, store: Store) -> None:
        self._store = store

    def address(self, name: str) -> str:
        """Return the address of a file on one line."""
        return one_line(self._store.address(name), max_chars=TEXT_CHARS)

    def rejected_address(self, name: str) -> str:
        """Return the address of a file that was moved to ``rejected/``."""
        return self.address(f"{REJECTED}/{name}")

    # Entries

    def take_stock(self) -> Inventory:
        """Finish what a killed delivery has begun, and return what waits.

        :raises OSError: if the spool cannot be listed.
        """
        try:
            names = self._store.names()
        except Exception as exc:
            raise OSError(f"The spool {self.address('')} could not be listed: {exception_text(exc)}") from exc
        found = Inventory()
        for name in names:
            if name.endswith(".json") and not name.startswith("."):
                self._read(name, found)
        self._note_unfinished_attempt(found)
        self._drop_delivered(found)
        self._dissolve_unsent_summaries(found)
        found.waiting.sort(key=lambda waiting: (waiting.entry.spooled_at, waiting.name))
        return found

    def _read(self, name: str, found: Inventory) -> None:
        try:
            content = self._store.read(name)
        except FileNotFoundError:
            return  # the writer found its tombstone
        except UnusableFileError as exc:
            found.unusable[name] = f"The file is not used: {exc}."
            return
        except Exception as exc:  # noqa: BLE001 - each storage has errors of its own
            found.unusable[name] = f"The file could not be read: {exception_text(exc)}"
            return
        try:
            entry = Entry.parse(content, identity=name.removesuffix(".json"))
        except ValueError as exc:
            self._reject_damaged(name, f"The file is not used: {exc}.", found)
        else:
            found.waiting.append(Waiting(name=name, entry=entry))

    def _reject_damaged(self, name: str, reason: str, found: Inventory) -> None:
        try:
            self._store.write(
                f"{REJECTED}/{name}.reason.txt", f"{reason}\n".encode(errors="backslashreplace")
            )
            self._store.move(name, f"{REJECTED}/{name}")
        except Exception as exc:  # noqa: BLE001 - it stays, and the others are delivered
            found.unusable[name] = f"{reason} It could not be moved to {REJECTED}/: {exception_text(exc)}"
        else:
            found.damaged[name] = reason

    def _note_unfinished_attempt(self, found: Inventory) -> None:
        try:
            content = self._store.read(_ATTEMPT)
        except FileNotFoundError:
            return
        try:
            attempt = json.loads(content)
            at, names = parse_time(attempt["at"]), set(attempt["files"])
        except (ValueError, TypeError, KeyError):
            at, names = None, set()
        if at is None:
            # It does not say which: any of them may have been sent.
            at, names = datetime.now(UTC), {waiting.name for waiting in found.waiting}
        found.waiting = [
            self._note_unanswered(waiting, at) if waiting.name in names else waiting
            for waiting in found.waiting
        ]
        self._store.remove(_ATTEMPT)

    def _note_unanswered(self, waiting: Waiting, at: datetime) -> Waiting:
        if format_time(at) in waiting.entry.unanswered:
            return waiting
        reason = "A delivery ended in the middle of an attempt."
        return self.keep(waiting, replace(waiting.entry.after_unanswered(at), reason=reason))

    def _drop_delivered(self, found: Inventory) -> None:
        delivered = set(self._store.names(DELIVERED))
        gone: set[str] = set()
        for waiting in found.waiting:
            tombstone = f"{waiting.entry.identity}.json"
            if tombstone not in delivered:
                continue
            gone.add(waiting.entry.identity)
            gone.update(waiting.entry.covers)
            self._bury_covered(waiting.entry, found.waiting, self._read_tombstone(tombstone))
            self._store.remove(waiting.name)
        found.waiting = [waiting for waiting in found.waiting if waiting.entry.identity not in gone]

    def _read_tombstone(self, name: str) -> dict[str, Any]:
        try:
            data = json.loads(self._store.read(f"{DELIVERED}/{name}"))
        except (FileNotFoundError, ValueError, RecursionError):
            return {}
        return data if isinstance(data, dict) else {}

    def _dissolve_unsent_summaries(self, found: Inventory) -> None:
        """Delete summaries that were certainly not sent: more entries may have come, which belong into them."""
        for waiting in found.waiting:
            if waiting.entry.covers and not waiting.entry.unanswered:
                self._store.remove(waiting.name)
        found.waiting = [
            waiting for waiting in found.waiting if not waiting.entry.covers or waiting.entry.unanswered
        ]

    def add(self, entry: Entry) -> Waiting:
        """Write a summary, which covers entries that wait."""
        name = f"{entry.identity}.json"
        self._store.write(name, entry.as_bytes())
        return Waiting(name=name, entry=entry)

    def keep(self, waiting: Waiting, entry: Entry) -> Waiting:
        """Write what is new about an entry that goes on waiting."""
        self._store.write(waiting.name, entry.as_bytes())
        return replace(waiting, entry=entry)

    # Attempts

    def begin_attempt(self, batch: Sequence[Waiting], now: datetime) -> None:
        """Note that entries are about to be sent: from here on, a killed delivery leaves possible duplicates."""
        attempt = {"at": now.astimezone(UTC).isoformat(), "files": [waiting.name for waiting in batch]}
        self._store.write(_ATTEMPT, json.dumps(attempt).encode())

    def end_attempt(self) -> None:
        """Note that the outcome of each of them is written."""
        self._store.remove(_ATTEMPT)

    def bury(self, waiting: Waiting, todo: Todo, *, now: datetime, others: Sequence[Waiting]) -> None:
        """Write the tombstone of a delivered entry, and delete it; with all that it covers, if it is a summary."""
        data: dict[str, Any] = {
            "key": todo.key,
            "link": todo.link,
            "delivered_at": format_time(now),
            "facts": dict(waiting.entry.facts),
        }
        if waiting.entry.covers:
            data["covers"] = list(waiting.entry.covers)
        self._store.write(f"{DELIVERED}/{waiting.entry.identity}.json", _as_json(data))
        self._bury_covered(waiting.entry, others, data)
        self._store.remove(waiting.name)

    def _bury_covered(self, summary: Entry, others: Sequence[Waiting], data: dict[str, Any]) -> None:
        covered = set(summary.covers)
        for other in others:
            if other.entry.identity in covered:
                own = {
                    **{name: data.get(name) for name in ("key", "link", "delivered_at")},
                    "summary": summary.identity,
                    "facts": dict(other.entry.facts),
                }
                self._store.write(f"{DELIVERED}/{other.entry.identity}.json", _as_json(own))
                self._store.remove(other.name)

    def reject(self, waiting: Waiting, reason: str, *, others: Sequence[Waiting]) -> None:
        """Move an entry that BzCtrl rejects out of the way; the incidents of a summary are sent one by one from then on."""
        covered = set(waiting.entry.covers)
        for other in others:
            if other.entry.identity in covered:
                self.keep(other, replace(other.entry, single=True))
        self._store.write(f"{REJECTED}/{waiting.name}", replace(waiting.entry, reason=reason).as_bytes())
        self._store.remove(waiting.name)

    # Pauses

    def pause(self, conn_id: str, *, until: datetime, reason: str, refusals: int = 0) -> None:
        """Keep everybody from using a connection for a while."""
        self._pause(_pause_name(conn_id), until=until, reason=reason, refusals=refusals)

    def pause_beside(self, *, until: datetime, reason: str) -> None:
        """Keep processes with other work from delivering for a while; the delivery DAG and people may."""
        self._pause(_PAUSE_BESIDE, until=until, reason=reason, refusals=0)

    def _pause(self, name: str, *, until: datetime, reason: str, refusals: int) -> None:
        data = {"until": until.astimezone(UTC).isoformat(), "reason": reason, "refusals": refusals}
        self._store.write(name, _as_json(data))

    def read_pause(self, conn_id: str) -> Pause | None:
        """Return the last pause of a connection, which may be over."""
        return self._read_pause(_pause_name(conn_id))

    def any_pause(self, now: datetime) -> bool:
        """Check whether any connection is paused, or BzCtrl was too slow for a delivery beside other work."""
        pauses = [name for name in self._store.names() if name.startswith(_PAUSE)]
        return any((pause := self._read_pause(name)) and now < pause.until for name in pauses)

    def _read_pause(self, name: str) -> Pause | None:
        try:
            data = json.loads(self._store.read(name))
            until = parse_time(data["until"])
            if until is None:
                return None
            return Pause(until=until, reason=str(data["reason"]), refusals=int(data["refusals"]))
        except (FileNotFoundError, ValueError, TypeError, KeyError, OverflowError, RecursionError):
            return None

    def resume(self, conn_id: str) -> None:
        """Forget the pauses of a connection, because it has worked."""
        self._store.remove(_pause_name(conn_id))

    # Tombstones

    def prune(self, now: datetime) -> None:
        """Delete tombstones of more than 7 days."""
        for name in self._store.names(DELIVERED):
            path = f"{DELIVERED}/{name}"
            with best_effort(f"the age of the tombstone {self.address(path)}", level=logging.DEBUG):
                if now - self._store.modified_at(path) > TOMBSTONE_AGE:
                    self._store.remove(path)


@dataclass(frozen=True, kw_only=True)
class Pause:
    """Hold why and until when a connection is not used.

    :param refusals: how often in a row BzCtrl has refused its credentials.
    """

    until: datetime
    reason: str
    refusals: int


def covered_by(summaries: Iterable[Waiting]) -> set[str]:
    """Return the identities of the entries that summaries cover."""
    return {identity for waiting in summaries for identity in waiting.entry.covers}


def _pause_name(conn_id: str) -> str:
    return f"{_PAUSE}{identify(conn_id)}.json"


def _as_json(data: dict[str, Any]) -> bytes:
    return f"{json.dumps(data, indent=2)}\n".encode()
