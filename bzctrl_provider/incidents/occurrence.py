"""An event, read once from Airflow: all that the decision about its incident needs to know."""

from __future__ import annotations

import secrets
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from bzctrl_provider.airflow_compat import find_last_success, find_team
from bzctrl_provider.failure.lookup import find_state, has_failed_in_time, kind_of
from bzctrl_provider.text import digest_of

if TYPE_CHECKING:
    from bzctrl_provider.failure.model import Failure, Kind, LazyFailure


@dataclass(frozen=True, kw_only=True)
class Occurrence:
    """An event for which an incident may be raised.

    :param failure: what failed; looked up when it is first used.
    :param occasion: its difference from others of the same run, equal in each process that is called for it.
    :param run_type: the type of the run, as Airflow has it; None if it is not known.
    :param tags: the tags of the DAG; None if they are not known.
    :param team: the team of the DAG; None if it is not known.
    :param task_id: the task that raises the incident; empty for a callback.
    :param is_of_policy: whether the policy raises the incident, and not the DAG itself.
    :param is_test_run: whether Airflow marks the run as a test.
    :param dismissed: why nothing has failed, such as a task that will be tried again; empty otherwise.
    :param handled_by: the ids of the roll-ups that have handled all of it; none if something is left.
    :param find_success: returns the time of the last success before it; see ``Repeats``, as for the next two.
    :param source: names what has these successes.
    :param pass_key: of the problem that has the last pass of a roll-up.
    """

    failure: Failure | LazyFailure
    occasion: tuple[object, ...] = ()
    run_type: object = None
    tags: Iterable[str] | None = None
    team: str | None = None
    task_id: str = ""
    is_of_policy: bool = False
    is_test_run: bool = False
    dismissed: str = ""
    handled_by: Sequence[str] = ()
    find_success: Callable[[], float | None] = lambda: None
    source: str = ""
    pass_key: str | None = None


@dataclass(frozen=True)
class TryState:
    """The place of a try among those of its task.

    :param generation: the same for all tries between two clears, different for others.
    :param is_first: whether nothing can have been remembered yet.
    :param is_last: whether Airflow will not retry by itself.
    """

    generation: str
    is_first: bool
    is_last: bool

    @classmethod
    def from_ti(cls, ti: Any) -> TryState:
        """Read it from a task instance.

        ``max_tries`` stays the same through the retries and changes with every clear of a finished task. A task that
        was cleared while it ran with ``retries=0`` keeps it, but then the try is beyond the last one, as no retry is.
        """
        try_number, max_tries = getattr(ti, "try_number", None) or 1, getattr(ti, "max_tries", None) or 0
        beyond = try_number > max_tries + 1
        retries = getattr(getattr(ti, "task", None), "retries", None) or 0
        return cls(
            generation=f"{max_tries}.{try_number}" if beyond else str(max_tries),
            # After a clear, max_tries is the last try so far plus the retries.
            is_first=beyond or try_number <= max(max_tries - retries, 0) + 1,
            is_last=try_number > max_tries,
        )


def read_callback(
    context: Mapping[str, Any], failure: Failure | LazyFailure, *, each_try: bool
) -> Occurrence:
    """Return what a callback of a task, of a DAG or of a deadline alert was called for.

    :param each_try: whether each try that fails is an occurrence of its own.
    """
    kind = kind_of(context, in_callback=True)
    of_task = kind == "task"
    dismissed = ""
    if of_task and not each_try and find_state(context) == "up_for_retry":
        dismissed = "the task will be tried again"
    elif has_failed_in_time(context):
        dismissed = "the run failed before its deadline, and is not late"
    return Occurrence(
        failure=failure,
        occasion=_occasion(context, kind, each_try=each_try),
        **_read_run(context),
        is_test_run=is_test_run(context),
        dismissed=dismissed,
        find_success=lambda: find_last_success(context, of_task=of_task),
        source=_name_source(context, of_task=of_task),
    )


def read_checks(context: Mapping[str, Any], failure: Failure | LazyFailure, *, task_id: str) -> Occurrence:
    """Return what a task has found that raises an incident after the checks before it.

    :param task_id: the id of the task.
    """
    ti = context.get("ti")
    index = getattr(ti, "map_index", None)
    return Occurrence(
        failure=failure,
        occasion=(task_id, index, TryState.from_ti(ti).generation),
        **_read_run(context),  # and no mark of a test, which shows what the tasks of a DAG do
        task_id=task_id,
        source=f"{failure.dag_id} {task_id}",
        pass_key=digest_of("pass", failure.dag_id, task_id, index),
    )


def _read_run(context: Mapping[str, Any]) -> dict[str, Any]:
    dag_run = context.get("dag_run")
    # In a deadline alert, the run is a mapping.
    run_type = dag_run.get("run_type") if isinstance(dag_run, Mapping) else getattr(dag_run, "run_type", None)
    return {
        "run_type": run_type,
        "tags": getattr(context.get("dag"), "tags", None),
        "team": find_team(context.get("ti")),
    }


def _occasion(context: Mapping[str, Any], kind: Kind, *, each_try: bool) -> tuple[object, ...]:
    if kind == "task":
        return _task_occasion(context, each_try=each_try)
    if "slas" in context:
        return tuple(sorted(f"{sla.task_id} {sla.execution_date}" for sla in context["slas"]))
    if kind == "deadline":
        deadline = context.get("deadline") or {}
        return (deadline.get("id") or deadline.get("deadline_time") or secrets.token_hex(8),)
    dag_run = context.get("dag_run")
    cleared = getattr(dag_run, "clear_number", None)
    # Without it, a run that was cleared and failed again looks like a callback that is called twice.
    return (secrets.token_hex(8) if cleared is None else cleared, getattr(dag_run, "start_date", None))


def _task_occasion(context: Mapping[str, Any], *, each_try: bool) -> tuple[object, ...]:
    ti, state = context["ti"], find_state(context)
    # The callback after a lost worker may have no index where that in the worker has -1.
    index = -1 if getattr(ti, "map_index", None) is None else ti.map_index
    # A task that warned or succeeded may still fail: that is another incident.
    end = () if state in ("failed", "up_for_retry") else (state,)
    return (ti.task_id, index, TryState.from_ti(ti).generation, ti.try_number if each_try else "", *end)


def _name_source(context: Mapping[str, Any], *, of_task: bool) -> str:
    ti = context.get("ti") if of_task else None
    dag_id = getattr(context.get("dag"), "dag_id", "")
    return f"{dag_id} {getattr(ti, 'task_id', '')} {getattr(ti, 'map_index', '')}".strip()


def is_test_run(context: Mapping[str, Any]) -> bool:
    """Return whether Airflow marks the context as that of a test; any other counts as a real run, and is sent.

    From 3.1 on, the contexts of tasks have the mark of ``DAG.test()`` and ``airflow dags test``. Airflow 2.11 marks
    ``airflow tasks test``. No version marks the callback of a DAG.
    """
    user = getattr(context.get("dag_run"), "triggering_user_name", None)
    return user == "dag_test" or context.get("test_mode") is True
