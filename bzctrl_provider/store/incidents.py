"""The statements on incidents: a todo waits, is being sent, and was delivered or rejected."""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Literal

from sqlalchemy import bindparam, delete, func, or_, select, update

from bzctrl_provider.store import schema
from bzctrl_provider.store.database import PARAMETERS
from bzctrl_provider.text import LIST_ITEMS

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

    from bzctrl_provider.store.database import Transaction
    from bzctrl_provider.store.repeats import Repeats

State = Literal["waiting", "sending", "delivered", "rejected"]

_KEPT_S = 7 * 86_400.0
"""How long a delivered incident is known: Airflow may call a callback again."""

_table = schema.incident
_c = _table.c

_RENAMED = {"conn_id": "bzctrl_conn_id", "todo_key": "key", "todo_link": "link", "id": "number"}
"""The attributes of an incident that are called otherwise than their columns."""

_COLUMNS = {_RENAMED.get(column.name, column.name): column.name for column in _c}
"""For each attribute the column."""

_JSON = ("fields", "facts", "unanswered")


@dataclass(frozen=True, kw_only=True)
class Incident:
    """One todo of the store.

    :param identity: the same for the same failure in each process, see ``bzctrl_provider.outbox.identify``.
    :param bzctrl_conn_id: the connection to create it with.
    :param fields: the fields of the todo as plain JSON, as in ``CreateTodoOperator``.
    :param facts: for the summary of a storm: ``dag_id``, ``run_id``, ``run_url``, ``reason`` (one line) and ``what`` (``run``,
        ``task``, ``deadline`` or ``import``, which has ``file`` instead of the ids).
    :param state: ``waiting``, ``sending``, ``delivered`` or ``rejected``.
    :param reason: why it waits or was rejected; empty if nobody has tried.
    :param unanswered: the times in UTC of the last attempts whose outcome is unknown.
    :param summary: the identity of the summary that represents it; None if there is none.
    :param is_summary: whether it represents others.
    :param is_single: whether it is left out of summaries, because the one that had it was rejected.
    :param key: of the created todo.
    :param link: of the created todo.
    :param written_at: when it was written, in seconds since 1970.
    :param changed_at: when its row was last written, in seconds since 1970.
    :param number: of its row; 0 before it is written.
    :param repeats: the rules for a failure that may repeat; None if it is raised in any case. Not in its row.
    :param forget: the key of a problem that ends with it, such as the count of silenced failures. Not in its row.
    """

    identity: str
    bzctrl_conn_id: str
    fields: Mapping[str, Any]
    facts: Mapping[str, str] = field(default_factory=dict)
    state: State = "waiting"
    reason: str = ""
    unanswered: tuple[str, ...] = ()
    summary: str | None = None
    is_summary: bool = False
    is_single: bool = False
    key: str | None = None
    link: str | None = None
    written_at: float = 0.0
    changed_at: float = 0.0
    number: int = 0
    repeats: Repeats | None = None
    forget: str | None = None


def find(tx: Transaction, identity: str) -> Incident | None:
    """Return an incident by its identity."""
    row = tx.connection.execute(select(_table).where(_c.identity == identity)).mappings().first()
    return _incident(row) if row else None


def add(tx: Transaction, incident: Incident) -> Incident | None:
    """Write an incident unless its identity is known; return the known one, or None if it was written."""
    given = {column: getattr(incident, name) for name, column in _COLUMNS.items() if name != "number"}
    times = {"written_at": incident.written_at or tx.now, "changed_at": tx.now}
    values = {**given, **{name: json.dumps(given[name]) for name in _JSON}, **times}
    return None if tx.insert(_table, values) else find(tx, incident.identity)


def list_of(tx: Transaction, *states: State, limit: int | None = None) -> list[Incident]:
    """Return the incidents in some states, the oldest first."""
    query = select(_table).where(_c.state.in_(states)).order_by(_c.written_at, _c.id).limit(limit)
    return [_incident(row) for row in tx.connection.execute(query).mappings()]


def count(tx: Transaction, *states: State) -> tuple[int, float | None]:
    """Return how many incidents are in some states, and when the oldest was written; without summaries."""
    return tx.count_rows(_c.written_at, _c.state.in_(states), _c.is_summary.is_(False))


def waiting_conn_ids(tx: Transaction) -> set[str]:
    """Return the connections of all that waits."""
    return set(tx.connection.scalars(select(_c.conn_id).where(_c.state == "waiting").distinct()))


