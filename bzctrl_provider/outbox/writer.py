"""Writing into the outbox: the decision whether a repeated failure raises an incident, and its row, are one transaction."""

from __future__ import annotations

import logging
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, NamedTuple

from sqlalchemy.engine import URL

from bzctrl_provider.metrics import count_todos
from bzctrl_provider.notes import add_note
from bzctrl_provider.outbox.incident import format_time, redacted
from bzctrl_provider.repeats import CLAIM_S
from bzctrl_provider.store import incidents, problems
from bzctrl_provider.store.database import Database, database

if TYPE_CHECKING:
    from collections.abc import Callable

    from bzctrl_provider.repeats import Problem
    from bzctrl_provider.store.database import Transaction
    from bzctrl_provider.store.incidents import Incident

log = logging.getLogger(__name__)


@dataclass(frozen=True, kw_only=True)
class Repeats:
    """The rules for a failure that may repeat.

    :param key: the same for failures that count as the same.
    :param occurrence: the name of this failure among those in a row, such as the ids of DAG and run.
    :param window_s: the seconds for which one incident represents the others; 0 for none.
    :param consecutive_failures: how many failures in a row raise an incident.
    :param find_success: returns when the last success before this failure was, by the clock of its source, or None. It may ask
        Airflow, and is called before the transaction. If it raises an error, the window counts as ended.
    :param source: names what has these successes. Several may share one key, and each success is compared with the earlier ones
        of the same source only: a success of another one may be newer and nevertheless be older than the first failure.
    :param pass_key: of the problem that has the last pass of a roll-up, in place of ``find_success`` and ``source``.
    """

    key: str
    occurrence: str
    window_s: float = 0
    consecutive_failures: int = 1
    find_success: Callable[[], float | None] | None = None
    source: str = ""
    pass_key: str | None = None


class Verdict(NamedTuple):
    """The decision about one failure.

    :param wait: why no incident is raised yet, such as ``failure 2 of 3 in a row``; empty otherwise.
    :param first: the incident that represents this failure; None if it raises one of its own.
    :param note: a sentence for its description about failures before it; empty if there were none.
    """

    wait: str = ""
    first: Incident | None = None
    note: str = ""


@dataclass(frozen=True)
class Written:
    """The result of writing an incident.

    :param incident: as it is in the store; if it was not raised, the one that represents it.
    :param is_new: whether it was written now.
    :param verdict: the decision.
    """

    incident: Incident | None
    is_new: bool
    verdict: Verdict


def write(incident: Incident, *, repeats: Repeats | None = None, forget: str | None = None) -> Written:
    """Decide whether an incident is raised, and write it once for each identity, in one transaction.

    :param incident: its fields and facts are converted to plain JSON, in which Airflow's secrets are masked.
    :param repeats: see ``Repeats``; default: it is raised in any case.
    :param forget: the key of a problem that ends with this incident, such as the count of silenced failures.
    :raises StoreError: if it could not be written. The caller must log the whole payload then.
    """
    incident = redacted(incident)
    success = _find_success(repeats)
    with database().transaction() as tx:
        verdict = judge(tx, repeats, incident.identity, success) if repeats else Verdict()
        if verdict.wait or verdict.first:
            return Written(verdict.first, is_new=False, verdict=verdict)
        if verdict.note:
            incident = replace(incident, fields=add_note(incident.fields, verdict.note))
        known = incidents.add(tx, incident)
        if known is None and forget:
            problems.forget(tx, forget)
    if known is None:
        count_todos("queued", todo_type=incident.fields.get("todo_type"))
    return Written(known or incident, is_new=known is None, verdict=verdict)


def rehearse() -> None:
    """Write an incident into a database in memory: processes that are forked from this one need less time for their first write."""
    incident = incidents.Incident(identity="", bzctrl_conn_id="", fields={"title": "", "financial_impact": 1})
    with Database(URL.create("sqlite")).transaction() as tx:
        judge(tx, Repeats(key="", occurrence="", window_s=1), "", _Success())
        incidents.add(tx, redacted(replace(incident, facts={"reason": "a failure"})))


