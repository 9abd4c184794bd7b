"""The last success of what failed, which ends the window of its incident and the count of its failures."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from bzctrl_provider._airflow_internals import find_last_success

if TYPE_CHECKING:
    from collections.abc import Mapping


def find_success(context: Mapping[str, Any], *, of_task: bool) -> float | None:
    """Return when the task of a callback, otherwise its DAG, last succeeded before this failure, in seconds since 1970.

    By Airflow's clock: compare it only with other results of this function. Ask for it outside of a transaction.

    :raises Exception: if Airflow cannot be asked.
    """
    at = find_last_success(context, of_task=of_task)
    return at.timestamp() if at else None
