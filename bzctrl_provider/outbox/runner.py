"""The ways to start a delivery: a whole one, and a short one by the process that has just written."""

from __future__ import annotations

import logging
import threading
import time
from functools import partial
from importlib import import_module
from typing import TYPE_CHECKING, Any

from bzctrl_provider.best_effort import best_effort
from bzctrl_provider.outbox.delivery import BESIDE, LEASE_S, WORKERS, BzCtrlSender, Delivery
from bzctrl_provider.store import deliveries, failed_runs, incidents
from bzctrl_provider.store.database import database

if TYPE_CHECKING:
    from bzctrl_provider.outbox.delivery import DeliveryResult
    from bzctrl_provider.store.database import Database

_BATCH = 8 * WORKERS
"""How many are sent between two notes, and so at most how many possible duplicates a killed delivery leaves."""

SCHEDULED_FOR_S = 300.0
"""How long the delivery DAG counts as at work after it began a delivery."""

_SOON_S = 20.0
_SOON_PERIOD_S = 60.0
_SOON_LEAST_S = 0.5


def deliver(
    *,
    bzctrl_conn_id: str | None = None,
    limit: int | None = None,
    limit_s: float | None = None,
    ignore_pauses: bool = False,
) -> DeliveryResult:
    """Create what waits in the outbox, the oldest first, each todo once.

    First, the incidents of failed runs that schedulers have noted are written into the outbox.

    An incident that fails is kept with the reason; one that BzCtrl rejects is kept apart, and not sent again. If the outcome of
    an attempt is unknown, the next attempt says so in the todo's description. After a connection could not be used, nobody
    tries it for a minute.

    :param bzctrl_conn_id: the connection to create them with; default: that of each incident.
    :param limit: how many todos to send at most, 1 or more; default: all.
    :param limit_s: after how many seconds no further request is started; default: no limit.
    :param ignore_pauses: whether to try at once what has failed a short time ago.
    :return: what was created, kept and rejected, and why; ``busy`` if another delivery is at work.
    :raises ValueError: if the limit is less than 1.
    :raises StoreError: if the store cannot be used.
    """
    if limit is not None and limit < 1:
        raise ValueError(f"limit must be 1 or more, not {limit}")
    ends_at = time.monotonic() + limit_s if limit_s is not None else None
    delivery = Delivery(
        store=database(),
        connect=BzCtrlSender,
        bzctrl_conn_id=bzctrl_conn_id,
        limit=limit,
        ignore_pauses=ignore_pauses,
        batch=_BATCH,
        may_start=lambda _: ends_at is None or time.monotonic() < ends_at,
    )
    _deliver(delivery)
    return delivery.result


def deliver_soon(*, limit_s: float = _SOON_S) -> dict[str, dict[str, Any]]:
    """Deliver what waits, if nobody else does and there is time; never raise.

    For the process that has just written, or found that nothing is to be written. It returns at once if nothing waits,
    another process delivers, which looks again before it ends, or no connection of what waits was usable, or BzCtrl too slow for
    this, within the last minute. All calls of a process take at most 20 seconds in a minute together.

    :param limit_s: how many seconds it may take.
    :return: for the identity of each delivered incident what BzCtrl created, as in ``CreatedTodo.as_dict()``.
    """
    started_at = time.monotonic()
    ends_at = started_at + min(limit_s, budget.remaining_s(started_at))
    if ends_at - started_at < _SOON_LEAST_S:
        return {}
    todos: dict[str, dict[str, Any]] = {}
    with best_effort("the delivery; it follows later"):
        store = database()
        with store.transaction() as tx:
            usable = deliveries.find_usable(tx, {BESIDE, *incidents.waiting_conn_ids(tx)})
        if BESIDE in usable and len(usable) > 1:
            delivery = Delivery(
                store=store,
                connect=partial(BzCtrlSender, ends_at=ends_at),
                beside=True,
                may_start=lambda took_s: time.monotonic() + max(2 * took_s, _SOON_LEAST_S) < ends_at,
            )
            _deliver(delivery)
            todos = delivery.todos
    budget.spend(time.monotonic() - started_at)
    return todos


def is_scheduled() -> bool:
    """Return whether the delivery DAG has begun a delivery in the last 5 minutes; never raise."""
    with best_effort("the look-up of the delivery DAG"), database().transaction() as tx:
        _, scheduled_at = deliveries.find_deliveries(tx)
        return tx.now - scheduled_at < SCHEDULED_FOR_S
    return False


def note_scheduled() -> None:
    """Note that the delivery DAG has just begun to deliver.

    :raises StoreError: if the store cannot be used.
    """
    with database().transaction() as tx:
        deliveries.note_scheduled(tx)


def _deliver(delivery: Delivery) -> None:
    """Run a delivery with the lease, unless another process has it."""
    store, holder = delivery.store, delivery.holder
    with store.transaction() as tx:
        if not deliveries.take_lease(tx, holder, for_s=LEASE_S):
            return
    ended = threading.Event()
    thread = threading.Thread(target=_renew, args=(store, holder, ended), name="bzctrl-lease", daemon=True)
    thread.start()
    try:
        if not delivery.beside:
            _raise_incidents(delivery)
        delivery.run()
    finally:
        ended.set()
        with best_effort("the end of the lease; others deliver after a minute"), store.transaction() as tx:
            deliveries.give_lease_back(tx, holder)


def _raise_incidents(delivery: Delivery) -> None:
    """Write the incidents of failed runs into the outbox; an error must not keep what waits there already."""
    with best_effort("the incidents of failed runs; they follow later", level=logging.ERROR):
        with delivery.store.transaction() as tx:
            failed_runs.note_heartbeat(tx, "delivery")
            failed_runs.prune(tx)
            number, _ = failed_runs.count_undecided(tx)
        if number:
            # By its name, because it is above this module, and only if there are any.
            raiser = import_module("bzctrl_provider.failed_runs.raiser")
            raiser.raise_incidents(delivery.store, lambda: delivery.may_start(0.0))


def _renew(store: Database, holder: str, ended: threading.Event) -> None:
    while not ended.wait(LEASE_S / 4):
        with best_effort("the renewal of the delivery's lease"), store.transaction() as tx:
            deliveries.renew_lease(tx, holder, for_s=LEASE_S)


class Budget:
    """The seconds of a minute that this process may spend on deliveries beside its own work."""

    def __init__(self) -> None:
        self._period_began_at = float("-inf")
        self._spent_s = 0.0

    def remaining_s(self, now: float) -> float:
        """Return the remaining seconds."""
        if now - self._period_began_at >= _SOON_PERIOD_S:
            self._period_began_at, self._spent_s = now, 0.0
        return _SOON_S - self._spent_s

    def spend(self, seconds: float) -> None:
        """Note seconds that were spent."""
        self._spent_s += seconds


budget = Budget()
"""Of this process."""
