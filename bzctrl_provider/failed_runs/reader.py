"""A failed run as the scheduler sees it. Nothing here asks anybody but the session in which the scheduler works."""

from __future__ import annotations

from contextlib import nullcontext
from typing import TYPE_CHECKING, Any

from sqlalchemy.orm import object_session

from bzctrl_provider._airflow_internals import find_team, read_marks
from bzctrl_provider.best_effort import best_effort
from bzctrl_provider.consequences import find_consequences
from bzctrl_provider.dag_graph import with_all_before
from bzctrl_provider.failure_lookup import belongs_to_first_instance, name_operator
from bzctrl_provider.store.failed_runs import FailedRun

if TYPE_CHECKING:
    from collections.abc import Mapping

TIMED_OUT = "timed_out"
"""Before Airflow 3.3, only a run that takes longer than its timeout has no reason."""


def read_dag_run(dag_run: Any, why: str) -> FailedRun | None:
    """Return a run that failed; None if its DAG has a notifier of its own.

    :param dag_run: of Airflow, with its DAG as it is serialized.
    :param why: Airflow's reason.
    """
    dag = getattr(dag_run, "dag", None)
    marks = read_marks(dag)
    if marks.get("has_notifier"):
        return None
    date = getattr(dag_run, "logical_date", None)
    run_type = getattr(dag_run, "run_type", None)
    started_at = getattr(dag_run, "start_date", None)
    states = _read_states(dag_run)
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
        **_read_dag(dag, states, marks.get("roll_ups") or ()),
    )


def _read_states(dag_run: Any) -> dict[str, dict[int, str]]:
    states: dict[str, dict[int, str]] = {}
    with best_effort("the states of the failed run's tasks"):
        session: Any = object_session(dag_run)
        # Only the run of a test has none, and then Airflow opens one.
        of_session = {"session": session} if session else {}
        # The scheduler writes its own changes, when it is their turn.
        with session.no_autoflush if session else nullcontext():
            for ti in dag_run.get_task_instances(**of_session):
                states.setdefault(ti.task_id, {})[ti.map_index] = _name(ti.state or "")
    return states


def _read_dag(
    dag: Any, states: Mapping[str, Mapping[int, str]], roll_ups: tuple[str, ...] | list[str]
) -> dict[str, Any]:
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
