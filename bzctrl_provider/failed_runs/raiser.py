"""The first step of a whole delivery: the incidents of the failed runs that schedulers have noted.

The delivery calls it while it has the lease, so one process at a time decides. If it ends in the middle, the next one decides
again, and the identity of the incident makes it one.
"""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING

from bzctrl_provider._airflow_internals import read_run_state
from bzctrl_provider.failed_runs.occurrence import describe_failed_run, read_failed_run, wish_for_failed_run
from bzctrl_provider.incidents.decide import decide
from bzctrl_provider.limits import LINE_CHARS
from bzctrl_provider.outbox.incident import NotRaised
from bzctrl_provider.outbox.writer import write
from bzctrl_provider.reason_text import exception_text
from bzctrl_provider.store import failed_runs
from bzctrl_provider.store.database import StoreError
from bzctrl_provider.text import one_line

if TYPE_CHECKING:
    from collections.abc import Callable

    from bzctrl_provider.store.database import Database
    from bzctrl_provider.store.failed_runs import FailedRun, Noted

log = logging.getLogger(__name__)

COMMITTED_AFTER_S = 300.0
"""How long a noted run may go on being active: the scheduler notes it before it commits the run's state, and may end in between."""

_UNFINISHED = frozenset({"queued", "running", "restarting"})


def raise_incidents(store: Database, may_go_on: Callable[[], bool]) -> None:
    """Decide about each failed run that is noted, the oldest first, and write the incidents into the outbox.

    :param store: with the runs.
    :param may_go_on: returns whether there is time for one more.
    :raises StoreError: if the store cannot be used.
    """
    with store.transaction() as tx:
        now, part = tx.now, failed_runs.list_undecided(tx)
    while part:
        for noted in part:
            if not may_go_on():
                return
            try:
                _decide(store, noted, now)
            except StoreError:
                raise
            except Exception as exc:  # noqa: BLE001 - it stays noted, and must not keep the others from their incidents
                _report_error(noted.run, exc)
        with store.transaction() as tx:
            part = failed_runs.list_undecided(tx, after=part[-1].number)


def _decide(store: Database, noted: Noted, now: float) -> None:
    run, state = noted.run, read_run_state(noted.run.dag_id, noted.run.run_id)
    if state in _UNFINISHED and now - noted.noted_at < COMMITTED_AFTER_S:
        log.info("%s is still %s; the next delivery looks again.", _name(run), state)
        return
    if state == "success" or state in _UNFINISHED:
        log.info("No incident: %s is %s by now.", _name(run), state)
        with store.transaction() as tx:
            # It may fail again: with the same number of clears, if the scheduler ended before its commit.
            failed_runs.forget(tx, noted)
        return
    failure = describe_failed_run(run)
    decision = decide(read_failed_run(run, failure), wish_for_failed_run(run, failure), record=write)
    if isinstance(decision, NotRaised):
        log.info("%s %s.", decision, _name(run))
    else:
        log.info("%s failed; its incident is %s.", _name(run), decision.identity)
    with store.transaction() as tx:
        failed_runs.note_decided(tx, noted.key)


def _report_error(run: FailedRun, exc: Exception) -> None:
    # Its frames may show secrets.
    log.error("%s raises no incident yet: the next delivery tries again. %s", _name(run), exception_text(exc))


def _name(run: FailedRun) -> str:
    return one_line(f"The run {run.run_id} of {run.dag_id}", max_chars=LINE_CHARS)
