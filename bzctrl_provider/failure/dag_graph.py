"""The tasks around others in a DAG: those before them, those that a failure keeps from running, and branches; and callbacks.

A branch, a short circuit and any other operator with Airflow's ``SkipMixin`` sets tasks directly after it to ``skipped``, whatever
their trigger rules say. So each of them gets the roll-up among the tasks that it does not skip. The DAG keeps its tasks and
their order.

Each parse of a DAG file with a roll-up loads this module, so it imports nothing heavy.
"""

from __future__ import annotations

import logging
from collections.abc import Collection, Iterable, Mapping
from inspect import signature
from typing import Any

from bzctrl_provider.best_effort import best_effort
from bzctrl_provider.text import NAME_CHARS, one_line


def with_all_before(
    dag: Any, task_ids: Iterable[str], *, through: Collection[str] | None = None
) -> list[str]:
    """Return the ids of these tasks and of all before them, sorted.

    :param through: the tasks at which the search goes on; default: all.
    """
    found: set[str] = set()
    pending = list(task_ids)
    while pending:
        task_id = pending.pop()
        if task_id not in found:
            found.add(task_id)
            if through is None or task_id in through:
                pending += dag.get_task(task_id).upstream_task_ids
    return sorted(found)


_NEED_ALL = frozenset({"all_success", "none_failed", "none_failed_min_one_success"})
"""The trigger rules by which a task does not run if one of the tasks before it failed."""


def find_consequences(dag: Any, failed: Mapping[str, bool]) -> dict[str, tuple[str, ...]]:
    """Return the tasks that do not run because of failed ones, and the assets that these and the failed ones update.

    It is derived from the DAG, because Airflow may not have set the states of these tasks yet.

    :param failed: the ids of the failed tasks, each with whether all of its mapped instances failed.
    :return: the fields ``did_not_run`` and ``not_updated`` of a ``Failure``; empty ones if the DAG cannot be read.
    """
    with best_effort("the consequences of the failed tasks", level=logging.INFO):
        blocked = _find_blocked(dag, list(failed))
        ids = [*(task_id for task_id, whole in failed.items() if whole), *blocked]
        assets = dict.fromkeys(name for task_id in ids for name in _get_asset_names(dag.get_task(task_id)))
        return {"did_not_run": tuple(blocked), "not_updated": tuple(assets)}
    return {"did_not_run": (), "not_updated": ()}


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
    if task.trigger_rule == "one_success":
        return bool(task.upstream_task_ids <= without_success)
    return task.trigger_rule in _NEED_ALL


def get_mapped_group(task: Any) -> Any:
    """Return the innermost mapped task group that a task is in; None if there is none."""
    get_group = getattr(task, "get_closest_mapped_task_group", None)
    return get_group() if get_group else None


def _get_asset_names(task: Any) -> Iterable[str]:
    for outlet in getattr(task, "outlets", None) or ():
        # A dataset of Airflow 2 has only a URI.
        if name := getattr(outlet, "name", None) or getattr(outlet, "uri", None):
            yield one_line(str(name), max_chars=NAME_CHARS)


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
        skipping = getattr(task.skip, "__self__", None)
        if not isinstance(skipping, _Skipping):
            skipping = _Skipping(task)
            task.skip, task.skip_all_except = skipping.skip, skipping.skip_all_except
        skipping.roll_ups.add(roll_up)


class _Skipping:
    """The two methods with which a task skips others, in place of its own: they skip no roll-up directly after it."""

    def __init__(self, task: Any) -> None:
        self._skip, self._skip_all_except = task.skip, task.skip_all_except
        self.roll_ups: set[str] = set()

    def skip_all_except(self, ti: Any, branch_task_ids: Any) -> Any:
        """Skip all tasks directly after it but the roll-ups and those that a branch chooses."""
        if isinstance(branch_task_ids, str):
            branch_task_ids = [branch_task_ids]
        # For anything else, Airflow's own error says what a branch may return.
        if branch_task_ids is None or isinstance(branch_task_ids, Iterable):
            branch_task_ids = [*(branch_task_ids or ()), *sorted(self.roll_ups)]
        return self._skip_all_except(ti, branch_task_ids)

    def skip(self, *args: Any, **kwargs: Any) -> Any:
        """Skip the tasks that it names, but no roll-up."""
        # Its parameters depend on the version of Airflow.
        call = signature(self._skip).bind(*args, **kwargs)
        tasks = call.arguments["tasks"]
        call.arguments["tasks"] = [
            task for task in tasks if getattr(task, "task_id", None) not in self.roll_ups
        ]
        return self._skip(*call.args, **call.kwargs)
