"""One delivery at a time: everything that waits, in bulk, with one token for each connection."""

from __future__ import annotations

import logging
import time
from dataclasses import asdict, dataclass, field, replace
from datetime import UTC, timedelta
from itertools import zip_longest
from typing import TYPE_CHECKING, Any, Protocol

from bzctrl_provider.best_effort import best_effort
from bzctrl_provider.exceptions import BzCtrlError, BzCtrlValidationError
from bzctrl_provider.limits import NAME_CHARS
from bzctrl_provider.metrics import count_todos, gauge_spool
from bzctrl_provider.reason_text import exception_text
from bzctrl_provider.spool.entry import is_set
from bzctrl_provider.spool.ledger import PAUSE, PAUSE_MAX, Todo, Waiting, covered_by
from bzctrl_provider.spool.storm import Member, find_storms, summarize
from bzctrl_provider.text import one_line
from bzctrl_provider.times import parse_time

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping, Sequence
    from datetime import datetime

    from bzctrl_provider.spool.entry import Entry
    from bzctrl_provider.spool.ledger import Inventory, Ledger

log = logging.getLogger(__name__)

BATCH = 8
"""How many are sent at a time, and so at most how many possible duplicates a killed delivery leaves."""

_REFUSALS_MAX = 10

_BACKOFF_FROM = 3
_BACKOFF_MAX = timedelta(hours=1)

SUPPLIED_FIELDS = ("domain_workspace", "reporter")
"""The mandatory fields of a todo that its connection can supply."""
_SUPPLY_WAIT = timedelta(days=3)
"""How long an entry waits for its connection to supply a field: longer than a weekend. Then it is rejected."""


@dataclass(frozen=True)
class DeliveryResult:
    """Hold the result of a delivery.

    :param created: for each todo that was created ``{"file": …, "key": …, "link": …}``; a summary is one of them.
    :param kept: for each entry that still waits ``{"file": …, "reason": …}``, the oldest first.
    :param rejected: for each file that was moved to ``rejected/`` ``{"file": …, "reason": …}``.
    :param busy: whether another delivery was at work, so that nothing was done.
    """

    created: list[dict[str, str | None]] = field(default_factory=list)
    kept: list[dict[str, str]] = field(default_factory=list)
    rejected: list[dict[str, str]] = field(default_factory=list)
    busy: bool = False

    def as_dict(self) -> dict[str, Any]:
        """Return all of it as plain JSON, as it goes into an XCom."""
        return asdict(self)


class Sender(Protocol):
    """Describe a connection to BzCtrl."""

    def check(self, fields: Mapping[str, Any]) -> dict[str, Any]:
        """Return the complete and checked fields of a todo, or raise BzCtrlValidationError."""

    def authenticate(self) -> None:
        """Get a token, or raise BzCtrlError."""

    def create_todos(self, todos: Sequence[Mapping[str, Any]]) -> Sequence[Any]:
        """Create todos, and return for each what was created or the error."""

    def close(self) -> None:
        """Close the connections."""


@dataclass(frozen=True, kw_only=True)
class Options:
    """Hold the options of a delivery.

    :param bzctrl_conn_id: the connection to create all entries with; None: that of each entry.
    :param limit: the most todos to send; None: all.
    :param group_above: more incidents than this become one summary; 0: never.
    :param ignore_pauses: whether to try connections that are paused, and entries that have to wait.
    :param beside: whether the process has other work, and little time: if BzCtrl is too slow for that, only such
        processes keep from it for a while.
    :param first_batch: how many to send at first.
    :param may_start: whether there is time for a batch if the last one, or the token, took so many seconds.
    """

    bzctrl_conn_id: str | None = None
    limit: int | None = None
    group_above: int = 20
    ignore_pauses: bool = False
    beside: bool = False
    first_batch: int = BATCH
    may_start: Callable[[float], bool] = lambda _: True