def claim(identity: str, repeats: Repeats) -> Verdict:
    """Decide whether a task raises an incident, which others do not raise from now on.

    The task notes afterwards that it created the incident, or releases it.

    :raises StoreError: if the store cannot be used.
    """
    success = _find_success(repeats)
    with database().transaction() as tx:
        return judge(tx, repeats, identity, success)


def note_created(incident: Incident, *, key: str | None, link: str | None, forget: str | None = None) -> None:
    """Note the todo of an incident that a task has created.

    :raises StoreError: if the store cannot be used.
    """
    with database().transaction() as tx:
        incidents.add(tx, redacted(incident))
        incidents.note_created(tx, [(incident, key, link)])
        if forget:
            problems.forget(tx, forget)


def release(identity: str) -> None:
    """Let the next failure raise an incident, because a task could not create this one.

    :raises StoreError: if the store cannot be used.
    """
    with database().transaction() as tx:
        problems.release(tx, identity)


class _Success(NamedTuple):
    at: float | None = None
    is_known: bool = True


def _find_success(repeats: Repeats | None) -> _Success:
    if repeats is None or repeats.find_success is None:
        return _Success()
    try:
        return _Success(repeats.find_success())
    except Exception as exc:  # noqa: BLE001 - a look-up must not cost an incident
        log.warning("The last success could not be looked up: %s", exc)
        return _Success(is_known=False)


def judge(tx: Transaction, repeats: Repeats, identity: str, success: _Success) -> Verdict:
    """Count a failure, and decide whether it raises an incident."""
    key = problems.key_of("window", repeats.key)
    problem = problems.lock(tx, key, repeats.key)
    if success.is_known and _has_succeeded(tx, repeats, success.at):
        problem = problem.ended()
    problem = problem.with_failure(repeats.occurrence, now=tx.now)
    if problem.in_a_row < repeats.consecutive_failures:
        problems.save(tx, key, problem)
        return Verdict(wait=f"failure {problem.in_a_row} of {repeats.consecutive_failures} in a row")
    verdict = Verdict()
    # The same failure again: a retry, or a callback that is called twice.
    if repeats.window_s and problem.identity != identity:
        problem, verdict = _judge_window(tx, problem, identity, repeats.window_s, is_known=success.is_known)
    problems.save(tx, key, problem)
    return verdict


def _judge_window(
    tx: Transaction, problem: Problem, identity: str, window_s: float, *, is_known: bool
) -> tuple[Problem, Verdict]:
    """Decide whether an incident represents a failure, or a new window begins with it."""
    first = incidents.find(tx, problem.identity or "")
    is_open = first is not None or (problem.raised_at or 0) > tx.now - CLAIM_S
    if is_known and is_open and problem.is_represented(now=tx.now, window_s=window_s):
        return problem.with_represented(identity), Verdict(first=first or _announced(problem.identity))
    note = _describe_window(problem, first)
    return problem.with_incident(identity, now=tx.now, window_s=window_s), Verdict(note=note)


def _describe_window(problem: Problem, first: Incident | None) -> str:
    """Return a sentence about a window that has ended; empty if its incident represented no other failure."""
    if problem.count <= 1 or not problem.raised_at:
        return ""
    name = (first and first.key) or "the first incident"
    return f"Seen {problem.count} times since {format_time(problem.raised_at)}, when {name} was raised."


def _has_succeeded(tx: Transaction, repeats: Repeats, at: float | None) -> bool:
    """Return whether the source of a failure has succeeded since it failed before; note its last success."""
    if repeats.pass_key:
        at = problems.find(tx, repeats.pass_key).passed_at
    key = problems.key_of("success", repeats.key, repeats.pass_key or repeats.source)
    before = problems.lock(tx, key, f"last success of {repeats.pass_key or repeats.source}")
    after = before.after_success(at)
    problems.save(tx, key, replace(after, failed_at=tx.now, until=tx.now + repeats.window_s))
    return before.failed_at is not None and after.success_at != before.success_at


def _announced(identity: str | None) -> Incident:
    """Return an incident that a task has announced, and that is not in the store yet."""
    return incidents.Incident(identity=identity or "", bzctrl_conn_id="", fields={})
