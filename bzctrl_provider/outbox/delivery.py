"""One delivery at a time: everything that waits, in bulk, with one token for each connection.

The order of the steps makes it safe: note that a batch is being sent (commit), send it, note each outcome (commit). Rows that a
killed delivery leaves as ``sending`` get an attempt without a response, and their todos say that they may be duplicates.
"""

from __future__ import annotations

import logging
import math
import secrets
import time
from collections import defaultdict
from contextlib import closing
from dataclasses import asdict, dataclass, field, replace
from typing import TYPE_CHECKING, Any

from bzctrl_provider.best_effort import exception_text
from bzctrl_provider.exceptions import BzCtrlError, BzCtrlValidationError
from bzctrl_provider.fields import add_duplicate_note
from bzctrl_provider.metrics import count_results, count_todos, gauge_outbox
from bzctrl_provider.outbox.storm import find_storms, label, summarize
from bzctrl_provider.outbox.writer import format_time, is_set
from bzctrl_provider.rules.field_checks import leave_out_of_format
from bzctrl_provider.settings import settings
from bzctrl_provider.store import deliveries, incidents, problems
from bzctrl_provider.text import LINE_CHARS, one_line, parse_time

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from bzctrl_provider.client.todo import CreatedTodo
    from bzctrl_provider.store.database import Database, Transaction
    from bzctrl_provider.store.incidents import Incident

log = logging.getLogger(__name__)

LEASE_S = 60.0
"""After which others deliver, if this process has not renewed its lease."""

PAUSE_S = 60.0
PAUSE_MAX_S = 1800.0

BESIDE = ""
"""The name of the pause of deliveries beside other work; no connection has it."""

CANNOT_BE_USED = " cannot be used at present: "
"""Between the name of a connection and the error, in the reason of its pause."""

SUPPLIED_FIELDS = ("domain_workspace", "reporter")
"""The mandatory fields of a todo that its connection can supply."""
_SUPPLY_WAIT_DAYS = 3
"""How long an incident waits for its connection to supply a field: longer than a weekend. Then it is rejected."""


WORKERS = 8
"""How many todos a delivery sends at a time."""


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


class BzCtrlSender:
    """One connection to BzCtrl, which creates todos.

    :param conn_id: the Airflow connection.
    :param ends_at: the time of ``time.monotonic()`` at which the last request has ended; default: no such time.
    :raises Exception: if the connection is missing or invalid.
    """

    def __init__(self, conn_id: str, *, ends_at: float = math.inf) -> None:
        # Only here: a process that has just written may find that nothing is to be sent.
        from bzctrl_provider.hooks.bzctrl import BzCtrlHook

        self._client = BzCtrlHook(conn_id).get_conn()
        self._ends_at = ends_at

    def fit(self, fields: Mapping[str, Any]) -> dict[str, Any]:
        """Return the fields that the message format of the connection has; a note names the others."""
        return leave_out_of_format(fields, self._client.config.message_format)

    def check(self, fields: Mapping[str, Any]) -> dict[str, Any]:
        """Return the complete and checked fields of a todo.

        :raises BzCtrlValidationError: names every error of the todo.
        """
        from bzctrl_provider.client.todo import complete_todo

        return vars(complete_todo(fields, defaults=self._client.config.defaults))

    def authenticate(self) -> None:
        """Get a token, so that no todo is sent for which there is no time.

        :raises BzCtrlError: why there is none.
        """
        self._client.authenticate(limit_s=self._ends_at - time.monotonic())

    def create_todos(self, todos: Sequence[Mapping[str, Any]]) -> list[CreatedTodo | BzCtrlError]:
        """Create todos, and return for each what was created or why it was not."""
        limit_s = self._ends_at - time.monotonic()
        results = self._client.create_todos(todos, max_workers=WORKERS, limit_s=limit_s)
        count_results(results, todo_types=[todo.get("todo_type") for todo in todos])
        return results

    def close(self) -> None:
        """Close the connections; the token stays with the process."""
        self._client.close()


