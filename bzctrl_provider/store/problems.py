"""The statements on problems: failures that count as the same."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

from sqlalchemy import delete, or_, select, update

from bzctrl_provider.store import schema
from bzctrl_provider.store.repeats import Problem
from bzctrl_provider.text import plain_text

if TYPE_CHECKING:
    from bzctrl_provider.store.database import Transaction

_KEPT_S = 30 * 86_400.0

_LISTS = ("counted", "occurrences")

_table = schema.problem
_c = _table.c


def find(tx: Transaction, key: str) -> Problem:
    """Return what is known of a problem; nobody is kept from changing it."""
    row = tx.connection.execute(select(_table).where(_c.key == key)).mappings().first()
    return _problem(row) if row else Problem()


def lock(tx: Transaction, key: str, name: str) -> Problem:
    """Return what is known of a problem, and keep others from it until the transaction ends.

    :param name: for people who read the table.
    """
    values = {"key": key, "name": plain_text(name), "changed_at": tx.now, **_values(Problem())}
    return _problem(tx.lock(_table, "key", values))


def save(tx: Transaction, key: str, problem: Problem) -> None:
    """Write what is known of a problem that this transaction has locked."""
    tx.connection.execute(update(_table).where(_c.key == key).values(changed_at=tx.now, **_values(problem)))


def release(tx: Transaction, identity: str) -> None:
    """Let the next failure raise an incident, because this one was not raised."""
    values = {"identity": None, "raised_at": None, "until": None}
    tx.connection.execute(update(_table).where(_c.identity == identity).values(values))


def note_pass(tx: Transaction, key: str) -> None:
    """Note that the checks of a roll-up passed, if they have failed before."""
    tx.connection.execute(update(_table).where(_c.key == key).values(passed_at=tx.now, changed_at=tx.now))


def forget(tx: Transaction, key: str) -> None:
    """Delete a problem."""
    tx.connection.execute(delete(_table).where(_c.key == key))


def prune(tx: Transaction) -> None:
    """Delete problems that have not changed for 30 days, and whose window has ended."""
    is_over = or_(_c.until.is_(None), _c.until < tx.now)
    tx.prune(_c.key, _c.changed_at < tx.now - _KEPT_S, is_over)


def _values(problem: Problem) -> dict[str, Any]:
    lists = {name: json.dumps(getattr(problem, name)) for name in _LISTS}
    return {**vars(problem), **lists}


def _problem(row: Any) -> Problem:
    lists = {name: tuple(json.loads(row[name])) for name in _LISTS}
    return Problem(**{**{name: row[name] for name in Problem.__dataclass_fields__}, **lists})
