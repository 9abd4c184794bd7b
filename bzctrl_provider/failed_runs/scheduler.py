"""Failed runs as the scheduler sees them, read when it commits, and written into the store by one daemon thread.

All runs of one scheduling loop are read by one query and written together. Nothing here asks anybody but the session in which
the scheduler works. Only daemon threads use the database, also one that accepts a statement and never responds. The scheduler
waits one second for it, and then not at all until the store has worked again; the thread tries it each 30 seconds.
"""

from __future__ import annotations

import atexit
import logging
import threading
import time
from collections import defaultdict
from itertools import islice
from typing import TYPE_CHECKING, Any

from airflow.models.taskinstance import TaskInstance
from airflow.utils.session import create_session
from sqlalchemy import event, select, tuple_
from sqlalchemy.orm import object_session

from bzctrl_provider.airflow_compat import find_team, read_marks
from bzctrl_provider.best_effort import best_effort, exception_text
from bzctrl_provider.failure.dag_graph import find_consequences, with_all_before
from bzctrl_provider.failure.lookup import belongs_to_first_instance, read_operator
from bzctrl_provider.metrics import gauge_unwritten
from bzctrl_provider.outbox.writer import format_fields
from bzctrl_provider.store import failed_runs
from bzctrl_provider.store.database import PARAMETERS, StoreError, database
from bzctrl_provider.store.failed_runs import FailedRun
from bzctrl_provider.text import LINE_CHARS, one_line

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping, Sequence

log = logging.getLogger(__name__)

WAIT_S = 1.0
"""How long the scheduler waits for the runs of one loop to be written."""

PAUSE_S = 30.0
HEARTBEAT_S = 60.0
_JOIN_S = 10.0
_KEPT = 10_000
"""The runs that are kept in memory while the store cannot be used."""


class Writer:
    """The failed runs of this process that are not in the store yet, and the thread that writes them.

    :param write: writes runs; it may raise anything and take any time.
    """

    def __init__(self, write: Callable[[Sequence[FailedRun]], None]) -> None:
        self._write = write
        self._changed = threading.Condition()
        self._runs: dict[str, FailedRun] = {}
        """By their keys, the oldest first."""
        self._thread: threading.Thread | None = None
        self._is_closed = False
        """Whether nobody waits for the store."""
        self._is_ending = False

    def add(self, runs: Iterable[FailedRun]) -> None:
        """Have runs written, and wait for them for a bounded time."""
        added = {run.key: run for run in runs}
        with self._changed:
            self._runs |= added
            lost = [self._runs.pop(key) for key in list(self._runs)[:-_KEPT]]
            # A forked child has no thread of its own.
            if self._thread is None or not self._thread.is_alive():
                self._thread = threading.Thread(target=self._run, name="bzctrl-failed-runs", daemon=True)
                self._thread.start()
            self._changed.notify_all()
            # The lock is free while it waits. A closed store is not waited for.
            is_in_time = self._changed.wait_for(
                lambda: self._is_closed or self._runs.keys().isdisjoint(added), WAIT_S
            )
            if not is_in_time:
                self._close(f"It did not respond within {WAIT_S:.0f} s.")
        _log_lost(lost)

    def finish(self) -> None:
        """Write what is left, for a bounded time; log what cannot be written, whole."""
        # A forked child has no thread, and its memory has the runs of its parent.
        if self._thread is None or not self._thread.is_alive():
            return
        with self._changed:
            self._is_ending = True
            self._changed.notify_all()
        self._thread.join(_JOIN_S)
        _log_lost(list(self._runs.values()))

    def _run(self) -> None:
        while runs := self._next():
            try:
                self._write(list(runs.values()))
            except Exception as exc:  # noqa: BLE001 - the next attempt may succeed, and this thread is the only one
                why = str(exc) if isinstance(exc, StoreError) else exception_text(exc)
                # Under one lock: an end that comes before the pause makes this the last attempt, and one in it the next.
                with self._changed:
                    self._close(why or "")
                    if self._is_ending:
                        return
                    self._changed.wait_for(lambda: self._is_ending, PAUSE_S)
            else:
                self._note_written(runs)

    def _next(self) -> dict[str, FailedRun]:
        """Wait for runs, and return the oldest, by their keys; none at the end."""
        with self._changed:
            self._changed.wait_for(lambda: self._runs or self._is_ending)
            return dict(islice(self._runs.items(), PARAMETERS))

    def _note_written(self, runs: Iterable[str]) -> None:
        with self._changed:
            for key in runs:
                self._runs.pop(key, None)
            was_closed, self._is_closed = self._is_closed, False
            self._changed.notify_all()
        if was_closed:
            log.info("The store can be used again; failed runs that still wait: %d.", len(self._runs))
            gauge_unwritten(len(self._runs))

    def _close(self, why: str) -> None:
        """Let nobody wait for the store until it has worked again."""
        self._is_closed = True
        self._changed.notify_all()
        number = len(self._runs)
        log.error("The store does not take failed runs. Kept in memory until it does: %d. %s", number, why)
        gauge_unwritten(number)