@dataclass(kw_only=True)
class Delivery:
    """One delivery by the process that has the lease.

    :param store: where the incidents wait.
    :param connect: makes a sender for the id of a connection.
    :param holder: of the lease, which this process has.
    :param bzctrl_conn_id: the connection to create all incidents with; None: that of each.
    :param limit: the most todos to send; None: all.
    :param group_above: more incidents than this become one summary; 0: never; default: the option.
    :param ignore_pauses: whether to try connections that are paused, and incidents that have to wait.
    :param beside: whether the process has other work, and little time: if BzCtrl is too slow for that, only such
        processes keep from it for a while.
    :param batch: how many to send between two notes; beside other work, one at first.
    :param may_start: whether there is time for a batch if the last one, or the token, took so many seconds.
    """

    store: Database
    connect: Callable[[str], BzCtrlSender]
    holder: str = field(default_factory=lambda: secrets.token_hex(16))
    bzctrl_conn_id: str | None = None
    limit: int | None = None
    group_above: int = field(default_factory=lambda: settings().group_above)
    ignore_pauses: bool = False
    beside: bool = False
    batch: int = WORKERS
    may_start: Callable[[float], bool] = lambda _: True
    result: DeliveryResult = field(default_factory=lambda: DeliveryResult(busy=True), init=False)
    todos: dict[str, dict[str, Any]] = field(default_factory=dict, init=False)
    """For the identity of each incident that is delivered, what BzCtrl created."""
    sent: int = field(default=0, init=False)
    now: float = field(default=0.0, init=False)
    """The time of the store when the incidents were listed."""
    is_out_of_time: bool = field(default=False, init=False)
    tried: set[str] = field(default_factory=set, init=False)
    """The identities of incidents and summaries that are not tried again by this delivery."""

    def run(self) -> DeliveryResult:
        """Try each incident that waits once, also those that come meanwhile, and give the lease back.

        :raises StoreError: if the store cannot be used. The lease ends by its time then.
        """
        with self.store.transaction() as tx:
            if not deliveries.lock_lease(tx, self.holder):
                return self.result
            self.result = DeliveryResult()
            # With the lease, because only then nobody is sending the rows that are noted as `sending`.
            self._recover(tx)
            waiting = self._look(tx)
        while waiting:
            by_connection: dict[str, list[Incident]] = defaultdict(list)
            for incident in waiting:
                self.tried.add(incident.identity)
                by_connection[self.bzctrl_conn_id or incident.bzctrl_conn_id].append(incident)
            for conn_id, some in by_connection.items():
                self._deliver(conn_id, some)
            with self.store.transaction() as tx:
                waiting = self._look(tx)
        return self.result

    def _recover(self, tx: Transaction) -> None:
        for incident in incidents.list_of(tx, "sending"):
            reason = "A delivery ended in the middle of an attempt."
            incidents.note_waiting(tx, incident, reason, unanswered_at=format_time(incident.changed_at))
        # After that: a summary that may have been sent has an attempt without a response by now, and stays.
        incidents.dissolve_unsent_summaries(tx)

    def _look(self, tx: Transaction) -> list[Incident]:
        """Return what waits and was not tried yet; if there is nothing, delete what is old and give the lease back."""
        self.now = tx.now
        # Locked before the look: who writes later finds that the lease was given back, and delivers by itself.
        if deliveries.lock_lease(tx, self.holder) and not self.is_out_of_time:
            # Not by the numbers of the rows: a row may get its number long before it can be seen.
            waiting = [one for one in incidents.list_of(tx, "waiting") if one.identity not in self.tried]
            if waiting:
                return waiting
        incidents.prune(tx)
        problems.prune(tx)
        number, oldest = incidents.count(tx, "waiting", "sending")
        gauge_outbox(waiting=number, oldest_s=tx.now - oldest if oldest else 0)
        deliveries.give_lease_back(tx, self.holder)
        return []

    def _deliver(self, conn_id: str, waiting: list[Incident]) -> None:
        with self.store.transaction() as tx:
            pause = deliveries.find_pause(tx, conn_id)
        if pause and self.now < pause.until and not self.ignore_pauses:
            self.keep(waiting, f"Not tried before {format_time(pause.until)}. {pause.reason}")
            return
        try:
            sender = self.connect(conn_id)
        except Exception as exc:  # noqa: BLE001 - a connection that is missing is Airflow's error, not ours
            self.keep(waiting, f"Not tried. {self.pause(conn_id, exc)}")
            return
        with closing(sender):
            _OfConnection(self, conn_id, sender).deliver(waiting)

    def pause(self, conn_id: str, exc: Exception) -> str:
        """Keep everybody from a connection for a while, and return why."""
        why = f"The connection {one_line(conn_id, max_chars=LINE_CHARS)}{CANNOT_BE_USED}{exception_text(exc)}"
        is_permanent = getattr(exc, "is_permanent", True)
        pause_s = getattr(exc, "pause_s", None)
        if self.beside and not is_permanent and pause_s is None:
            self.pause_beside(why)
            return why
        for_s = max(PAUSE_S, pause_s or 0)
        with self.store.transaction() as tx:
            refusals = 0
            if is_permanent and pause_s is not None:
                # Refused credentials: longer each time, because BzCtrl may lock the account; the tenth is past the longest.
                before = deliveries.find_pause(tx, conn_id)
                refusals = min(before.refusals + 1 if before else 1, 10)
                for_s *= 2.0 ** (refusals - 1)
            deliveries.pause(tx, conn_id, for_s=min(for_s, PAUSE_MAX_S), reason=why, refusals=refusals)
        return why

    def pause_beside(self, why: str) -> None:
        """Keep processes with other work from BzCtrl for a while, if this one has: each would wait as long as this one."""
        if self.beside:
            with self.store.transaction() as tx:
                deliveries.pause(tx, BESIDE, for_s=PAUSE_S, reason=why)

    def keep(self, waiting: Sequence[Incident], reason: str) -> None:
        """Report incidents that go on waiting, with one line of the log for all of them."""
        if not waiting:
            return
        stay = f"and {len(waiting) - 1} more stay" if len(waiting) > 1 else "stays"
        log.warning("%s %s in the outbox. %s", _name_of(waiting[0]), stay, reason)
        self.result.kept.extend({"identity": incident.identity, "reason": reason} for incident in waiting)


