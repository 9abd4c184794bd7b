"""Write an incident into the outbox: without secrets, and with the decision about a repeated failure in one transaction.

A task that creates its todo itself announces it before, and notes or releases it afterwards; if the store cannot be used, the
todo is created: one too many is better than one too few. An incident that could not be raised is put into the outbox, and as
the last resort logged with all of its fields.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Mapping
from dataclasses import dataclass, replace
from datetime import UTC, date, datetime
from decimal import Decimal
from enum import Enum
from numbers import Number
from typing import TYPE_CHECKING, Any, Literal, NamedTuple

from airflow.providers.common.compat.sdk import redact
from sqlalchemy.engine import URL

from bzctrl_provider.best_effort import best_effort, exception_text
from bzctrl_provider.fields import add_note
from bzctrl_provider.metrics import count_todos
from bzctrl_provider.store import incidents, problems
from bzctrl_provider.store.database import Database, database
from bzctrl_provider.store.repeats import CLAIM_S, Repeats
from bzctrl_provider.text import DIGITS_MAX, digest_of, json_line, plain_text, safe_repr, web_address

if TYPE_CHECKING:
    from bzctrl_provider.store.database import Transaction
    from bzctrl_provider.store.incidents import Incident
    from bzctrl_provider.store.repeats import Problem

log = logging.getLogger(__name__)

Outcome = Literal["dismissed", "covered", "ignored", "silenced", "counted", "represented", "known", "tested"]


@dataclass(frozen=True, kw_only=True)
class NotRaised:
    """The decision that no incident is raised for a failure.

    :param outcome: why, in one word: it is ``dismissed`` because nothing has failed, a roll-up has ``covered`` the failure, a route has ``ignored`` it,
        it is ``silenced``, it is ``counted`` until there are enough in a row, it is ``represented`` by the incident of an earlier
        one, it is ``known`` because this is the second call for it, or it is ``tested``.
    :param why: the same in words, which name what it is about.
    :param first: the incident of a failure that is ``represented`` or ``known``.
    """

    outcome: Outcome
    why: str
    first: Incident | None = None

    def __str__(self) -> str:
        return f"No incident: {self.why}."


def name_todo(incident: Incident) -> str:
    """Return how people find the todo of an incident: its key and its address, before it is created its identity."""
    link = web_address(incident.link)
    if incident.key and link:
        return f"{incident.key} ({link})"
    return link or incident.key or f"the incident {incident.identity}"


def identify(*parts: object) -> str:
    """Return the identity of an incident: equal parts give the same one, in every process and on every machine.

    :param parts: the texts that together identify the incident, for example the ids of connection, DAG, run and task,
        the map index, the generation of tries and the identity of the notifier.
    :return: 32 hexadecimal digits, such as ``6f1ed002ab5595859014ebf0951522d9``.
    """
    return digest_of(*parts)[:32]


def redacted(incident: Incident) -> Incident:
    """Return an incident with plain JSON as its fields, and with what Airflow masks masked."""
    todo = {str(name): _plain(value) for name, value in incident.fields.items()}
    # Once more as a whole: Airflow also masks by name, such as the value of "password".
    fields: Any = redact({name: value for name, value in todo.items() if is_set(value)})
    return replace(
        incident,
        fields=fields,
        bzctrl_conn_id=plain_text(str(redact(incident.bzctrl_conn_id))),
        reason=exception_text(incident.reason) or "",
        facts={name: exception_text(value) or "" for name, value in incident.facts.items() if value},
    )


def format_time(seconds: float) -> str:
    """Return seconds since 1970 as a time in UTC, such as ``2026-11-21T19:15:00Z``."""
    return datetime.fromtimestamp(seconds, UTC).strftime("%Y-%m-%dT%H:%M:%SZ")


def is_set(value: Any) -> bool:
    """Return whether a field has a value: neither None nor blank text nor an empty list."""
    return bool(value.strip()) if isinstance(value, str) else value is not None and value != []


def _plain(value: Any) -> Any:
    """Return a value as plain JSON, with what Airflow masks masked."""
    if isinstance(value, Enum):
        return _plain(value.value)
    if isinstance(value, bool | None):
        return value
    if isinstance(value, list | tuple | set | frozenset):
        return [_plain(item) for item in value]
    if isinstance(value, Mapping):
        return {str(key): _plain(item) for key, item in value.items()}
    text = _text(value)
    masked = str(redact(text))
    # JSON has no other numbers.
    is_number = isinstance(value, int | float) and abs(value) < 10**DIGITS_MAX
    return value if is_number and masked == text else masked


def _text(value: Any) -> str:
    if isinstance(value, date):
        return value.isoformat()
    if isinstance(value, int) and abs(value) >= 10**DIGITS_MAX:
        return hex(value)  # Python writes no decimal of so many digits
    if isinstance(value, Decimal) and value.is_finite() and abs(value.adjusted()) <= DIGITS_MAX:
        return f"{value:f}"  # without the exponent, as a todo writes it
    # No object's own text: it may hold a secret, and a todo takes none anyway.
    return str(value) if isinstance(value, str | int | float | Number) else safe_repr(value)


def write(incident: Incident) -> Incident | NotRaised:
    """Decide whether an incident is raised, and write it once for each identity, in one transaction.

    :param incident: its fields and facts are converted to plain JSON, in which Airflow's secrets are masked.
    :return: as it was written; otherwise why it was not.
    :raises StoreError: if it could not be written. The caller must log the whole payload then.
    """
    incident = redacted(incident)
    # Before the transaction, because it may ask Airflow, and others wait for the lock of the problem meanwhile.
    success = _find_success(incident.repeats)
    with database().transaction() as tx:
        decision = add(tx, incident, success)
    if not isinstance(decision, NotRaised):
        count_todos("queued", todo_type=incident.fields.get("todo_type"))
    return decision


def add(tx: Transaction, incident: Incident, success: Success | None = None) -> Incident | NotRaised:
    """Do the same in a transaction that has begun.

    :param incident: as ``redacted`` returns it.
    :param success: the last success before the failure.
    """
    decision = judge(tx, incident, success or Success())
    if isinstance(decision, NotRaised):
        return decision
    # In the transaction of the count: both are written, or neither, so that a second call decides as the first did.
    if known := incidents.add(tx, decision):
        state = "was created for it" if known.key or known.link else "waits in the outbox for it"
        return NotRaised(outcome="known", why=f"{name_todo(known)} {state} already", first=known)
    if incident.forget:
        problems.forget(tx, incident.forget)
    return decision


def rehearse() -> None:
    """Write an incident into a database in memory: processes that are forked from this one need less time for their first write."""
    repeats = Repeats(key="", occurrence="", window_s=1)
    fields = {"title": "", "financial_impact": 1}
    incident = incidents.Incident(identity="", bzctrl_conn_id="", fields=fields, repeats=repeats)
    with Database(URL.create("sqlite")).transaction() as tx:
        add(tx, redacted(replace(incident, facts={"reason": "a failure"})))


def claim(incident: Incident, *, is_counted: bool = True) -> Incident | NotRaised:
    """Decide whether a task raises an incident, which others do not raise from now on.

    The task notes afterwards that it created the incident, or releases it.

    :param is_counted: whether the failure has happened; otherwise nothing is written.
    :raises StoreError: if the store cannot be used.
    """
    if incident.repeats is None:
        return incident
    success = _find_success(incident.repeats)
    with database().transaction() as tx:
        return judge(tx, incident, success, is_counted=is_counted)


class Success(NamedTuple):
    """The last success before a failure.

    :param at: its time, by the clock of its source; None if there was none.
    :param is_known: whether it could be looked up.
    """

    at: float | None = None
    is_known: bool = True


def _find_success(repeats: Repeats | None) -> Success:
    if repeats is None or repeats.find_success is None:
        return Success()
    with best_effort("the look-up of the last success, so the window counts as ended"):
        return Success(repeats.find_success())
    return Success(is_known=False)


def judge(
    tx: Transaction, incident: Incident, success: Success, *, is_counted: bool = True
) -> Incident | NotRaised:
    """Count a failure, and decide whether it raises an incident, which may get a note about failures before it.

    :param is_counted: whether the failure has happened; otherwise nothing is written.
    """
    repeats = incident.repeats
    if repeats is None:
        return incident
    key = digest_of("window", repeats.key)
    # Locked first, so that failures at the same moment are counted one after the other, each with what the one before wrote.
    problem = problems.lock(tx, key, repeats.key) if is_counted else problems.find(tx, key)
    if success.is_known and is_counted and _has_succeeded(tx, repeats, success.at):
        problem = problem.ended()
    problem = problem.with_failure(repeats.occurrence, now=tx.now)
    decision: Incident | NotRaised = incident
    if problem.in_a_row < repeats.consecutive_failures:
        count = f"failure {problem.in_a_row} of {repeats.consecutive_failures} in a row"
        decision = NotRaised(outcome="counted", why=count)
    # Not for the same failure again: a retry, or a callback that is called twice.
    elif repeats.window_s and problem.identity != incident.identity:
        problem, decision = _judge_window(tx, problem, incident, repeats.window_s, is_known=success.is_known)
    if is_counted:
        problems.save(tx, key, problem)
    return decision


def _judge_window(
    tx: Transaction, problem: Problem, incident: Incident, window_s: float, *, is_known: bool
) -> tuple[Problem, Incident | NotRaised]:
    """Decide whether an incident represents a failure, or a new window begins with it."""
    identity, raised_at = problem.identity or "", problem.raised_at or 0.0
    first = incidents.find(tx, identity)
    # An incident that a task has announced is not in the store yet.
    is_open = first is not None or raised_at > tx.now - CLAIM_S
    if is_known and is_open and problem.is_represented(now=tx.now, window_s=window_s):
        first = first or incidents.Incident(identity=identity, bzctrl_conn_id="", fields={})
        since, until = format_time(raised_at), format_time(raised_at + window_s)
        why = f"{name_todo(first)} is open for the same failure since {since}, until {until}"
        represented = NotRaised(outcome="represented", why=why, first=first)
        return problem.with_represented(incident.identity), represented
    if note := _describe_window(problem, first):
        incident = replace(incident, fields=add_note(incident.fields, note))
    return problem.with_incident(incident.identity, now=tx.now, window_s=window_s), incident


def _describe_window(problem: Problem, first: Incident | None) -> str:
    """Return a sentence about a window that has ended; empty if its incident represented no other failure."""
    if problem.count <= 1 or not problem.raised_at:
        return ""
    name = (first and first.key) or "the first incident"
    return f"Seen {problem.count} times since {format_time(problem.raised_at)}, when {name} was raised."


def _has_succeeded(tx: Transaction, repeats: Repeats, at: float | None) -> bool:
    """Return whether the source of a failure has succeeded since it failed before; note its last success."""
    if repeats.pass_key:
        # Locked, and so written: a pass is noted only where a failure was.
        at = problems.lock(tx, repeats.pass_key, f"passes of {repeats.source}").passed_at
    key = digest_of("success", repeats.key, repeats.pass_key or repeats.source)
    before = problems.lock(tx, key, f"last success of {repeats.pass_key or repeats.source}")
    is_newer = at is not None and (before.success_at is None or at > before.success_at)
    after = replace(before, failed_at=tx.now, until=tx.now + repeats.window_s)
    problems.save(tx, key, replace(after, success_at=at) if is_newer else after)
    return is_newer and before.failed_at is not None


def announce(incident: Incident) -> Incident | NotRaised:
    """Decide whether a todo is created, by what the store remembers."""
    with best_effort("the memory of failures, so a todo is created"):
        return claim(incident)
    return incident


def note_created(incident: Incident, created: Mapping[str, Any]) -> None:
    """Note a todo for further failures."""
    if incident.repeats is None and incident.forget is None:
        return
    with best_effort("the note of the todo for further failures"), database().transaction() as tx:
        incidents.add(tx, redacted(incident))
        incidents.note_created(tx, [(incident, created.get("key"), created.get("link"))])
        if incident.forget:
            problems.forget(tx, incident.forget)


def release(incident: Incident) -> None:
    """Let the next failure create a todo, because this one was not created."""
    if incident.repeats is not None:
        with best_effort("the release of the window"), database().transaction() as tx:
            problems.release(tx, incident.identity)


def note_pass(key: str | None) -> None:
    """Note that the checks before a roll-up passed, if they have failed before.

    :param key: of the problem that has the passes.
    """
    with best_effort("the note of passed checks"), database().transaction() as tx:
        problems.note_pass(tx, key or "")


def as_dict(incident: Incident) -> dict[str, Any]:
    """Return a todo as ``CreatedTodo.as_dict()``, as far as it is known before it is created."""
    texts = {name: incident.fields.get(name) for name in ("title", "todo_type", "description")}
    return {"key": incident.key, "link": incident.link, **texts, "tags": []}


def queue_incident(incident: Incident, exc: Exception) -> bool:
    """Put an incident that could not be created into the outbox; return whether that was possible.

    :param exc: why it was not created.
    """
    # Another error than ours comes before any request, such as Airflow's for a missing connection.
    is_unknown = getattr(exc, "outcome_unknown", False)
    times = (format_time(time.time()),) if is_unknown else ()
    with best_effort("the outbox for the incident", level=logging.ERROR):
        why = str(exc) or type(exc).__name__
        # Without its rules for repeats: by them it was decided before, that it is raised.
        write(replace(incident, reason=why, unanswered=times, repeats=None))
        log.error(
            "BzCtrl did not take the incident, which waits in the outbox as %s and is created from there. %s",
            incident.identity,
            exc,
        )
        return True
    return False


def log_incident(fields: Mapping[str, Any]) -> None:
    """Log the fields of an incident that was not created, so that a person can create it."""
    log.error(
        "No incident was raised in BzCtrl; the next error says why. It would have been: %s",
        format_fields(fields),
    )


def format_fields(fields: Mapping[str, Any]) -> str:
    """Return the set fields of a todo as JSON on one line, in which Airflow's secrets are masked."""
    payload = {name: value for name, value in fields.items() if not isinstance(value, str | None) or value}
    # A template may have put a connection's password into a text. Value by value, because JSON writes some characters
    # of a password in another way; and as a whole, for texts in lists.
    return str(redact(json_line(redact(payload))))