class Delivery:
    """Deliver the entries once, as the only deliverer of the spool.

    :param todos: gets for each identity that is delivered what BzCtrl created.
    """

    def __init__(
        self,
        ledger: Ledger,
        *,
        connect: Callable[[str], Sender],
        clock: Callable[[], datetime],
        options: Options,
        todos: dict[str, dict[str, Any]],
    ) -> None:
        self.ledger = ledger
        self.clock = clock
        self.options = options
        self.result = DeliveryResult()
        self.todos = todos
        self.sent = 0
        self._connect = connect

    def run(self) -> DeliveryResult:
        """Try each entry that waits, once.

        :raises OSError: if the spool cannot be listed or written.
        """
        inventory = self.ledger.take_stock()
        for name, reason in inventory.unusable.items():
            self.keep([name], reason)
        for name, reason in inventory.damaged.items():
            self.reject(name, reason)
        by_connection: dict[str, list[Waiting]] = {}
        for waiting in inventory.waiting:
            conn_id = self.options.bzctrl_conn_id or waiting.entry.bzctrl_conn_id
            by_connection.setdefault(conn_id, []).append(waiting)
        for conn_id, entries in by_connection.items():
            self._deliver(conn_id, entries)
        if self.result.created:
            self.ledger.prune(self.clock())
        self._gauge(inventory)
        return self.result

    def _gauge(self, inventory: Inventory) -> None:
        """Set the gauges of what still waits; a summary is no incident more than those that it covers."""
        rejected = {each["file"] for each in self.result.rejected}
        written_at = [
            waiting.entry.spooled_at
            for waiting in inventory.waiting
            if not waiting.entry.covers
            and waiting.entry.identity not in self.todos
            and self.ledger.rejected_address(waiting.name) not in rejected
        ]
        oldest_s = (self.clock() - min(written_at)).total_seconds() if written_at else 0
        gauge_spool(waiting=len(written_at) + len(inventory.unusable), oldest_s=oldest_s)

    def _deliver(self, conn_id: str, entries: list[Waiting]) -> None:
        names = [waiting.name for waiting in entries]
        pause = None if self.options.ignore_pauses else self.ledger.read_pause(conn_id)
        if pause and self.clock() < pause.until:
            self.keep(names, f"Not tried before {pause.until:%H:%M:%S} UTC. {pause.reason}")
            return
        try:
            sender = self._connect(conn_id)
        except Exception as exc:  # noqa: BLE001 - a connection that is missing is Airflow's error, not ours
            self.keep(names, f"Not tried. {self.pause(conn_id, exc)}")
            return
        try:
            _OfConnection(self, conn_id, sender, entries).run()
        finally:
            sender.close()

    def pause(self, conn_id: str, exc: Exception) -> str:
        """Keep everybody from a connection for a while, and return the reason."""
        shown = one_line(conn_id, max_chars=NAME_CHARS)
        reason = f"The connection {shown} cannot be used at present: {exception_text(exc)}"
        pause_s = exc.pause_s if isinstance(exc, BzCtrlError) else None
        is_permanent = not isinstance(exc, BzCtrlError) or exc.is_permanent
        if self.options.beside and not is_permanent and pause_s is None:
            self.pause_beside(reason)
            return reason
        refusals, length = 0, max(PAUSE, timedelta(seconds=pause_s or 0))
        if pause_s is not None and is_permanent:
            # Refused credentials: longer each time, because BzCtrl may lock the account.
            before = self.ledger.read_pause(conn_id)
            refusals = min(before.refusals + 1 if before else 1, _REFUSALS_MAX)
            length *= 2 ** (refusals - 1)
        length = min(length, PAUSE_MAX)
        with best_effort("the pause of the connection"):
            self.ledger.pause(conn_id, until=self.clock() + length, reason=reason, refusals=refusals)
        return reason

    def pause_beside(self, reason: str) -> None:
        """Keep processes with other work from BzCtrl for a while, if this one has: each would wait as long as this one."""
        if not self.options.beside:
            return
        with best_effort("the pause of deliveries beside other work"):
            self.ledger.pause_beside(until=self.clock() + PAUSE, reason=reason)

    def keep(self, names: Sequence[str], reason: str) -> None:
        """Report entries that go on waiting, with one line of the log for all of them."""
        if not names:
            return
        addresses = [self.ledger.address(name) for name in names]
        if len(names) == 1:
            log.warning("%s stays in the spool. %s", addresses[0], reason)
        else:
            log.warning("%s and %d more stay in the spool. %s", addresses[0], len(names) - 1, reason)
        self.result.kept.extend({"file": address, "reason": reason} for address in addresses)

    def reject(self, name: str, reason: str) -> None:
        """Report a file that was moved to ``rejected/``."""
        address = self.ledger.rejected_address(name)
        log.error("%s was rejected, and is not tried again. %s", address, reason)
        self.result.rejected.append({"file": address, "reason": reason})


