"""Whether the roll-ups of a DAG handled what failed, so that its failed run raises no second incident."""

from __future__ import annotations

from typing import TYPE_CHECKING

from bzctrl_provider.best_effort import best_effort

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping

    from bzctrl_provider.failure import FailedTask

    RollUps = Mapping[str, Mapping[str, bool]]
    States = Mapping[str, Mapping[int, str]]
    HasCounted = Callable[[str, int], bool]


def find_roll_ups(
    tasks: Iterable[FailedTask], roll_ups: RollUps, states: States, has_counted: HasCounted
) -> list[str]:
    """Return the ids of the roll-ups that together handled each of the failed tasks; none if a task is left.

    One that succeeded raised an incident, and one that counted a failure waits for more in a row. Any other did not see the
    failure: if its setup failed, it is ``upstream_failed``, and after a timeout of the run, it is ``skipped``.

    :param tasks: the tasks that failed.
    :param roll_ups: the roll-ups of the DAG, each with the ids of the tasks before it, and whether a failure of these belongs to its
        first instance.
    :param states: for each task the state of each of its instances, by map index.
    :param has_counted: returns whether an instance of a roll-up that was skipped has counted a failure.
    """
    handled: set[str] = set()
    # A second incident is better than none.
    with best_effort("the states of the roll-ups"):
        for task in tasks:
            by = {
                roll_up
                for roll_up, before in roll_ups.items()
                if task.task_id in before
                and all(
                    state == "success" or (state == "skipped" and has_counted(roll_up, index))
                    for index, state in _find_own(
                        states.get(roll_up, {}), task, is_of_first=before[task.task_id]
                    ).items()
                )
                and states.get(roll_up)
            }
            if not by:
                return []
            handled |= by
        return sorted(handled)
    return []


def _find_own(states: Mapping[int, str], task: FailedTask, *, is_of_first: bool) -> Mapping[int, str]:
    """Return the instances of a roll-up that handle a failed task.

    In a mapped task group, that is the instance with the task's index, and the first one for a task before the group.
    """
    if is_of_first and states:
        return {min(states): states[min(states)]}
    return {task.map_index: states[task.map_index]} if task.map_index in states else states
