"""The first step of a whole delivery: the incidents of the failed runs that schedulers have noted.

The delivery calls it while it has the lease, so one process at a time decides. If it ends in the middle, the next one decides
again, and the identity of the incident makes it one.
"""

from __future__ import annotations

import logging
from datetime import datetime
from functools import partial
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any

from bzctrl_provider.airflow_compat import find_last_successful_run, read_run_state, read_xcom
from bzctrl_provider.best_effort import best_effort, exception_text
from bzctrl_provider.failure.lookup import find_failed, find_run_address, new_failed_task
from bzctrl_provider.failure.model import FailedTask, Failure
from bzctrl_provider.failure.reasons import read_reasons
from bzctrl_provider.incidents.decide import decide
from bzctrl_provider.incidents.fill import Wishes, new_renderer
from bzctrl_provider.incidents.occurrence import Occurrence
from bzctrl_provider.outbox.writer import NotRaised, write
from bzctrl_provider.settings import settings
from bzctrl_provider.store import failed_runs
from bzctrl_provider.store.database import Database, StoreError
from bzctrl_provider.store.repeats import COUNTED_XCOM_KEY
from bzctrl_provider.text import LINE_CHARS, one_line

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

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
                text = "%s raises no incident yet: the next delivery tries again. %s"
                log.error(text, _name(noted.run), exception_text(exc))  # noqa: TRY400 - its frames may show secrets
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
    # After the incident is written: a delivery that ends in between writes the same one again.
    with store.transaction() as tx:
        failed_runs.note_decided(tx, noted.key)


def _name(run: FailedRun) -> str:
    return one_line(f"The run {run.run_id} of {run.dag_id}", max_chars=LINE_CHARS)


def describe_failed_run(run: FailedRun) -> Failure:
    """Return the failure of a run; without the reasons of its tasks if they cannot be read."""
    run_url = find_run_address(run.dag_id, run.run_id)
    found = find_failed(run.states, run.states)
    options, read = settings(), partial(_read_xcom, run)
    keeps = options.remember_exceptions
    reasons = read_reasons(found, read, lambda _: keeps, log_lines=options.include_log_lines)
    tasks = tuple(
        new_failed_task(task_id, index, run_url, reasons[task_id, index], **run.operators.get(task_id, {}))
        for task_id, index in found
    )
    return Failure(
        kind="run",
        tasks=tasks,
        instances={task_id: len(instances) for task_id, instances in run.states.items()},
        did_not_run=tuple(run.did_not_run),
        not_updated=tuple(run.not_updated),
        dag_id=run.dag_id,
        run_id=run.run_id,
        logical_date=run.logical_date,
        owner=run.owner,
        run_url=run_url,
        reason=run.why,
    )


def read_failed_run(run: FailedRun, failure: Failure) -> Occurrence:
    """Return the occurrence of a failed run, with the identity that a callback of its DAG would give it."""
    return Occurrence(
        failure=failure,
        occasion=(run.cleared, run.started_at),
        run_type=run.run_type,
        tags=run.tags,
        team=run.team,
        is_of_policy=True,
        handled_by=_find_roll_ups(run, failure.tasks),
        find_success=lambda: find_last_successful_run(run.dag_id),
        source=run.dag_id,
    )


def wish_for_failed_run(run: FailedRun, failure: Failure) -> Wishes:
    """Return wishes without any field, because the policy sets none.

    The templates of routes and options have the variables of a context that are known of a run when it has ended.
    """
    date = datetime.fromisoformat(run.logical_date) if run.logical_date else None
    dag = {"dag_id": run.dag_id, "tags": run.tags or [], "owner": run.owner or ""}
    dag_run = {"run_type": run.run_type, "clear_number": run.cleared, "logical_date": date}
    variables: dict[str, Any] = {
        "failure": failure,
        # Airflow 2 asks the DAG of a context how it renders.
        "dag": SimpleNamespace(**dag, render_template_as_native_obj=False),
        "dag_run": SimpleNamespace(dag_id=run.dag_id, run_id=run.run_id, **dag_run),
        "run_id": run.run_id,
        "reason": run.why,
    }
    if date:
        variables |= {"logical_date": date, "ds": f"{date:%Y-%m-%d}", "ts": date.isoformat()}
    return Wishes(render=new_renderer(variables))


def _read_xcom(run: FailedRun, key: str, task_id: str, map_index: int) -> Any:
    return read_xcom(key, dag_id=run.dag_id, run_id=run.run_id, task_id=task_id, map_index=map_index)


def _find_roll_ups(run: FailedRun, tasks: Sequence[FailedTask]) -> list[str]:
    """Return the ids of the roll-ups that together handled each of the failed tasks; none if a task is left."""
    handled: set[str] = set()
    # A second incident is better than none.
    with best_effort("the states of the roll-ups"):
        for task in tasks:
            by = {roll_up for roll_up in run.roll_ups if _has_handled(run, roll_up, task)}
            if not by:
                return []
            handled |= by
        return sorted(handled)
    return []


def _has_handled(run: FailedRun, roll_up: str, task: FailedTask) -> bool:
    """Return whether the instances of a roll-up to which a failed task belongs saw its failure.

    One that succeeded raised an incident, and one that was skipped after it counted a failure waits for more in a row. Any other
    did not see the failure: if its setup failed, it is ``upstream_failed``, and after a timeout of the run, it is ``skipped``.
    """
    before, states = run.roll_ups[roll_up], run.states.get(roll_up)
    if task.task_id not in before or not states:
        return False
    # In a mapped task group, that is the instance with the task's index, and the first one for a task before the group.
    if before[task.task_id]:
        indexes = [min(states)]
    elif task.map_index in states:
        indexes = [task.map_index]
    else:
        indexes = list(states)
    return all(
        states[index] == "success"
        or (states[index] == "skipped" and _read_xcom(run, COUNTED_XCOM_KEY, roll_up, index))
        for index in indexes
    )
