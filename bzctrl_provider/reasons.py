"""The reason of a task's failure: kept by the task itself, because Airflow shows other tasks only its state.

A DAG file that makes a roll-up loads this module.
"""

from __future__ import annotations

from collections.abc import Mapping
from itertools import zip_longest
from typing import TYPE_CHECKING, Any, NamedTuple

from airflow.providers.common.compat.sdk import redact

from bzctrl_provider.best_effort import best_effort
from bzctrl_provider.check_results import dump_check_results, parse_check_results, read_check_results
from bzctrl_provider.limits import LINE_CHARS, NAME_CHARS
from bzctrl_provider.log_lines import count_kept_lines, keep_log_lines, last_lines, read_log_lines
from bzctrl_provider.reason_text import cut_middle, exception_text
from bzctrl_provider.settings import settings
from bzctrl_provider.text import cut, one_line, plain_text
from bzctrl_provider.version_compat import airflow_at_least

if TYPE_CHECKING:
    from collections.abc import Iterable

    from airflow.providers.common.compat.sdk import Context

    from bzctrl_provider.check_results import CheckResult

EXCEPTION_XCOM_KEY = "bzctrl_exception"

_LOST_IN_AIRFLOW_2 = "{'DAG Id': "

_ENDED_BY_TRIGGER = "Its trigger ended the task as failed, without an exception."


class Reason(NamedTuple):
    """Describe why a task failed, as far as the task itself knows it.

    :param exception: the type and the message of its exception, or Airflow's text instead of one.
    :param name: the name of a mapped instance, which its ``map_index_template`` gives.
    :param checks: its own checks that failed.
    :param lost: whether its process ended without an exception.
    :param log: the last lines of its log, if it keeps them.
    """

    exception: str | None = None
    name: str | None = None
    checks: tuple[CheckResult, ...] = ()
    lost: bool = False
    log: str | None = None


def remember_exception(context: Context) -> None:
    """Keep the reason of a task's failure for the incident that is raised after it, as an XCom of the task.

    Airflow shows the state of a failed task to the tasks after it, but not the exception. ``IncidentOnFailureOperator``
    and the policy add this to the failure callbacks of tasks. For other tasks put it into
    ``default_args={"on_failure_callback": remember_exception}``, or add it to the callbacks that are there already.
    """
    with best_effort("the exception that is kept for the incident"):
        reason = find_reason(context)
        # The DAG processor of Airflow 3 cannot write an XCom.
        if reason.lost or runs_elsewhere(context.get("ti")):
            return
        parts = {
            "exception": reason.exception,
            "name": reason.name,
            "checks": dump_check_results(reason.checks),
            "log": reason.log,
        }
        # Also an empty one: without it, the task is taken for one whose process ended without an exception.
        value = {key: part for key, part in parts.items() if part}
        context["ti"].xcom_push(key=EXCEPTION_XCOM_KEY, value=value)


def find_reason(context: Mapping[str, Any]) -> Reason:
    """Return the reason that the context of a task's own callback has, with all lines of the log that the task keeps."""
    include_values = settings().include_check_values
    checks = _read_checks(context, include_values=include_values)
    log = None
    text = None if _is_lost(context) else exception_text(context.get("exception"))
    if _is_ended_by_trigger(context):
        text = _ENDED_BY_TRIGGER
    if not checks or include_values:
        with best_effort("the last lines of the task's log"):
            log = read_log_lines(context)
    elif text:
        # The rest, as the log, has the values of whole rows, and the checks say the same.
        text = text.partition("\n")[0]
    if text and (limit := _find_missed_limit(context)):
        text = f"{text}\nThe task ran longer than its execution_timeout of {limit}."
    name = getattr(context.get("ti"), "rendered_map_index", None)
    return Reason(exception=text, name=_name(name), checks=checks, lost=_is_lost(context), log=log)


def _find_missed_limit(context: Mapping[str, Any]) -> object:
    """Return the ``execution_timeout`` that ended a task: Airflow's exception has only the number of the process."""
    if type(context.get("exception")).__name__ != "AirflowTaskTimeout":
        return None
    return getattr(context.get("task"), "execution_timeout", None)


def _read_checks(context: Mapping[str, Any], *, include_values: bool) -> tuple[CheckResult, ...]:
    # On Airflow 3.0 and 3.1, the task of the context is not the copy that was executed.
    for task in (getattr(context.get("ti"), "task", None), context.get("task")):
        # They are objects of another package, and the exception is worth more than its details.
        with best_effort("the results of the task's checks"):
            if checks := read_check_results(task, include_values=include_values):
                return checks
    return ()


