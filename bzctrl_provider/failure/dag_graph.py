"""The tasks around others in a DAG: those before them, those that a failure keeps from running, and branches; and callbacks.

A branch, a short circuit and any other operator with Airflow's ``SkipMixin`` sets tasks directly after it to ``skipped``, whatever
their trigger rules say. So each of them gets the roll-up among the tasks that it does not skip. The DAG keeps its tasks and
their order.

Each parse of a DAG file with a roll-up loads this module, so it imports nothing heavy.
"""

from __future__ import annotations

import logging
from collections.abc import Iterable
from inspect import signature
from typing import TYPE_CHECKING, Any

from bzctrl_provider.best_effort import best_effort
from bzctrl_provider.text import NAME_CHARS, one_line

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping


def with_all_before(dag: Any, task_ids: Iterable[str]) -> list[str]:
    """Return the ids of these tasks and of all before them, sorted."""
    found: set[str] = set()
    pending = list(task_ids)
    while pending:
        task_id = pending.pop()
        if task_id not in found:
            found.add(task_id)
            pending += dag.get_task(task_id).upstream_task_ids
    return sorted(found)


_NEED_ALL = frozenset({"all_success", "none_failed", "none_failed_min_one_success"})
"""The trigger rules by which a task does not run if one of the tasks before it failed."""

_NEED_ONE = "one_success"


def find_consequences(dag: Any, failed: Mapping[str, bool]) -> dict[str, tuple[str, ...]]:
    """Return the tasks that do not run because of failed ones, and the assets that these and the failed ones update.

    It is derived from the DAG, because Airflow may not have set the states of these tasks yet.

    :param failed: the ids of the failed tasks, each with whether all of its mapped instances failed.
    :return: the fields ``did_not_run`` and ``not_updated`` of a ``Failure``; empty ones if the DAG cannot be read.
    """
    found: dict[str, tuple[str, ...]] = {"did_not_run": (), "not_updated": ()}
    with best_effort("the consequences of the failed tasks", level=logging.INFO):
        blocked = _find_blocked(dag, list(failed))
        ids = [*(task_id for task_id, whole in failed.items() if whole), *blocked]
        assets = dict.fromkeys(
            name for task_id in ids for name in _get_asset_names(dag.get_task(task_id)) if name
        )
        found["did_not_run"], found["not_updated"] = tuple(blocked), tuple(assets)
    return found


def _find_blocked(dag: Any, failed: list[str]) -> list[str]:
    """Return the ids of the tasks that cannot run, those next to the failed ones first."""
    without_success = set(failed)
    # Instances of other indexes do run in a mapped task group.
    groups = {id(group) for task_id in failed if (group := get_mapped_group(dag.get_task(task_id)))}
    blocked: list[str] = []
    pending = failed
    while pending:
        following = {task_id for done in pending for task_id in dag.get_task(done).downstream_task_ids}
        pending = []
        for task_id in sorted(following - without_success):
            task = dag.get_task(task_id)
            if id(get_mapped_group(task)) not in groups and _is_blocked(task, without_success):
                pending.append(task_id)
        without_success.update(pending)
        blocked += pending
    return blocked


def _is_blocked(task: Any, without_success: set[str]) -> bool:
    rule = getattr(task.trigger_rule, "value", task.trigger_rule)
    if rule == _NEED_ONE:
        return bool(task.upstream_task_ids <= without_success)
    return rule in _NEED_ALL


def get_mapped_group(task: Any) -> Any:
    """Return the innermost mapped task group that a task is in; None if there is none."""
    get_group = getattr(task, "get_closest_mapped_task_group", None)
    return get_group() if get_group else None


def _get_asset_names(task: Any) -> Iterable[str]:
    for outlet in getattr(task, "outlets", None) or ():
        # A dataset of Airflow 2 has only a URI.
        name = getattr(outlet, "name", None) or getattr(outlet, "uri", None)
        yield one_line(str(name), max_chars=NAME_CHARS) if name else ""


def list_callbacks(callbacks: Any) -> list[Any]:
    """Return the callbacks of a task or a DAG as a list: Airflow takes one, several or None."""
    if callbacks is None:
        return []
    return list(callbacks) if isinstance(callbacks, list | tuple) else [callbacks]


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
