"""The tasks before others in a DAG. Each parse of a DAG file with a roll-up loads this module, so it imports nothing."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Iterable


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
