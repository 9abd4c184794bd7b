"""Questions to the graph of a DAG. Each parse of a DAG file with a roll-up loads this module, so it imports nothing."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Iterable


def with_all_before(dag: Any, task_ids: Iterable[str]) -> list[str]:
    """Return the ids of these tasks and of all before them, sorted."""
    return sorted(_walk(dag, task_ids, "upstream_task_ids"))


def excludes_other_failures(dag: Any, task_id: str) -> bool:
    """Return whether no other task of the DAG can have failed in a run in which this one did.

    With ``all_success``, the tasks before it have succeeded, and those after it do not run. A task beside it, with another
    trigger rule, or of a setup and its teardown can have failed as well.
    """
    if any(task.trigger_rule != "all_success" or task.is_setup or task.is_teardown for task in dag.tasks):
        return False
    connected = _walk(dag, [task_id], "upstream_task_ids") | _walk(dag, [task_id], "downstream_task_ids")
    return len(connected) == len(dag.tasks)


def _walk(dag: Any, task_ids: Iterable[str], direction: str) -> set[str]:
    found: set[str] = set()
    pending = list(task_ids)
    while pending:
        task_id = pending.pop()
        if task_id not in found:
            found.add(task_id)
            pending += getattr(dag.get_task(task_id), direction)
    return found
