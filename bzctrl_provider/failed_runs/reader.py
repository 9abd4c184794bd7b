"""Failed runs as the scheduler sees them, read when it commits. Nothing here asks anybody but the session in which it works.

All runs of one scheduling loop are read by one query and written together, so that the loop waits for the store once.
"""

from __future__ import annotations

import logging
from collections import defaultdict
from typing import TYPE_CHECKING, Any

from airflow.models.taskinstance import TaskInstance
from airflow.utils.session import create_session
from sqlalchemy import event, select, tuple_
from sqlalchemy.orm import object_session

from bzctrl_provider._airflow_internals import find_team, read_marks
from bzctrl_provider.best_effort import best_effort
from bzctrl_provider.consequences import find_consequences
from bzctrl_provider.dag_graph import with_all_before
from bzctrl_provider.failed_runs.writer import writer
from bzctrl_provider.failure_lookup import belongs_to_first_instance, name_operator
from bzctrl_provider.limits import LINE_CHARS
from bzctrl_provider.store.failed_runs import FailedRun
from bzctrl_provider.text import one_line

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    States = Mapping[str, Mapping[int, str]]

TIMED_OUT = "timed_out"
"""Before Airflow 3.3, only a run that takes longer than its timeout has no reason."""

_FAILED = "bzctrl_failed_runs"
"""Where a session has the runs that it fails."""


def begin() -> None:
    """Show from now on that the listener is loaded in this scheduler."""
    writer.begin_heartbeat()


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
            _write(session, [(dag_run, why)])
        return
    session.info.setdefault(_FAILED, []).append((dag_run, why))
    if not event.contains(session, "before_commit", _before_commit):
        event.listen(session, "before_commit", _before_commit)


def _before_commit(session: Any) -> None:
    if failed := session.info.pop(_FAILED, None):
        # The scheduler's own changes: an error is the one that its commit would raise a moment later.
        session.flush()
        _write(session, failed)


def _write(session: Any, failed: Sequence[tuple[Any, str]]) -> None:
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
            states[dag_id, run_id][task_id][map_index] = _name(state or "")
    runs = []
    for dag_run, why in failed:
        name = one_line(f"{dag_run.run_id} of {dag_run.dag_id}", max_chars=LINE_CHARS)
        with best_effort(f"the failed run {name}; it raises no incident", level=logging.ERROR):
            runs.append(_read_dag_run(dag_run, why, states[dag_run.dag_id, dag_run.run_id]))
    return runs


def _read_dag_run(dag_run: Any, why: str, states: States) -> FailedRun:
    dag = getattr(dag_run, "dag", None)
    date = getattr(dag_run, "logical_date", None)
    run_type = getattr(dag_run, "run_type", None)
    started_at = getattr(dag_run, "start_date", None)
    return FailedRun(
        dag_id=dag_run.dag_id,
        run_id=dag_run.run_id,
        cleared=getattr(dag_run, "clear_number", None),
        started_at=str(started_at or ""),
        why=why or TIMED_OUT,
        run_type=None if run_type is None else _name(run_type),
        logical_date=date.isoformat() if date else None,
        tags=None if dag is None else sorted(map(str, dag.tags or ())),
        owner=getattr(dag, "owner", None) or None,
        team=find_team(dag_run),
        states=states,
        **_read_dag(dag, states, read_marks(dag).get("roll_ups") or ()),
    )


def _read_dag(dag: Any, states: States, roll_ups: Sequence[str]) -> dict[str, Any]:
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
        found["operators"] = {
            task_id: [name_operator(task), getattr(task, "owner", None) or None]
            for task_id, task in tasks.items()
        }
        found |= find_consequences(dag, {task_id: failed[task_id] for task_id in tasks})
        found["roll_ups"] = {
            roll_up: {
                task_id: belongs_to_first_instance(dag, task_id, roll_up)
                for task_id in with_all_before(dag, dag.get_task(roll_up).upstream_task_ids)
            }
            for roll_up in roll_ups
        }
    return found


def _name(value: object) -> str:
    return str(getattr(value, "value", value))
