"""Branches directly before a roll-up: Airflow lets them skip it, whatever its trigger rule says.

A branch, a short circuit and any other operator with Airflow's ``SkipMixin`` sets tasks directly after it to ``skipped``. So
each of them gets the roll-up among the tasks that it does not skip. The DAG keeps its tasks and their order.

Each parse of a DAG file with a roll-up loads this module, so it imports nothing of Airflow.
"""

from __future__ import annotations

from collections.abc import Iterable
from inspect import signature
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Callable


def keep_from_skipping(tasks: Iterable[Any], roll_up: str) -> None:
    """Keep the branches among tasks from skipping a roll-up. They skip their other tasks as before.

    :param tasks: the tasks directly before the roll-up.
    :param roll_up: its task id.
    """
    for task in tasks:
        if not hasattr(task, "skip_all_except"):
            continue
        if not isinstance(task.skip_all_except, _SkipAllExcept):
            task.skip_all_except = _SkipAllExcept(task.skip_all_except)
            task.skip = _Skip(task.skip)
        task.skip_all_except.roll_ups.add(roll_up)
        task.skip.roll_ups.add(roll_up)


class _Method:
    """A method of one task, which knows the roll-ups after the task."""

    def __init__(self, method: Callable[..., Any]) -> None:
        self._method = method
        self.roll_ups: set[str] = set()


class _SkipAllExcept(_Method):
    """The method with which a branch skips all tasks directly after it but those that it chooses."""

    def __call__(self, ti: Any, branch_task_ids: Any) -> Any:
        if branch_task_ids is None:
            branch_task_ids = ()
        elif isinstance(branch_task_ids, str):
            branch_task_ids = (branch_task_ids,)
        # Otherwise Airflow's own error says what a branch may return.
        if isinstance(branch_task_ids, Iterable):
            branch_task_ids = [*branch_task_ids, *sorted(self.roll_ups)]
        return self._method(ti, branch_task_ids)


class _Skip(_Method):
    """The method with which another task skips the tasks that it names."""

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        # Its parameters depend on the version of Airflow.
        call = signature(self._method).bind(*args, **kwargs)
        if "tasks" in call.arguments:
            call.arguments["tasks"] = [
                task
                for task in call.arguments["tasks"]
                if getattr(task, "task_id", None) not in self.roll_ups
            ]
        return self._method(*call.args, **call.kwargs)