def parse_reason(value: object, *, log_lines: int) -> Reason:
    """Return the reason that is in an XCom, which others can write as well, without its invalid parts.

    :param log_lines: how many lines of the log an incident has.
    """
    if isinstance(value, str):
        return Reason(exception=cut_middle(plain_text(value)))
    if not isinstance(value, Mapping):
        return Reason()
    exception, log = value.get("exception"), value.get("log")
    return Reason(
        exception=cut_middle(plain_text(exception)) if isinstance(exception, str) else None,
        name=_name(value.get("name")),
        checks=parse_check_results(value.get("checks")),
        log=last_lines(plain_text(log), log_lines) if isinstance(log, str) else None,
    )


def add_memory(tasks: Iterable[Any], *, log_lines: int) -> None:
    """Add ``remember_exception`` to the failure callbacks of tasks, before their own and once.

    :param log_lines: how many lines of their logs they keep for it.
    """
    for task in tasks:
        callbacks = task.on_failure_callback
        if callbacks is None:
            callbacks = []
        elif not isinstance(callbacks, list | tuple):
            callbacks = [callbacks]
        if remember_exception not in callbacks:
            task.on_failure_callback = [remember_exception, *callbacks]
        keep_log_lines(task, log_lines)


def remembers(task: Any) -> bool:
    """Return whether ``remember_exception`` is among the failure callbacks of a task."""
    callbacks = getattr(task, "on_failure_callback", None)
    return callbacks is remember_exception or (
        isinstance(callbacks, list | tuple) and remember_exception in callbacks
    )


def find_tasks_before(tasks: Iterable[Any], *, log_lines: int) -> list[Any]:
    """Return tasks, and all that are known to be before them while a DAG is being built, to which ``add_memory`` has to be applied.

    The search ends at tasks to which it was: so each task is visited once, however many checks are connected one by one.
    """
    found: dict[str, Any] = {}
    pending = list(tasks)
    while pending:
        task = pending.pop()
        has_all = remembers(task) and count_kept_lines(task) >= log_lines
        if task.task_id not in found and not has_all:
            found[task.task_id] = task
            pending += task.upstream_list
    return list(found.values())


def find_warnings(context: Mapping[str, Any]) -> tuple[tuple[str, str], ...]:
    """Return the names of the dbt tests that warned, each with its result, which Astronomer Cosmos puts into the context."""
    names, results = (_as_list(context.get(key)) for key in ("test_names", "test_results"))
    return tuple(
        (_line(name), "" if result is None else _line(result))
        for name, result in zip_longest(names, results[: len(names)])
    )


def _as_list(value: object) -> list[object]:
    return list(value) if isinstance(value, list | tuple) else []


def _line(value: object) -> str:
    return cut(one_line(str(redact(str(value))), max_chars=LINE_CHARS + 1), LINE_CHARS)


def runs_elsewhere(ti: object) -> bool:
    """Return whether a task's callback runs in the DAG processor of Airflow 3, because no process of the task could call it.

    Only there the task instance has no state.
    """
    return ti is not None and getattr(ti, "state", None) is None


def _is_lost(context: Mapping[str, Any]) -> bool:
    """Return whether Airflow lost the task's process: its callback runs in another one, which has no exception."""
    exception = context.get("exception")
    if exception is None:  # Airflow 3
        return runs_elsewhere(context.get("ti")) and "dag_run" in context
    # Airflow 2.11 gives a text with the names of the task and of its host instead.
    return isinstance(exception, str) and exception.startswith(_LOST_IN_AIRFLOW_2)


def _is_ended_by_trigger(context: Mapping[str, Any]) -> bool:
    """Return whether the trigger of a deferred task ended it as failed, so that no worker continued it."""
    ti = context.get("ti")
    if context.get("exception") is not None:
        return False
    if airflow_at_least(3, 0):
        # Only for this callback Airflow passes no run.
        return runs_elsewhere(ti) and "dag_run" not in context
    # Any other failure has an exception or a text.
    state = getattr(ti, "state", None)
    return getattr(state, "value", state) in ("failed", "up_for_retry")


def _name(value: object) -> str | None:
    if not isinstance(value, str):
        return None
    return one_line(str(redact(value)), max_chars=NAME_CHARS) or None
