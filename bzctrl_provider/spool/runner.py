"""The ways to start a delivery: a whole one, and a short one by the process that has just written."""

from __future__ import annotations

import time
from datetime import UTC, datetime
from functools import partial
from typing import TYPE_CHECKING, Any

from bzctrl_provider.best_effort import best_effort
from bzctrl_provider.settings import settings
from bzctrl_provider.spool.delivery import BATCH, Delivery, DeliveryResult, Options
from bzctrl_provider.spool.ledger import Ledger
from bzctrl_provider.spool.outbox import open_local_spool, open_store, spool_path

if TYPE_CHECKING:
    import os
    from collections.abc import Callable

    from bzctrl_provider.spool.store import Store

_LOCK_WAIT_S = 10.0
_SOON_S = 5.0
_SOON_PERIOD_S = 60.0
_SOON_LEAST_S = 0.5


def deliver(
    *,
    bzctrl_conn_id: str | None = None,
    path: str | os.PathLike[str] | None = None,
    limit: int | None = None,
    limit_s: float | None = None,
    ignore_pauses: bool = False,
    clock: Callable[[], datetime] | None = None,
) -> DeliveryResult:
    """Create what waits in the spool, the oldest first, each todo once.

    An entry that fails is kept with the reason; one that BzCtrl rejects is moved to ``rejected/``. If the outcome of an
    attempt is unknown, the next attempt says so in the todo's description. After a connection could not be used, nobody
    tries it for a minute.

    :param bzctrl_conn_id: the connection to create them with; default: that of each entry.
    :param path: the spool; default: that of the configuration.
    :param limit: how many todos to send at most, 1 or more; default: all.
    :param limit_s: after how many seconds no further request is started; default: no limit.
    :param ignore_pauses: whether to try at once what has failed a short time ago.
    :param clock: returns the time, with its zone; default: the present.
    :return: what was created, kept and rejected, and why; ``busy`` if another delivery is at work.
    :raises ValueError: if the limit is less than 1, or the path of the spool is relative.
    :raises OSError: if the spool cannot be listed or written.
    """
    if limit is not None and limit < 1:
        raise ValueError(f"limit must be 1 or more, not {limit}")
    store = open_store(str(path) if path is not None else spool_path())
    ends_at = time.monotonic() + limit_s if limit_s is not None else None
    options = Options(
        bzctrl_conn_id=bzctrl_conn_id,
        limit=limit,
        group_above=settings().group_above,
        ignore_pauses=ignore_pauses,
        may_start=lambda _: ends_at is None or time.monotonic() < ends_at,
    )
    with store.lock(wait_s=_LOCK_WAIT_S, sleep=time.sleep) as is_locked:
        if not is_locked:
            return DeliveryResult(busy=True)
        return _delivery(store, options, clock=clock).run()


def replay_spool(
    *,
    bzctrl_conn_id: str | None = None,
    path: str | os.PathLike[str] | None = None,
    limit: int | None = None,
    clock: Callable[[], datetime] | None = None,
) -> DeliveryResult:
    """Deliver at once, by hand, also what has failed a short time ago.

    :param bzctrl_conn_id: see ``deliver``.
    :param path: see ``deliver``.
    :param limit: see ``deliver``.
    :param clock: see ``deliver``.
    :return: see ``deliver``.
    :raises ValueError: see ``deliver``.
    :raises OSError: see ``deliver``.
    """
    return deliver(bzctrl_conn_id=bzctrl_conn_id, path=path, limit=limit, ignore_pauses=True, clock=clock)


def deliver_soon(
    *, limit_s: float = _SOON_S, clock: Callable[[], datetime] | None = None
) -> dict[str, dict[str, Any]]:
    """Deliver what waits in a local spool, if nobody else does and there is time; never raise.

    For the process that has just written. It returns at once if the spool is in an object store, another process
    delivers, or BzCtrl was not reachable or too slow for this within the last minute. All calls of a process take at most 5 seconds in a
    minute together.

    :param limit_s: how many seconds it may take.
    :param clock: returns the time, with its zone; default: the present.
    :return: for the identity of each delivered entry what BzCtrl created, as in ``CreatedTodo.as_dict()``.
    """
    started_at = time.monotonic()
    ends_at = started_at + min(limit_s, _budget.remaining_s(started_at))
    if ends_at - started_at < _SOON_LEAST_S:
        return {}
    todos: dict[str, dict[str, Any]] = {}
    with best_effort("the delivery of the spool, which is left to the next one"):
        _deliver_until(ends_at, clock or _utc_now, todos)
    _budget.spend(time.monotonic() - started_at)
    return todos


def _deliver_until(ends_at: float, clock: Callable[[], datetime], todos: dict[str, dict[str, Any]]) -> None:
    store = open_local_spool()
    if store is None:
        return
    with store.lock(wait_s=0, sleep=time.sleep) as is_locked:
        if not is_locked:
            return
        if Ledger(store).any_pause(clock()):
            return
        options = Options(
            group_above=settings().group_above,
            beside=True,
            # The token may be there already: one todo shows how long a request takes, before many are sent.
            first_batch=1,
            may_start=lambda took_s: time.monotonic() + max(2 * took_s, _SOON_LEAST_S) < ends_at,
        )
        _delivery(store, options, clock=clock, ends_at=ends_at, todos=todos).run()


def _delivery(
    store: Store,
    options: Options,
    *,
    clock: Callable[[], datetime] | None,
    ends_at: float | None = None,
    todos: dict[str, dict[str, Any]] | None = None,
) -> Delivery:
    return Delivery(
        Ledger(store),
        connect=partial(_connect, ends_at=ends_at),
        clock=clock or _utc_now,
        options=options,
        todos={} if todos is None else todos,
    )


def _connect(conn_id: str, *, ends_at: float | None) -> Any:
    # Only here: it loads the client, which a callback that only writes does not need.
    from bzctrl_provider.spool.sender import Sender

    return Sender(conn_id, workers=BATCH, ends_at=ends_at)


def _utc_now() -> datetime:
    return datetime.now(UTC)


class _Budget:
    """Limit the seconds per minute that this process spends on deliveries beside its own work."""

    def __init__(self) -> None:
        self._period_began_at = float("-inf")
        self._spent_s = 0.0

    def remaining_s(self, now: float) -> float:
        if now - self._period_began_at >= _SOON_PERIOD_S:
            self._period_began_at, self._spent_s = now, 0.0
        return _SOON_S - self._spent_s

    def spend(self, seconds: float) -> None:
        self._spent_s += seconds


_budget = _Budget()
