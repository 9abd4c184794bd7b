"""The statements on the delivery: who delivers, and which connections are not used for a while."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, NamedTuple

from sqlalchemy import delete, select, update

from bzctrl_provider.store import schema
from bzctrl_provider.text import digest_of

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from bzctrl_provider.store.database import Transaction

_NAME = "delivery"

_lease = schema.lease
_pause = schema.connection_state


class Pause(NamedTuple):
    """The time in which a connection is not used, and its reason.

    :param until: in seconds since 1970, by the database's clock.
    :param reason: the error that led to it.
    :param refusals: how often in a row BzCtrl has refused its credentials.
    """

    until: float
    reason: str
    refusals: int


def take_lease(tx: Transaction, holder: str, *, for_s: float) -> bool:
    """Become the only deliverer, unless another process is; return whether this one is.

    :param holder: a text that no other process has.
    :param for_s: the seconds after which others may take the lease, unless it is renewed.
    """
    row = _lock_lease(tx)
    if row["holder"] not in (None, holder) and row["until"] > tx.now:
        return False
    _write_lease(tx, holder=holder, until=tx.now + for_s, began_at=tx.now)
    return True


def renew_lease(tx: Transaction, holder: str, *, for_s: float) -> bool:
    """Keep the lease for longer; return False if another process has taken it."""
    return _write_lease(tx, _lease.c.holder == holder, until=tx.now + for_s)


def lock_lease(tx: Transaction, holder: str) -> bool:
    """Keep others from looking at the lease until the transaction ends; return whether this process has it."""
    return bool(_lock_lease(tx)["holder"] == holder)


def give_lease_back(tx: Transaction, holder: str) -> None:
    """Let others deliver, if this process has the lease."""
    _write_lease(tx, _lease.c.holder == holder, holder=None)


def note_scheduled(tx: Transaction) -> None:
    """Note that the delivery DAG is at work."""
    _lock_lease(tx)
    _write_lease(tx, scheduled_at=tx.now)


def find_deliveries(tx: Transaction) -> tuple[float, float]:
    """Return when any delivery last began, and when one of the delivery DAG did, in seconds since 1970; 0 for never."""
    query = select(_lease.c.began_at, _lease.c.scheduled_at).where(_lease.c.name == _NAME)
    row = tx.connection.execute(query).first()
    return (row.began_at, row.scheduled_at) if row else (0.0, 0.0)


def find_pause(tx: Transaction, name: str) -> Pause | None:
    """Return the last pause of a connection, which may be over."""
    query = select(_pause.c.until, _pause.c.reason, _pause.c.refusals).where(_pause.c.key == digest_of(name))
    row = tx.connection.execute(query).first()
    return Pause(*row) if row else None


def find_usable(tx: Transaction, names: Iterable[str]) -> set[str]:
    """Return the connections among some that are not paused now."""
    paused = set(tx.connection.scalars(select(_pause.c.key).where(_pause.c.until > tx.now)))
    return {name for name in names if digest_of(name) not in paused}


def pause(tx: Transaction, name: str, *, for_s: float, reason: str, refusals: int = 0) -> None:
    """Keep everybody from using a connection for a while."""
    values = {"key": digest_of(name), "until": tx.now + for_s, "reason": reason, "refusals": refusals}
    tx.write(_pause, "key", values)


def resume(tx: Transaction, name: str) -> None:
    """Forget the pause of a connection, because it has worked."""
    tx.connection.execute(delete(_pause).where(_pause.c.key == digest_of(name)))


def _lock_lease(tx: Transaction) -> Mapping[Any, Any]:
    first = {"name": _NAME, "holder": None, "until": 0.0, "began_at": 0.0, "scheduled_at": 0.0}
    return tx.lock(_lease, "name", first)


def _write_lease(tx: Transaction, *conditions: Any, **values: float | str | None) -> bool:
    """Write values into the lease, if the conditions hold; return whether they do."""
    done = tx.connection.execute(update(_lease).where(_lease.c.name == _NAME, *conditions).values(values))
    return bool(done.rowcount)