def note_sending(tx: Transaction, identities: Iterable[str]) -> None:
    """Note that incidents are about to be sent: from here on, a killed process leaves possible duplicates."""
    _change(tx, _c.identity.in_(list(identities)), state="sending")


def note_created(tx: Transaction, todos: Iterable[tuple[Incident, str | None, str | None]]) -> None:
    """Note the todos of incidents; of a summary, also as that of all that it represents.

    :param todos: at least one; each incident with the key and the link of its todo.
    """
    rows = [{"of": incident.identity, "todo_key": key, "todo_link": link} for incident, key, link in todos]
    is_of = or_(_c.identity == bindparam("of"), _c.summary == bindparam("of"))
    values = {"state": "delivered", "reason": "", "changed_at": tx.now}
    # One statement for all, because the time of a batch's notes is added to that of its requests.
    tx.connection.execute(update(_table).where(is_of).values(values), rows)


def note_rejected(tx: Transaction, incident: Incident, reason: str) -> None:
    """Note that an incident is not sent again; those that it represents are sent by themselves."""
    _change(tx, _c.identity == incident.identity, state="rejected", reason=reason)
    if incident.is_summary:
        _dissolve(tx, incident, is_single=True)


def note_waiting(
    tx: Transaction, incident: Incident, reason: str, *, unanswered_at: str | None = None
) -> None:
    """Note why an incident goes on waiting, and the time of an attempt whose outcome is unknown.

    It keeps the times of the last 20, so that the description of its todo does not grow for ever.
    """
    times = incident.unanswered if unanswered_at is None else (*incident.unanswered, unanswered_at)
    values = {"reason": reason, "unanswered": json.dumps(times[-LIST_ITEMS:])}
    _change(tx, _c.identity == incident.identity, state="waiting", **values)


def summarize(tx: Transaction, summary: Incident, members: Sequence[Incident]) -> None:
    """Write a summary, and that it represents its members: in one transaction, so that each is sent either by it or by itself."""
    add(tx, summary)
    for start in range(0, len(members), PARAMETERS):
        some = [member.identity for member in members[start : start + PARAMETERS]]
        _change(tx, _c.identity.in_(some), summary=summary.identity)


def dissolve_unsent_summaries(tx: Transaction) -> None:
    """Delete summaries that were certainly not sent: more incidents may have come, which belong into them."""
    query = select(_c.identity).where(_c.state == "waiting", _c.is_summary.is_(True), _c.unanswered == "[]")
    if unsent := list(tx.connection.scalars(query)):
        _change(tx, _c.summary.in_(unsent), summary=None)
        tx.connection.execute(delete(_table).where(_c.identity.in_(unsent)))


def discard(tx: Transaction, identity: str) -> bool:
    """Delete an incident that waits or was rejected; return whether there was one."""
    incident = find(tx, identity)
    query = delete(_table).where(_c.identity == identity, _c.state.in_(["waiting", "rejected"]))
    is_deleted = bool(tx.connection.execute(query).rowcount)
    if incident and is_deleted:
        _dissolve(tx, incident)
    return is_deleted


def prune(tx: Transaction) -> None:
    """Delete what was delivered more than 7 days ago, unless it represents further failures."""
    # A value for each row, and no join: PostgreSQL believes that no window ends after those that it has last counted, and compares
    # each row with each open window, which took longer than a statement may.
    problem = schema.problem.c
    until = select(func.max(problem.until)).where(problem.identity == _c.identity).scalar_subquery()
    is_over = func.coalesce(until, 0) <= tx.now
    tx.prune(_c.id, _c.state == "delivered", _c.changed_at < tx.now - _KEPT_S, is_over)


def _dissolve(tx: Transaction, summary: Incident, **values: Any) -> None:
    """Let what a summary represents be sent otherwise; an attempt of the summary without a response was one of each."""
    for row in tx.connection.execute(select(_table).where(_c.summary == summary.identity)).mappings().all():
        times = json.dumps([*json.loads(row["unanswered"]), *summary.unanswered])
        _change(tx, _c.id == row["id"], summary=None, unanswered=times, **values)


def _change(tx: Transaction, where: Any, **values: Any) -> None:
    tx.connection.execute(update(_table).where(where).values(changed_at=tx.now, **values))


def _incident(row: Mapping[Any, Any]) -> Incident:
    values = {name: row[column] for name, column in _COLUMNS.items()}
    values |= {name: json.loads(values[name]) for name in _JSON}
    return Incident(**{**values, "unanswered": tuple(values["unanswered"])})
