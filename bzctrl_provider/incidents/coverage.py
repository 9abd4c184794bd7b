"""Whether the roll-ups of a DAG handled what failed, so that its callback raises no second incident."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from bzctrl_provider.best_effort import best_effort
from bzctrl_provider.failure_lookup import belongs_to_first_instance, look_up_states
from bzctrl_provider.repeats import COUNTED_XCOM_KEY

if TYPE_CHECKING:
    from collections.abc import Mapping

    from bzctrl_provider.failure import FailedTask, Failure, LazyFailure


def find_roll_ups(
    failure: Failure | LazyFailure, context: Mapping[str, Any], roll_ups: Mapping[str, frozenset[str]]
) -> list[str]:
    """Return the ids of the roll-ups that together handled each of the failed tasks; none if a task is left.

    One that succeeded raised an incident, and one that counted a failure waits for more in a row. Any other did not see the
    failure: if its setup failed, it is ``upstream_failed``, and after a timeout of the run, it is ``skipped``.

    :param failure: the failure.
    :param context: of a callback.
    :param roll_ups: the roll-ups of the DAG, each with the ids of the tasks before it.
    """
    handled: set[str] = set()
    if not roll_ups or not failure.tasks:
        return []
    # A second incident is better than none.
    with best_effort("the states of the roll-ups"):
        states = look_up_states(context, sorted(roll_ups))
        for task in failure.tasks:
            by = {
                roll_up
                for roll_up, before in roll_ups.items()
                if task.task_id in before and _has_handled(context, roll_up, states.get(roll_up, {}), task)
            }
            if not by:
                return []
            handled |= by
        return sorted(handled)
    return []


def _has_handled(
    context: Mapping[str, Any], roll_up: str, states: Mapping[int, str], task: FailedTask
) -> bool:
    """Return whether a roll-up handled a failed task.

    In a mapped task group, that is the instance with the task's index, and the first one for a task before the group.
    """
    own = [task.map_index] if task.map_index in states else list(states)
    if own and belongs_to_first_instance(context["dag"], task.task_id, roll_up):
        own = [min(states)]
    return bool(own) and all(
        states[index] == "success" or (states[index] == "skipped" and _has_counted(context, roll_up, index))
        for index in own
    )


def _has_counted(context: Mapping[str, Any], roll_up: str, map_index: int) -> bool:
    index = map_index if map_index >= 0 else None
    return bool(context["ti"].xcom_pull(task_ids=roll_up, key=COUNTED_XCOM_KEY, map_indexes=index))
