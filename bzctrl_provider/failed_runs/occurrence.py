"""A failed run as an occurrence: from what the scheduler noted, and the reasons that its tasks have left."""

from __future__ import annotations

from datetime import datetime
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any

from bzctrl_provider._airflow_internals import find_last_successful_run, read_xcom
from bzctrl_provider.best_effort import best_effort
from bzctrl_provider.failure import FailedTask, Failure
from bzctrl_provider.failure_lookup import RunAddress, find_failed
from bzctrl_provider.incidents.coverage import find_roll_ups
from bzctrl_provider.incidents.fields import Wishes
from bzctrl_provider.incidents.occurrence import Occurrence
from bzctrl_provider.limits import LIST_ITEMS
from bzctrl_provider.notifications.rendering import new_renderer
from bzctrl_provider.reasons import EXCEPTION_XCOM_KEY, Reason, parse_reason
from bzctrl_provider.repeats import COUNTED_XCOM_KEY
from bzctrl_provider.settings import settings

if TYPE_CHECKING:
    from collections.abc import Sequence

    from bzctrl_provider.store.failed_runs import FailedRun


def describe_failed_run(run: FailedRun) -> Failure:
    """Return the failure of a run; without the reasons of its tasks if they cannot be read."""
    address = RunAddress(run.dag_id, run.run_id)
    found = find_failed(run.states, run.states)
    reasons = _read_reasons(run, found[:LIST_ITEMS])
    return Failure(
        kind="run",
        tasks=tuple(
            FailedTask(
                task_id=task_id,
                map_index=index,
                operator=operator,
                owner=owner,
                log_url=address.log_url(task_id, index),
                **reasons.get((task_id, index), Reason())._asdict(),
            )
            for task_id, index in found
            for operator, owner in [run.operators.get(task_id, (None, None))]
        ),
        instances={task_id: len(instances) for task_id, instances in run.states.items()},
        did_not_run=tuple(run.did_not_run),
        not_updated=tuple(run.not_updated),
        dag_id=run.dag_id,
        run_id=run.run_id,
        logical_date=run.logical_date,
        owner=run.owner,
        run_url=address.url,
        reason=run.why,
    )


def read_failed_run(run: FailedRun, failure: Failure) -> Occurrence:
    """Return the occurrence of a failed run, with the identity that a callback of its DAG would give it."""

    def has_counted(roll_up: str, map_index: int) -> bool:
        return bool(_read_xcom(run, COUNTED_XCOM_KEY, roll_up, map_index))

    def find_success() -> float | None:
        at = find_last_successful_run(run.dag_id)
        return at.timestamp() if at else None

    return Occurrence(
        failure=failure,
        occasion=(run.cleared, run.started_at),
        run_type=run.run_type,
        tags=run.tags,
        team=run.team,
        is_of_policy=True,
        find_roll_ups=lambda: find_roll_ups(failure.tasks, run.roll_ups, run.states, has_counted),
        find_success=find_success,
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


def _read_reasons(run: FailedRun, found: Sequence[tuple[str, int]]) -> dict[tuple[str, int], Reason]:
    reasons: dict[tuple[str, int], Reason] = {}
    with best_effort("the exceptions of the failed tasks"):
        for task_id, index in found:
            value = _read_xcom(run, EXCEPTION_XCOM_KEY, task_id, index)
            if value is not None:
                reasons[task_id, index] = parse_reason(value, log_lines=settings().include_log_lines)
            elif settings().remember_exceptions:
                # Otherwise its callback would have left something.
                reasons[task_id, index] = Reason(lost=True)
    return reasons


def _read_xcom(run: FailedRun, key: str, task_id: str, map_index: int) -> Any:
    return read_xcom(key, dag_id=run.dag_id, run_id=run.run_id, task_id=task_id, map_index=map_index)
