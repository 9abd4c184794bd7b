"""One delivery at a time: everything that waits, in bulk, with one token for each connection.

The order of the steps makes it safe: note that a batch is being sent (commit), send it, note each outcome (commit). Rows that a
killed delivery leaves as ``sending`` get an attempt without a response, and their todos say that they may be duplicates.
"""

from __future__ import annotations

import logging
import time
from collections import defaultdict
from dataclasses import asdict, dataclass, field, replace
from typing import TYPE_CHECKING, Any, Protocol

from bzctrl_provider.best_effort import exception_text
from bzctrl_provider.exceptions import BzCtrlError, BzCtrlValidationError
from bzctrl_provider.metrics import count_todos, gauge_outbox
from bzctrl_provider.outbox.storm import Member, find_storms, summarize
from bzctrl_provider.outbox.writer import format_time, is_set, todo_of
from bzctrl_provider.store import deliveries, incidents, problems
from bzctrl_provider.text import LINE_CHARS, one_line, parse_time

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping, Sequence

    from bzctrl_provider.store.database import Database, Transaction
    from bzctrl_provider.store.deliveries import Pause
    from bzctrl_provider.store.incidents import Incident

log = logging.getLogger(__name__)

LEASE_S = 60.0
"""After which others deliver, if this process has not renewed its lease."""

PAUSE_S = 60.0
PAUSE_MAX_S = 1800.0
_REFUSALS_MAX = 10

BESIDE = ""
"""The name of the pause of deliveries beside other work; no connection has it."""

CANNOT_BE_USED = " cannot be used at present: "
"""Between the name of a connection and the error, in the reason of its pause."""

_BACKOFF_FROM = 3
_BACKOFF_MAX_S = 3600.0

SUPPLIED_FIELDS = ("domain_workspace", "reporter")
"""The mandatory fields of a todo that its connection can supply."""
_SUPPLY_WAIT_DAYS = 3
"""How long an incident waits for its connection to supply a field: longer than a weekend. Then it is rejected."""


