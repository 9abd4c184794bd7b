"""The last success of what failed, which ends the window of its incident and the count of its failures."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from bzctrl_provider._airflow_internals import find_last_success

if TYPE_CHECKING:
    from collections.abc import Mapping

    from bzctrl_provider.failure import Failure


def find_success(context: Mapping[str, Any], failure: Failure) -> float | None:
    """Return when the task of a callback, otherwise its DAG, last succeeded before this failure, in seconds since 1970.

    By Airflow's clock: compare it only with other results of this function. Ask for it outside of a transaction.

    :raises Exception: if Airflow cannot be asked.
    """
    at = find_last_success(context, of_task=failure.kind == "task")
    return at.timestamp() if at else None


def name_source(context: Mapping[str, Any], failure: Failure) -> str:
    """Return the name of the task instance, otherwise of the DAG, whose successes ``find_success`` returns."""
    ti = context.get("ti") if failure.kind == "task" else None
    return f"{failure.dag_id} {getattr(ti, 'task_id', '')} {getattr(ti, 'map_index', '')}".strip()
