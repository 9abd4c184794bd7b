"""The context with which Airflow calls a callback: in which process, before which try, for which failure."""

from __future__ import annotations

import secrets
from typing import TYPE_CHECKING, Any

from bzctrl_provider.memory import TryState
from bzctrl_provider.outbox.runner import is_scheduled
from bzctrl_provider.version_compat import airflow_at_least

if TYPE_CHECKING:
    from collections.abc import Mapping

    from bzctrl_provider.failure import Failure


def identify_occasion(failure: Failure, context: Mapping[str, Any], *, each_try: bool) -> tuple[object, ...]:
    """Return the difference of this failure from others of the same run, equal in each process."""
    if failure.kind == "task":
        ti = context["ti"]
        generation = TryState.from_ti(ti).generation
        index = getattr(ti, "map_index", None)
        return ti.task_id, -1 if index is None else index, generation, ti.try_number if each_try else ""
    if failure.kind == "deadline":
        deadline = context.get("deadline") or {}
        known = deadline.get("id") or deadline.get("deadline_time")
        return (known or secrets.token_hex(8),)
    dag_run = context.get("dag_run")
    cleared = getattr(dag_run, "clear_number", None)
    # Without it, a run that was cleared and failed again looks like a callback that is called twice.
    return (secrets.token_hex(8) if cleared is None else cleared, getattr(dag_run, "start_date", None))


def is_in_task(failure: Failure, context: Mapping[str, Any]) -> bool:
    """Return whether this is the task's own process; after a lost worker, there is no exception, or only a text."""
    return failure.kind == "task" and isinstance(context.get("exception"), BaseException)


def may_wait(failure: Failure, context: Mapping[str, Any]) -> bool:
    """Return whether the callback itself delivers: no other one waits for it, or nothing follows it."""
    if is_in_task(failure, context) or is_test_run(context):
        return True
    # Airflow 2 ends the process of a DAG's callback without waiting for a thread.
    return not airflow_at_least(3, 1) and not is_scheduled()


def is_test_run(context: Mapping[str, Any]) -> bool:
    """Return whether Airflow marks the context as that of a test; any other counts as a real run, and is sent.

    From 3.1 on, the contexts of tasks have the mark of ``DAG.test()`` and ``airflow dags test``. Airflow 2.11 marks
    ``airflow tasks test``. No version marks the callback of a DAG.
    """
    user = getattr(context.get("dag_run"), "triggering_user_name", None)
    return user == "dag_test" or context.get("test_mode") is True


def will_be_tried_again(ti: Any) -> bool:
    """Return whether Airflow has another try for the task of a callback."""
    state = getattr(ti, "state", None)
    if state is not None:
        return str(getattr(state, "value", state)) == "up_for_retry"
    # The callback of a task whose worker was lost: its context has no state.
    try_number, max_tries = getattr(ti, "try_number", None), getattr(ti, "max_tries", None)
    return try_number is not None and max_tries is not None and try_number <= max_tries