class _OfConnection:
    """The part of a delivery that uses one connection."""

    def __init__(self, delivery: Delivery, conn_id: str, sender: BzCtrlSender) -> None:
        self._delivery = delivery
        self._conn_id = conn_id
        self._sender = sender
        self._members: dict[str, list[Incident]] = defaultdict(list)
        """For the identity of each summary the incidents that it represents."""
        self._stopped = ""
        """Why nothing more is sent."""
        self._took_s = 0.0
        """The seconds of the last batch, and at first those of the token."""

    def deliver(self, waiting: Sequence[Incident]) -> None:
        """Send what is due, and report what stays."""
        units = self._plan(waiting)
        if units:
            self._authenticate()
        while units and (size := self._next_size()) and self._send(units[:size]):
            units = units[size:]
        left: list[Incident] = []
        for unit in units:
            # Of a summary that is not written, those that it was to represent.
            left += self._members[unit.identity] if _is_new(unit) else [unit]
        self._delivery.keep(left, f"Not tried. {self._stopped}")

    def _authenticate(self) -> None:
        """Get the token before an attempt is noted: its time shows whether there is enough for a todo."""
        before = time.monotonic()
        try:
            self._sender.authenticate()
        except Exception as exc:  # noqa: BLE001 - whatever it is, nothing was sent, and everything is kept
            self._stopped = self._delivery.pause(self._conn_id, exc)
        self._took_s = time.monotonic() - before

    def _next_size(self) -> int:
        """Return how many are sent next; if none, note why."""
        if self._stopped:
            return 0
        # The token may be there already: one todo shows how long a request takes, before many are sent.
        is_first = self._delivery.beside and not self._delivery.sent
        size = 1 if is_first else self._delivery.batch
        if self._delivery.limit is not None:
            size = min(size, self._delivery.limit - self._delivery.sent)
        if size > 0 and self._delivery.may_start(self._took_s):
            return size
        self._stopped = "There was no time for it."
        self._delivery.is_out_of_time = True
        self._delivery.pause_beside(self._stopped)
        return 0

    # What to send

    def _plan(self, waiting: Sequence[Incident]) -> list[Incident]:
        """Return the incidents to send, with the summaries instead of those that they represent."""
        due, complete = self._choose(waiting)
        for storm in find_storms(complete, above=self._delivery.group_above):
            summary = summarize(storm)
            self._delivery.tried.add(summary.identity)
            self._members[summary.identity] = storm
            for member in storm:
                del due[member.identity]
            due[summary.identity] = summary
        return sorted(due.values(), key=lambda one: (one.written_at, one.number))

    def _choose(self, waiting: Sequence[Incident]) -> tuple[dict[str, Incident], list[Incident]]:
        """Return the incidents that are due, by their identities, and with complete fields those that may be grouped."""
        due: dict[str, Incident] = {}
        complete: list[Incident] = []
        later: dict[str, list[Incident]] = defaultdict(list)
        for one in waiting:
            if one.summary is not None:
                self._members[one.summary].append(one)  # the summary is among those that wait
                continue
            incident = replace(one, fields=self._sender.fit(one.fields))
            reason, values = self._check(incident)
            if reason is not None:
                later[reason].append(incident)
                continue
            due[incident.identity] = incident
            may_be_grouped = not incident.is_summary and not incident.is_single
            if may_be_grouped and values and values["todo_type"] == "INCIDENT":
                complete.append(replace(incident, fields=values))
        for reason, some in later.items():
            self._delivery.keep(some, reason)
        return due, complete

    def _check(self, incident: Incident) -> tuple[str | None, dict[str, Any] | None]:
        """Return why an incident waits, or its complete fields; neither if it is invalid, so that it is rejected by itself."""
        until = 0.0 if self._delivery.ignore_pauses else _wait_until(incident)
        if self._delivery.now < until:
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
            with self._delivery.store.transaction() as tx:
                incidents.note_waiting(tx, incident, reason)
        return reason

    # Sending

    def _send(self, batch: list[Incident]) -> bool:
        """Send a batch and note its outcomes; return False if another process has the lease, so that nothing was sent."""
        # Committed before the request: if this process ends in between, the next delivery knows that the todos may exist.
        with self._delivery.store.transaction() as tx:
            if not deliveries.renew_lease(tx, self._delivery.holder, for_s=LEASE_S):
                self._stopped = "Another process delivers."
                return False
            for summary in filter(_is_new, batch):
                incidents.summarize(tx, summary, self._members[summary.identity])
            incidents.note_sending(tx, [unit.identity for unit in batch])
            started_at = tx.now
        todos = [add_duplicate_note(unit.fields, unit.unanswered) for unit in batch]
        before = time.monotonic()
        try:
            outcomes: list[Any] = list(self._sender.create_todos(todos))
        except Exception as exc:  # noqa: BLE001 - whatever it is, nothing is known about any of them
            outcomes = [exc] * len(batch)
        self._took_s = time.monotonic() - before
        self._delivery.sent += len(batch)
        # Before the pause, because until this commit the todos count as possible duplicates.
        self._note_outcomes(list(zip(batch, outcomes, strict=True)), started_at)
        self._pause_if_down(outcomes)
        return True

    def _note_outcomes(self, sent: list[tuple[Incident, Any]], started_at: float) -> None:
        with self._delivery.store.transaction() as tx:
            is_ours = deliveries.renew_lease(tx, self._delivery.holder, for_s=LEASE_S)
            created = [(unit, todo) for unit, todo in sent if not isinstance(todo, BaseException)]
            if created:
                # Also without the lease: the todos exist, and the connection works.
                incidents.note_created(tx, [(unit, todo.key, todo.link) for unit, todo in created])
                deliveries.resume(tx, self._conn_id)
            for unit, outcome in sent:
                if not isinstance(outcome, BaseException):
                    self._report_created(unit, outcome)
                elif is_ours:
                    self._note_failure(tx, unit, outcome, started_at)
                else:
                    # The process that took over has noted an attempt without a response, and may have created the todo since.
                    self._delivery.keep([unit], exception_text(outcome) or "")

    def _note_failure(
        self, tx: Transaction, unit: Incident, outcome: BaseException, started_at: float
    ) -> None:
        reason = exception_text(outcome) or ""
        if isinstance(outcome, BzCtrlError) and outcome.is_permanent and outcome.concerns == "todo":
            incidents.note_rejected(tx, unit, reason)
            problems.release(tx, unit.identity)
            # The incidents of a rejected summary are sent by themselves, in the next round of this delivery.
            self._delivery.tried.difference_update(one.identity for one in self._members[unit.identity])
            log.error("%s was rejected, and is not tried again. %s", _name_of(unit), reason)
            self._delivery.result.rejected.append({"identity": unit.identity, "reason": reason})
            return
        is_unknown = getattr(outcome, "outcome_unknown", True)
        unanswered_at = format_time(started_at) if is_unknown else None
        incidents.note_waiting(tx, unit, reason, unanswered_at=unanswered_at)
        self._delivery.keep([unit], reason)

    def _report_created(self, unit: Incident, todo: Any) -> None:
        members = self._members[unit.identity]
        for one in (unit, *members):
            self._delivery.todos[one.identity] = todo.as_dict()
        self._delivery.result.created.append({"identity": unit.identity, "key": todo.key, "link": todo.link})
        log.info("%s was created for %s.", todo.key or todo.link, label(unit))
        if unit.is_summary:
            count_todos("grouped", todo_type="INCIDENT", number=len(members))
            log.info("%s is the summary of %d incidents.", todo.key or todo.link, len(members))

    def _pause_if_down(self, outcomes: Sequence[Any]) -> None:
        errors = [outcome for outcome in outcomes if isinstance(outcome, Exception)]
        # Other todos would have the same error; if none was created, this holds for one without a response, too.
        down = [exc for exc in errors if getattr(exc, "concerns", "todo") == "connection"]
        if not down and len(errors) == len(outcomes):
            down = [exc for exc in errors if getattr(exc, "outcome_unknown", True)]
        if down:
            self._stopped = self._delivery.pause(self._conn_id, down[0])


def _is_new(unit: Incident) -> bool:
    """Return whether a unit is a summary that is not in the store yet."""
    return unit.is_summary and not unit.number


def _name_of(incident: Incident) -> str:
    return f"The incident {incident.identity} ({label(incident)})"


def _wait_until(incident: Incident) -> float:
    """Return when an incident may be tried again: each attempt without a response may have made one more duplicate."""
    # From the third one on: two minutes at first, and an hour at most.
    doublings = len(incident.unanswered) - 2
    last = parse_time(incident.unanswered[-1]) if doublings > 0 else None
    return last.timestamp() + min(60.0 * 2**doublings, 3600.0) if last else 0.0