@dataclass(frozen=True)
class DeliveryResult:
    """The result of a delivery.

    :param created: for each todo that was created ``{"identity": …, "key": …, "link": …}``; a summary is one of them.
    :param kept: for each incident that still waits ``{"identity": …, "reason": …}``, the oldest first.
    :param rejected: for each incident that was rejected ``{"identity": …, "reason": …}``.
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
    """A connection to BzCtrl."""

    def fit(self, fields: Any) -> dict[str, Any]:
        """Return the fields that the connection has; a note names the others."""

    def check(self, fields: Any) -> dict[str, Any]:
        """Return the complete and checked fields of a todo, or raise BzCtrlValidationError."""

    def authenticate(self) -> None:
        """Get a token, or raise BzCtrlError."""

    def create_todos(self, todos: Sequence[Any]) -> Sequence[Any]:
        """Create todos, and return for each what was created or the error."""

    def close(self) -> None:
        """Close the connections."""


@dataclass(frozen=True, kw_only=True)
class Options:
    """The options of a delivery.

    :param bzctrl_conn_id: the connection to create all incidents with; None: that of each.
    :param limit: the most todos to send; None: all.
    :param group_above: more incidents than this become one summary; 0: never.
    :param ignore_pauses: whether to try connections that are paused, and incidents that have to wait.
    :param beside: whether the process has other work, and little time: if BzCtrl is too slow for that, only such
        processes keep from it for a while.
    :param batch: how many to send between two notes.
    :param first_batch: how many to send at first.
    :param may_start: whether there is time for a batch if the last one, or the token, took so many seconds.
    """

    bzctrl_conn_id: str | None = None
    limit: int | None = None
    group_above: int = 20
    ignore_pauses: bool = False
    beside: bool = False
    batch: int = 8
    first_batch: int = 8
    may_start: Callable[[float], bool] = lambda _: True


class Delivery:
    """One delivery by the process that has the lease.

    :param store: where the incidents wait.
    :param holder: of the lease, which this process has.
    :param connect: makes a sender for the id of a connection.
    """

    def __init__(
        self, store: Database, *, holder: str, connect: Callable[[str], Sender], options: Options
    ) -> None:
        self.store = store
        self.options = options
        self.result = DeliveryResult()
        self.todos: dict[str, dict[str, Any]] = {}
        """For the identity of each incident that is delivered, what BzCtrl created."""
        self.sent = 0
        self.now = 0.0
        """The time of the store when the incidents were listed."""
        self.is_out_of_time = False
        self.holder = holder
        self.tried: set[str] = set()
        """The identities of incidents and summaries that are not tried again by this delivery."""
        self._connect = connect

    def run(self) -> DeliveryResult:
        """Try each incident that waits once, also those that come meanwhile, and give the lease back.

        :raises StoreError: if the store cannot be used. The lease ends by its time then.
        """
        with self.store.transaction() as tx:
            if not deliveries.lock_lease(tx, self.holder):
                self.result = DeliveryResult(busy=True)
                return self.result
            self._recover(tx)
        while True:
            with self.store.transaction() as tx:
                waiting = incidents.list_of(tx, "waiting")
                self.now = tx.now
            self._deliver_all([one for one in waiting if one.identity not in self.tried])
            with self.store.transaction() as tx:
                if (
                    not self.is_out_of_time
                    and deliveries.lock_lease(tx, self.holder)
                    # Not by the numbers of the rows: a row may get its number long before it can be seen.
                    and not self.tried.issuperset(incidents.waiting_identities(tx))
                ):
                    continue
                incidents.prune(tx)
                problems.prune(tx)
                number, oldest = incidents.count(tx, "waiting", "sending")
                gauge_outbox(waiting=number, oldest_s=tx.now - oldest if oldest else 0)
                # Last, so that nobody who writes before finds the lease taken by a process that looks no more.
                deliveries.give_lease_back(tx, self.holder)
                return self.result

    def _recover(self, tx: Transaction) -> None:
        for incident in incidents.list_of(tx, "sending"):
            reason = "A delivery ended in the middle of an attempt."
            incidents.note_waiting(tx, incident, reason, unanswered_at=format_time(incident.changed_at))
        incidents.dissolve_unsent_summaries(tx)

    def _deliver_all(self, waiting: Sequence[Incident]) -> None:
        by_connection: dict[str, list[Incident]] = defaultdict(list)
        for incident in waiting:
            by_connection[self.options.bzctrl_conn_id or incident.bzctrl_conn_id].append(incident)
        for conn_id, some in by_connection.items():
            self.tried.update(incident.identity for incident in some)
            self._deliver(conn_id, some)

    def _deliver(self, conn_id: str, waiting: list[Incident]) -> None:
        with self.store.transaction() as tx:
            pause = deliveries.find_pause(tx, conn_id)
        if pause and self.now < pause.until and not self.options.ignore_pauses:
            self.keep(waiting, f"Not tried before {format_time(pause.until)}. {pause.reason}")
            return
        try:
            sender = self._connect(conn_id)
        except Exception as exc:  # noqa: BLE001 - a connection that is missing is Airflow's error, not ours
            self.keep(waiting, f"Not tried. {self.pause(conn_id, exc)}")
            return
        try:
            _OfConnection(self, conn_id, sender, waiting, pause).run()
        finally:
            sender.close()

    def pause(self, conn_id: str, exc: Exception) -> str:
        """Keep everybody from a connection for a while, and return the reason."""
        reason = (
            f"The connection {one_line(conn_id, max_chars=LINE_CHARS)}{CANNOT_BE_USED}{exception_text(exc)}"
        )
        is_permanent = not isinstance(exc, BzCtrlError) or exc.is_permanent
        pause_s = exc.pause_s if isinstance(exc, BzCtrlError) else None
        if self.options.beside and not is_permanent and pause_s is None:
            self.pause_beside(reason)
            return reason
        for_s = max(PAUSE_S, pause_s or 0)
        with self.store.transaction() as tx:
            refusals = 0
            if is_permanent and pause_s is not None:
                # Refused credentials: longer each time, because BzCtrl may lock the account.
                before = deliveries.find_pause(tx, conn_id)
                refusals = min(before.refusals + 1 if before else 1, _REFUSALS_MAX)
                for_s *= 2.0 ** (refusals - 1)
            deliveries.pause(tx, conn_id, for_s=min(for_s, PAUSE_MAX_S), reason=reason, refusals=refusals)
        return reason

    def pause_beside(self, reason: str) -> None:
        """Keep processes with other work from BzCtrl for a while, if this one has: each would wait as long as this one."""
        if self.options.beside:
            with self.store.transaction() as tx:
                deliveries.pause(tx, BESIDE, for_s=PAUSE_S, reason=reason)

    def keep(self, waiting: Sequence[Incident], reason: str) -> None:
        """Report incidents that go on waiting, with one line of the log for all of them."""
        if not waiting:
            return
        stay = f"and {len(waiting) - 1} more stay" if len(waiting) > 1 else "stays"
        log.warning("%s %s in the outbox. %s", name_of(waiting[0]), stay, reason)
        self.result.kept.extend({"identity": incident.identity, "reason": reason} for incident in waiting)

    def reject(self, incident: Incident, reason: str) -> None:
        """Report an incident that was rejected."""
        log.error("%s was rejected, and is not tried again. %s", name_of(incident), reason)
        self.result.rejected.append({"identity": incident.identity, "reason": reason})


class _OfConnection:
    """The part of a delivery that uses one connection."""

    def __init__(
        self, delivery: Delivery, conn_id: str, sender: Sender, waiting: list[Incident], pause: Pause | None
    ) -> None:
        self._delivery = delivery
        self._store = delivery.store
        self._options = delivery.options
        self._conn_id = conn_id
        self._sender = sender
        self._left = {one.identity: replace(one, fields=sender.fit(one.fields)) for one in waiting}
        self._was_paused = pause is not None
        self._stopped: str | None = None
        self._has_dissolved = False
        self._waits: dict[str, list[Incident]] = defaultdict(list)
        """The incidents that are not tried this time, by the reason."""
        self._took_s: float | None = None
        self._unnoted: list[tuple[Incident, Any, float]] = []
        """Todos that were sent, with their outcomes and times: noted with the next batch, or at the end."""

    def run(self) -> None:
        """Send what is due; once more, if a summary was rejected and its incidents have to be sent one by one."""
        self._run_once()
        if self._has_dissolved and not self._stopped:
            self._run_once()
        for reason, waiting in self._waits.items():
            self._delivery.keep(waiting, reason)

    def _run_once(self) -> None:
        self._waits.clear()
        units = self._plan()
        try:
            while units and (size := self._next_size()):
                self._send(units[:size])
                units = units[size:]
        finally:
            if self._unnoted:
                with self._store.transaction() as tx:
                    self._note_outcomes(tx)
        if units:
            self._delivery.keep(list(self._represented(units)), f"Not tried. {self._stopped}")

    def _next_size(self) -> int:
        """Return how many are sent next; if none, note why."""
        if self._took_s is None:
            self._authenticate()
        if self._stopped is not None:
            return 0
        size = self._options.batch if self._delivery.sent else self._options.first_batch
        if self._options.limit is not None:
            size = min(size, self._options.limit - self._delivery.sent)
        if size > 0 and self._options.may_start(self._took_s or 0.0):
            return size
        self._stopped = "There was no time for it."
        self._delivery.is_out_of_time = True
        self._delivery.pause_beside(self._stopped)
        return 0

    def _authenticate(self) -> None:
        """Get the token before an attempt is noted: its time shows whether there is enough for a todo."""
        before = time.monotonic()
        try:
            self._sender.authenticate()
        except Exception as exc:  # noqa: BLE001 - whatever it is, nothing was sent, and everything is kept
            self._stopped = self._delivery.pause(self._conn_id, exc)
        self._took_s = time.monotonic() - before

    def _represented(self, units: Sequence[Incident]) -> Iterator[Incident]:
        """Return the incidents; of a summary that is not written, those that it was to represent."""
        for unit in units:
            if unit.identity in self._left or unit.number:
                yield unit
            else:
                yield from self._members_of(unit)

    def _members_of(self, summary: Incident) -> list[Incident]:
        return [one for one in self._left.values() if one.summary == summary.identity]

    # What to send

    def _plan(self) -> list[Incident]:
        """Return the incidents to send, with the summaries instead of those that they represent."""
        due: list[Incident] = []
        members: list[Member] = []
        for incident in self._left.values():
            if incident.summary is not None:
                continue  # its summary is among those that wait
            reason, values = self._check(incident)
            if reason is not None:
                self._waits[reason].append(incident)
                continue
            due.append(incident)
            if values and _may_be_grouped(incident, values):
                members.append(Member(incident, values))
        for storm in find_storms(members, above=self._options.group_above):
            summary = summarize(storm)
            self._delivery.tried.add(summary.identity)
            for member in storm:
                self._left[member.incident.identity] = replace(member.incident, summary=summary.identity)
            due = [one for one in due if self._left[one.identity].summary is None]
            due.append(summary)
        return sorted(due, key=lambda one: (one.written_at, one.number))

    def _check(self, incident: Incident) -> tuple[str | None, dict[str, Any] | None]:
        """Return why an incident waits, or its complete fields; neither if it is invalid, so that it is rejected by itself."""
        until = None if self._options.ignore_pauses else _wait_until(incident)
        if until is not None and self._delivery.now < until:
            return f"Not tried before {format_time(until)}, because of attempts without a response.", None
        try:
            return None, self._sender.check(incident.fields)
        except BzCtrlValidationError as exc:
            return self._wait_for_connection(incident, exc), None

    def _wait_for_connection(self, incident: Incident, exc: BzCtrlValidationError) -> str | None:
        """Return why an incident waits that lacks only what a connection supplies, and note it.

        Otherwise one fault of a connection would reject all its incidents.
        """
        lacking = sorted({error.field for error in exc.errors})
        if any(name not in SUPPLIED_FIELDS or is_set(incident.fields.get(name)) for name in lacking):
            return None
        if self._delivery.now - incident.written_at > _SUPPLY_WAIT_DAYS * 86_400:
            return None
        reason = (
            f"Not tried. The todo has no {' and no '.join(lacking)}, and neither has the connection "
            f"{one_line(self._conn_id, max_chars=LINE_CHARS)}: add it there within {_SUPPLY_WAIT_DAYS} days."
        )
        if incident.reason != reason:
            with self._store.transaction() as tx:
                incidents.note_waiting(tx, incident, reason)
        return reason

    # Sending

    def _send(self, batch: list[Incident]) -> None:
        with self._store.transaction() as tx:
            # In one transaction with the note of what is sent next, because each commit is a write to the disk.
            if not self._note_outcomes(tx):
                self._stopped = "Another process delivers."
                self._delivery.keep(list(self._represented(batch)), f"Not tried. {self._stopped}")
                return
            for unit in batch:
                if unit.is_summary and not unit.number:
                    incidents.summarize(tx, unit, self._members_of(unit))
            incidents.note_sending(tx, [unit.identity for unit in batch])
            started_at = tx.now
        before = time.monotonic()
        try:
            outcomes = list(self._sender.create_todos([todo_of(unit) for unit in batch]))
        except Exception as exc:  # noqa: BLE001 - whatever it is, nothing is known about any of them
            outcomes = [exc] * len(batch)
        self._took_s = time.monotonic() - before
        self._delivery.sent += len(batch)
        self._unnoted = [(unit, outcome, started_at) for unit, outcome in zip(batch, outcomes, strict=True)]
        self._pause_if_down(outcomes)

    def _note_outcomes(self, tx: Transaction) -> bool:
        """Note the outcomes of what was sent, and return whether this process still has the lease."""
        is_ours = deliveries.renew_lease(tx, self._delivery.holder, for_s=LEASE_S)
        unnoted, self._unnoted = self._unnoted, []
        created = [(unit, todo) for unit, todo, _ in unnoted if not isinstance(todo, BaseException)]
        if created:
            incidents.note_created(tx, [(unit, todo.key, todo.link) for unit, todo in created])
        for unit, outcome, started_at in unnoted:
            if not isinstance(outcome, BaseException):
                self._report_created(unit, outcome)
            elif is_ours:
                self._note_failure(tx, unit, outcome, started_at)
            else:
                # The process that took over has noted an attempt without a response, and may have created the todo since.
                self._left.pop(unit.identity, None)
                self._delivery.keep([unit], exception_text(outcome) or "")
        return is_ours

    def _note_failure(
        self, tx: Transaction, unit: Incident, outcome: BaseException, started_at: float
    ) -> None:
        self._left.pop(unit.identity, None)
        reason = exception_text(outcome) or ""
        if isinstance(outcome, BzCtrlError) and outcome.is_permanent and outcome.concerns == "todo":
            self._reject(tx, unit, reason)
            return
        is_unknown = getattr(outcome, "outcome_unknown", True)
        unanswered_at = format_time(started_at) if is_unknown else None
        incidents.note_waiting(tx, unit, reason, unanswered_at=unanswered_at)
        self._delivery.keep([unit], reason)

    def _reject(self, tx: Transaction, unit: Incident, reason: str) -> None:
        incidents.note_rejected(tx, unit, reason)
        problems.release(tx, unit.identity)
        for member in self._members_of(unit):
            unanswered = (*member.unanswered, *unit.unanswered)
            self._left[member.identity] = replace(
                member, summary=None, is_single=True, unanswered=unanswered
            )
            self._has_dissolved = True
        self._delivery.reject(unit, reason)

    def _report_created(self, unit: Incident, todo: Any) -> None:
        members = self._members_of(unit) if unit.is_summary else []
        for one in (unit, *members):
            self._left.pop(one.identity, None)
            self._delivery.todos[one.identity] = todo.as_dict()
        self._delivery.result.created.append({"identity": unit.identity, "key": todo.key, "link": todo.link})
        ids = {name: unit.facts[name] for name in ("dag_id", "run_id") if unit.facts.get(name)}
        log.info("%s was created for %s.", todo.key or todo.link, " ".join(ids.values()) or name_of(unit))
        if unit.is_summary:
            count_todos("grouped", todo_type="INCIDENT", number=len(members))
            log.info("%s is the summary of %d incidents.", todo.key or todo.link, len(members))

    def _pause_if_down(self, outcomes: Sequence[Any]) -> None:
        errors = [outcome for outcome in outcomes if isinstance(outcome, Exception)]
        is_any_created = len(errors) < len(outcomes)
        if down := _find_error_of_connection(errors, is_any_created=is_any_created):
            self._stopped = self._delivery.pause(self._conn_id, down)
        elif self._was_paused and is_any_created:
            self._was_paused = False
            with self._store.transaction() as tx:
                deliveries.resume(tx, self._conn_id)


def _may_be_grouped(incident: Incident, values: Mapping[str, Any]) -> bool:
    return not (incident.is_summary or incident.is_single) and values["todo_type"] == "INCIDENT"


def _find_error_of_connection(errors: Sequence[Exception], *, is_any_created: bool) -> Exception | None:
    """Return an error that other todos would have, too; if none was created, one without a response counts as such."""
    found = [exc for exc in errors if getattr(exc, "concerns", "todo") == "connection"]
    if not is_any_created:
        found += [exc for exc in errors if getattr(exc, "outcome_unknown", True)]
    return found[0] if found else None


def name_of(incident: Incident) -> str:
    """Return a name of an incident for a line of a log: what happened, and its identity."""
    facts = (incident.facts.get(name) for name in ("dag_id", "run_id", "file"))
    what = " ".join(filter(None, facts)) or str(incident.fields.get("title") or "")
    return one_line(f"The incident {incident.identity} ({what})", max_chars=LINE_CHARS)


def _wait_until(incident: Incident) -> float | None:
    """Return when an incident may be tried again: each attempt without a response may have made one more duplicate."""
    number = len(incident.unanswered)
    last = parse_time(incident.unanswered[-1]) if number >= _BACKOFF_FROM else None
    if last is None:
        return None
    return last.timestamp() + min(60.0 * 2.0 ** min(number - _BACKOFF_FROM + 1, 10), _BACKOFF_MAX_S)