def _log_lost(runs: Iterable[FailedRun]) -> None:
    for run in runs:
        fields = format_fields(vars(run))
        log.error("A failed run was not written into the store, so it raises no incident: %s", fields)


def _write_into_store(runs: Sequence[FailedRun]) -> None:
    failed_runs.add_all(database(keeps_connection=True), runs)


writer = Writer(_write_into_store)
"""Of this process."""

atexit.register(writer.finish)


def begin_heartbeat() -> None:
    """Write from now on each minute that the listener is at work, in a thread of its own."""
    # Here, not in a thread: a child that is forked in the middle of an import could never import the same.
    database(keeps_connection=True)
    threading.Thread(target=_beat, name="bzctrl-heartbeat", daemon=True).start()


def _beat() -> None:
    while True:
        with best_effort("the heartbeat of the scheduler"), database().transaction() as tx:
            failed_runs.note_heartbeat(tx, "scheduler")
        time.sleep(HEARTBEAT_S)


_FAILED = "bzctrl_failed_runs"
"""Where a session has the runs that it fails."""


def write_before_commit(dag_run: Any, why: str) -> None:
    """Have a run that failed written before its session commits; not at all if its DAG has a notifier of its own.

    :param dag_run: of Airflow, with its DAG as it is serialized.
    :param why: Airflow's reason.
    """
    if read_marks(getattr(dag_run, "dag", None)).get("has_notifier"):
        return
    session: Any = object_session(dag_run)
    if session is None:  # only in `DAG.test()`, which has committed it
        with create_session() as session:
            _write_failed(session, [(dag_run, why)])
        return
    session.info.setdefault(_FAILED, []).append((dag_run, why))
    if not event.contains(session, "before_commit", _before_commit):
        event.listen(session, "before_commit", _before_commit)


def _before_commit(session: Any) -> None:
    if failed := session.info.pop(_FAILED, None):
        # The scheduler's own changes: an error is the one that its commit would raise a moment later.
        session.flush()
        _write_failed(session, failed)


def _write_failed(session: Any, failed: Sequence[tuple[Any, str]]) -> None:
    with best_effort("the failed runs of this loop; they raise no incident", level=logging.ERROR):
        writer.add(_read(session, failed))


def _read(session: Any, failed: Sequence[tuple[Any, str]]) -> list[FailedRun]:
    states: dict[tuple[str, str], dict[str, dict[int, str]]] = defaultdict(lambda: defaultdict(dict))
    with best_effort("the states of the tasks of failed runs"):
        ti = TaskInstance
        query = select(ti.dag_id, ti.run_id, ti.task_id, ti.map_index, ti.state).where(
            tuple_(ti.dag_id, ti.run_id).in_([(dag_run.dag_id, dag_run.run_id) for dag_run, _ in failed])
        )
        for dag_id, run_id, task_id, map_index, state in session.execute(query):
            states[dag_id, run_id][task_id][map_index] = str(state or "")
    runs = []
    for dag_run, why in failed:
        name = one_line(f"{dag_run.run_id} of {dag_run.dag_id}", max_chars=LINE_CHARS)
        with best_effort(f"the failed run {name}; it raises no incident", level=logging.ERROR):
            runs.append(_read_dag_run(dag_run, why, states[dag_run.dag_id, dag_run.run_id]))
    return runs


def _read_dag_run(dag_run: Any, why: str, states: Mapping[str, Mapping[int, str]]) -> FailedRun:
    dag = getattr(dag_run, "dag", None)
    return FailedRun(
        dag_id=dag_run.dag_id,
        run_id=dag_run.run_id,
        cleared=dag_run.clear_number,
        started_at=str(dag_run.start_date or ""),
        # Before Airflow 3.3, only a run that takes longer than its timeout has no reason.
        why=why or "timed_out",
        run_type=str(dag_run.run_type),
        logical_date=dag_run.logical_date.isoformat() if dag_run.logical_date else None,
        tags=None if dag is None else sorted(dag.tags or ()),
        owner=getattr(dag, "owner", None) or None,
        team=find_team(dag_run),
        states=states,
        **_read_dag(dag, states),
    )


def _read_dag(dag: Any, states: Mapping[str, Mapping[int, str]]) -> dict[str, Any]:
    """Return what the DAG says about the failed tasks; nothing of it if that cannot be read."""
    found: dict[str, Any] = {}
    failed = {
        # Of a task in a mapped task group, the tasks after it depend on the same instance.
        task_id: "success" not in instances.values()
        for task_id, instances in sorted(states.items())
        if "failed" in instances.values()
    }
    with best_effort("the tasks of the failed run's DAG"):
        tasks = {task_id: dag.get_task(task_id) for task_id in failed if dag.has_task(task_id)}
        found["operators"] = {task_id: read_operator(task) for task_id, task in tasks.items()}
        found |= find_consequences(dag, {task_id: failed[task_id] for task_id in tasks})
        found["roll_ups"] = {
            roll_up: {
                task_id: belongs_to_first_instance(dag, task_id, roll_up)
                for task_id in with_all_before(dag, dag.get_task(roll_up).upstream_task_ids)
            }
            for roll_up in read_marks(dag).get("roll_ups") or ()
        }
    return found
