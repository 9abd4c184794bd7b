"""The last success of what failed, which ends the window of its incident and the count of its failures."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

from bzctrl_provider._airflow_internals import find_last_success
from bzctrl_provider.best_effort import best_effort
from bzctrl_provider.memory import read_variable, variable_name, write_variable
from bzctrl_provider.times import parse_time

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from bzctrl_provider.failure import Failure, LazyFailure


class LastSuccess:
    """Look up in Airflow when a task or a DAG last succeeded: when it is first needed, and at most once.

    It is the success of the task for the callback of a task, otherwise that of the DAG.

    :param context: Airflow's, of a callback.
    :param failure: the failure.
    """

    def __init__(self, context: Mapping[str, Any], failure: Failure | LazyFailure) -> None:
        self._context = context
        self._failure = failure
        self._found: tuple[bool, datetime | None] | None = None

    def __call__(self, *, if_unknown: datetime | None) -> datetime | None:
        """Return its end; None if there was none, and ``if_unknown`` if Airflow cannot be asked."""
        if self._found is None:
            self._found = False, None
            with best_effort("the look-up of the last success"):
                self._found = True, find_last_success(self._context, of_task=self._failure.kind == "task")
        is_known, at = self._found
        return at if is_known else if_unknown


class LastPass:
    """Keep in a Variable when the checks before a roll-up last passed, after one of them had failed.

    The success of the DAG would say too much, because a task beside the roll-up can mask a failure, and too little: it
    cannot be looked up for a run without a logical date, nor after the run was cleared. A roll-up whose checks have not
    failed yet writes nothing.

    :param dag_id: the DAG of the roll-up.
    :param task_id: the roll-up.
    :param map_index: of its instance; None or negative if it is not mapped.
    :param now: returns the time, in UTC.
    """

    def __init__(
        self,
        dag_id: str,
        task_id: str,
        map_index: int | None = None,
        *,
        now: Callable[[], datetime] = lambda: datetime.now(UTC),
    ) -> None:
        index = [] if map_index is None or map_index < 0 else [str(map_index)]
        self._name = variable_name("passed", dag_id, task_id, *index)
        self._now = now

    def __call__(self, *, if_unknown: datetime | None) -> datetime | None:
        """Return the time; None if they have not passed, and ``if_unknown`` if the Variable cannot be read."""
        kept = None
        with best_effort("the look-up of when the checks last passed"):
            kept = read_variable(self._name)
        return if_unknown if kept is None else parse_time(kept.get("passed_at"))

    def note_failure(self) -> None:
        """Have the next pass kept."""
        self._write(is_failed=True)

    def note_pass(self) -> None:
        """Keep the time, if a failure came before."""
        self._write(is_failed=False)

    def _write(self, *, is_failed: bool) -> None:
        with best_effort("the memory of the outcome of the checks"):
            kept = read_variable(self._name)
            if bool(kept.get("failed")) == is_failed:
                return
            at = self._now().isoformat()
            passed_at = kept.get("passed_at") if is_failed else at
            write_variable(self._name, {"created_at": at, "failed": is_failed, "passed_at": passed_at})
