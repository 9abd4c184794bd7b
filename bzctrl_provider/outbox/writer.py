"""Writing into the outbox: the decision whether a repeated failure raises an incident, and its row, are one transaction."""

from __future__ import annotations

import logging
from dataclasses import replace
from typing import TYPE_CHECKING, NamedTuple

from sqlalchemy.engine import URL

from bzctrl_provider.metrics import count_todos
from bzctrl_provider.notes import add_note
from bzctrl_provider.outbox.incident import NotRaised, format_time, name_todo, redacted
from bzctrl_provider.repeats import CLAIM_S, Repeats
from bzctrl_provider.store import incidents, problems
from bzctrl_provider.store.database import Database, database

if TYPE_CHECKING:
    from bzctrl_provider.repeats import Problem
    from bzctrl_provider.store.database import Transaction
    from bzctrl_provider.store.incidents import Incident

log = logging.getLogger(__name__)


def write(incident: Incident) -> Incident | NotRaised:
    """Decide whether an incident is raised, and write it once for each identity, in one transaction.

    :param incident: its fields and facts are converted to plain JSON, in which Airflow's secrets are masked.
    :return: as it was written; otherwise why it was not.
    :raises StoreError: if it could not be written. The caller must log the whole payload then.
    """
    incident = redacted(incident)
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
    try:
        return Success(repeats.find_success())
    except Exception as exc:  # noqa: BLE001 - a look-up must not cost an incident
        log.warning("The last success could not be looked up: %s", exc)
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
    key = problems.key_of("window", repeats.key)
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
    key = problems.key_of("success", repeats.key, repeats.pass_key or repeats.source)
    before = problems.lock(tx, key, f"last success of {repeats.pass_key or repeats.source}")
    after = before.after_success(at)
    problems.save(tx, key, replace(after, failed_at=tx.now, until=tx.now + repeats.window_s))
    return before.failed_at is not None and after.success_at != before.success_at