class _OfConnection:
    """Deliver the entries of one connection."""

    def __init__(self, delivery: Delivery, conn_id: str, sender: Sender, entries: list[Waiting]) -> None:
        self._delivery = delivery
        self._ledger = delivery.ledger
        self._options = delivery.options
        self._conn_id = conn_id
        self._sender = sender
        self._entries = entries
        self._stopped: str | None = None
        self._rejected_summary = False
        self._waiting: dict[str, str] = {}
        """The files that are not tried this time, each with the reason."""
        self._took_s: float | None = None

    def run(self) -> None:
        """Send what is due; once more, if a summary was rejected and its entries have to be sent one by one."""
        self._run_once()
        if self._rejected_summary and not self._stopped:
            self._run_once()
        by_reason: dict[str, list[str]] = {}
        for name, reason in self._waiting.items():
            by_reason.setdefault(reason, []).append(name)
        for reason, names in by_reason.items():
            self._delivery.keep(names, reason)

    def _run_once(self) -> None:
        units = self._plan()
        while units:
            if self._took_s is None:
                self._authenticate()
            size = self._next_size()
            if self._stopped is None and size == 0:
                self._stopped = "There was no time for it."
                self._delivery.pause_beside(self._stopped)
            if self._stopped is not None:
                self._delivery.keep(list(self._names(units)), f"Not tried. {self._stopped}")
                return
            self._send(units[:size])
            units = units[size:]

    def _next_size(self) -> int:
        size = BATCH if self._delivery.sent else self._options.first_batch
        if self._options.limit is not None:
            size = min(size, self._options.limit - self._delivery.sent)
        return size if self._options.may_start(self._took_s or 0.0) else 0

    def _authenticate(self) -> None:
        """Get the token before an attempt is noted: its time shows whether there is enough for a todo."""
        before = time.monotonic()
        try:
            self._sender.authenticate()
        except Exception as exc:  # noqa: BLE001 - whatever it is, nothing was sent, and everything is kept
            self._stopped = self._delivery.pause(self._conn_id, exc)
        self._took_s = time.monotonic() - before

    def _names(self, units: Sequence[Waiting]) -> Iterator[str]:
        """Return the names of the files; of a summary that is not written, those of its entries."""
        by_identity = {waiting.entry.identity: waiting.name for waiting in self._entries}
        for unit in units:
            if unit.entry.identity in by_identity:
                yield unit.name
            else:
                yield from (by_identity[identity] for identity in unit.entry.covers)

    # What to send

    def _plan(self) -> list[Waiting]:
        """Return the entries to send, with the summaries instead of the entries that they cover."""
        covered = covered_by(self._entries)
        due: list[Waiting] = []
        members: list[Member] = []
        for waiting in self._entries:
            if waiting.entry.identity in covered:
                continue
            member = None
            reason = self._wait_for_time(waiting.entry)
            if reason is None:
                try:
                    member = _member(waiting.entry, self._sender.check(waiting.entry.fields))
                except BzCtrlValidationError as exc:
                    # Otherwise it is sent by itself, so that it is rejected by itself.
                    reason = self._wait_for_connection(waiting, exc)
            if reason is not None:
                self._waiting[waiting.name] = reason
                continue
            due.append(waiting)
            if member is not None:
                members.append(member)
        for storm in find_storms(members, above=self._options.group_above):
            summary = summarize(storm)
            due = [waiting for waiting in due if waiting.entry.identity not in summary.covers]
            due.append(Waiting(name=f"{summary.identity}.json", entry=summary))
        return sorted(due, key=lambda waiting: (waiting.entry.spooled_at, waiting.name))

    def _wait_for_time(self, entry: Entry) -> str | None:
        until = None if self._options.ignore_pauses else _wait_until(entry)
        if until is None or self._delivery.clock() >= until:
            return None
        return f"Not tried before {until:%H:%M:%S} UTC, because of attempts without a response."

    def _wait_for_connection(self, waiting: Waiting, exc: BzCtrlValidationError) -> str | None:
        """Return why an entry waits that lacks only what a connection supplies, and write it into the entry.

        Otherwise one fault of a connection moves all its entries to ``rejected/``.
        """
        entry = waiting.entry
        lacking = sorted({fault.field for fault in exc.errors})
        if any(name not in SUPPLIED_FIELDS or is_set(entry.fields.get(name)) for name in lacking):
            return None
        if self._delivery.clock() - entry.spooled_at > _SUPPLY_WAIT:
            return None
        shown = one_line(self._conn_id, max_chars=NAME_CHARS)
        reason = (
            f"Not tried. The todo has no {' and no '.join(lacking)}, and neither has the connection {shown}: "
            f"add it there within {_SUPPLY_WAIT.days} days."
        )
        if entry.reason != reason:
            self._ledger.keep(waiting, replace(entry, reason=reason))
        return reason

    # Sending

    def _send(self, batch: list[Waiting]) -> None:
        known = {waiting.entry.identity for waiting in self._entries}
        summaries = [waiting for waiting in batch if waiting.entry.identity not in known]
        for summary in summaries:
            self._ledger.add(summary.entry)
        started_at = self._delivery.clock()
        before = time.monotonic()
        self._ledger.begin_attempt(batch, started_at)
        try:
            outcomes = list(self._sender.create_todos([waiting.entry.todo() for waiting in batch]))
        except Exception as exc:  # noqa: BLE001 - whatever it is, nothing is known about any of them
            outcomes = [exc] * len(batch)
        self._took_s = time.monotonic() - before
        self._delivery.sent += len(batch)
        outcomes = outcomes[: len(batch)]
        # Each outcome is written before an error of the storage ends the delivery.
        storage_errors = []
        for waiting, outcome in zip_longest(batch, outcomes):
            try:
                self._write_outcome(waiting, outcome, started_at)
            except Exception as exc:  # noqa: BLE001 - the attempt stays noted, and the next delivery knows of it
                storage_errors.append(exc)
        if storage_errors:
            raise OSError(
                f"The outcome of {len(storage_errors)} attempts could not be written into the spool "
                f"{self._ledger.address('')}, so there may be duplicates: {exception_text(storage_errors[0])}"
            )
        self._ledger.end_attempt()
        self._pause_if_down(outcomes)

    def _write_outcome(self, waiting: Waiting, outcome: Any, at: datetime) -> None:
        if outcome is not None and not isinstance(outcome, BaseException):
            self._created(waiting, outcome)
        elif _is_rejection(outcome):
            reason = exception_text(outcome) or ""
            self._ledger.reject(waiting, reason, others=self._entries)
            self._rejected_summary |= bool(waiting.entry.covers)
            self._forget({waiting.entry.identity})
            self._entries = [self._single(waiting.entry, other) for other in self._entries]
            self._delivery.reject(waiting.name, reason)
        else:
            self._failed(waiting, outcome, at)

    def _single(self, summary: Entry, other: Waiting) -> Waiting:
        if other.entry.identity not in summary.covers:
            return other
        return replace(other, entry=replace(other.entry, single=True))

    def _created(self, waiting: Waiting, todo: Any) -> None:
        self._ledger.bury(
            waiting, Todo(key=todo.key, link=todo.link), now=self._delivery.clock(), others=self._entries
        )
        delivered = {waiting.entry.identity, *waiting.entry.covers}
        self._delivery.todos.update(dict.fromkeys(delivered, todo.as_dict()))
        self._delivery.result.created.append(
            {"file": self._ledger.address(waiting.name), "key": todo.key, "link": todo.link}
        )
        if waiting.entry.covers:
            count_todos("grouped", todo_type="INCIDENT", number=len(waiting.entry.covers))
            log.info("%s is the summary of %d incidents.", todo.key or todo.link, len(waiting.entry.covers))
        self._forget(delivered)

    def _forget(self, identities: set[str]) -> None:
        self._entries = [other for other in self._entries if other.entry.identity not in identities]

    def _failed(self, waiting: Waiting, outcome: BaseException | None, at: datetime) -> None:
        reason = exception_text(outcome) or "The delivery was stopped."
        entry = replace(waiting.entry, reason=reason)
        if getattr(outcome, "outcome_unknown", True):
            entry = entry.after_unanswered(at)
        self._ledger.keep(waiting, entry)
        self._delivery.keep([waiting.name], reason)

    def _pause_if_down(self, outcomes: Sequence[Any]) -> None:
        errors = [outcome for outcome in outcomes if isinstance(outcome, Exception)]
        down = next(filter(_concerns_connection, errors), None)
        if down is None and errors and len(errors) == len(outcomes):
            down = next(filter(_has_no_response, errors), None)
        if down is not None:
            self._stopped = self._delivery.pause(self._conn_id, down)
        elif len(errors) < len(outcomes):
            self._ledger.resume(self._conn_id)


def _member(entry: Entry, values: dict[str, Any]) -> Member | None:
    if entry.covers or entry.single or values["todo_type"] != "INCIDENT":
        return None
    return Member(
        entry=entry, workspace=values["domain_workspace"], assignee=values["assignee"], values=values
    )


def _is_rejection(outcome: object) -> bool:
    return isinstance(outcome, BzCtrlError) and outcome.is_permanent and outcome.concerns == "todo"


def _concerns_connection(exc: Exception) -> bool:
    return isinstance(exc, BzCtrlError) and exc.concerns == "connection"


def _has_no_response(exc: Exception) -> bool:
    return bool(getattr(exc, "outcome_unknown", True))


def _wait_until(entry: Entry) -> datetime | None:
    """Return when an entry may be tried again: each attempt without a response may have made one more duplicate."""
    number = len(entry.unanswered)
    last = parse_time(entry.unanswered[-1], zone=UTC) if number >= _BACKOFF_FROM else None
    if last is None:
        return None
    return last + min(timedelta(minutes=2 ** min(number - _BACKOFF_FROM + 1, 10)), _BACKOFF_MAX)
