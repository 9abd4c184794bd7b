"""The consequences of failed tasks: the tasks after them that do not run, and the assets that are not updated."""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING, Any

from bzctrl_provider.best_effort import best_effort
from bzctrl_provider.limits import NAME_CHARS
from bzctrl_provider.text import one_line

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

_TASKS_LOOKED_AT = 10_000

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
    groups = {id(group) for task_id in failed if (group := _get_mapped_group(dag.get_task(task_id)))}
    blocked: list[str] = []
    pending = failed
    while pending and len(blocked) < _TASKS_LOOKED_AT:
        following = {task_id for done in pending for task_id in dag.get_task(done).downstream_task_ids}
        pending = []
        for task_id in sorted(following - without_success):
            task = dag.get_task(task_id)
            if id(_get_mapped_group(task)) not in groups and _is_blocked(task, without_success):
                pending.append(task_id)
        without_success.update(pending)
        blocked += pending
    return blocked


def _is_blocked(task: Any, without_success: set[str]) -> bool:
    rule = getattr(task.trigger_rule, "value", task.trigger_rule)
    if rule == _NEED_ONE:
        return bool(task.upstream_task_ids <= without_success)
    return rule in _NEED_ALL


def _get_mapped_group(task: Any) -> Any:
    get_group = getattr(task, "get_closest_mapped_task_group", None)
    return get_group() if get_group else None


def _get_asset_names(task: Any) -> Iterable[str]:
    for outlet in getattr(task, "outlets", None) or ():
        # A dataset of Airflow 2 has only a URI.
        name = getattr(outlet, "name", None) or getattr(outlet, "uri", None)
        yield one_line(str(name), max_chars=NAME_CHARS) if name else ""
