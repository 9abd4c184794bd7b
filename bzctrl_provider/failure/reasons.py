"""Why a task failed, as the task itself keeps it: its exception, the results of its checks, the last lines of its log.

Airflow shows other tasks only its state. Another process writes the log of Airflow 3, and a task cannot read it, so the task
keeps the lines itself. The check operators of ``apache-airflow-providers-common-sql`` have their results as
``check_results`` from version 2 on; they are read by name, so that this provider needs neither the other one nor a certain
version of it.

A DAG file that makes a roll-up loads this module.
"""

from __future__ import annotations

import logging
import re
from collections import defaultdict, deque
from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, fields
from typing import Any

from airflow.providers.common.compat.sdk import redact

from bzctrl_provider.airflow_compat import add_to_task_log, airflow_at_least, is_step_of_airflow
from bzctrl_provider.best_effort import best_effort, cut_middle, exception_text
from bzctrl_provider.failure.dag_graph import list_callbacks
from bzctrl_provider.settings import settings
from bzctrl_provider.text import (
    LINE_CHARS,
    LIST_ITEMS,
    LOG_LINES_MAX,
    NAME_CHARS,
    TEXT_CHARS,
    cut,
    one_line,
    plain_text,
)


class _Tail(logging.Handler):
    """The last messages of the log of the task that runs in this process, until Airflow logs that it failed."""

    def __init__(self) -> None:
        super().__init__(logging.INFO)
        self.begin(None, 0)

    def begin(self, ti: object, lines: int) -> None:
        """Begin with a task instance, of which so many messages are kept: each is a line or more."""
        self._ti, self._messages, self._is_over = ti, deque[str](maxlen=lines), False

    def emit(self, record: logging.LogRecord) -> None:
        """Keep the message of a record of Python's logging."""
        with suppress(Exception):  # arguments that do not fit: the log has the error
            by_airflow = is_step_of_airflow(record.name, record.module)
            self._keep(record.getMessage(), record.levelno, by_airflow=by_airflow)

    def process(self, _logger: object, method: str, event: dict[str, Any]) -> dict[str, Any]:
        """Keep the message of an event of structlog, as one of its processors."""
        with suppress(Exception):
            if method != "debug":
                by_airflow = is_step_of_airflow(event.get("logger", event.get("logger_name")))
                level = logging.ERROR if method == "error" else logging.INFO
                self._keep(str(event["event"]), level, by_airflow=by_airflow)
        return event

    def _keep(self, message: str, level: int, *, by_airflow: bool) -> None:
        if by_airflow:
            self._is_over |= level >= logging.ERROR
        elif not self._is_over:
            if len(message) > TEXT_CHARS:
                # Redacted first, because half a secret would not be recognized.
                message = str(redact(message))[-TEXT_CHARS:]
            self._messages.append(message)

    def read(self, ti: object) -> str:
        """Return the messages; none if they are of another task instance, as there can be in a test run."""
        return "\n".join(self._messages) if ti is self._ti else ""


_tail = _Tail()
"""Of this process."""


@dataclass(frozen=True)
class KeepLogLines:
    """An ``on_execute_callback`` by which a task keeps the last lines of its log while it runs.

    :param lines: how many.
    """

    lines: int

    def __call__(self, context: Mapping[str, Any]) -> None:
        """Begin to keep them."""
        with best_effort("the lines of the log that are kept for the incident"):
            _tail.begin(context.get("ti"), self.lines)
            add_to_task_log(_tail)


def keep_log_lines(task: Any, lines: int) -> None:
    """Let a task keep the last lines of its log; if this is asked for more than once, the most lines count."""
    if count_kept_lines(task) < lines:
        task.on_execute_callback = [KeepLogLines(lines), *list_callbacks(task.on_execute_callback)]


def count_kept_lines(task: Any) -> int:
    """Return how many lines of its log a task keeps."""
    if getattr(task, "inherits_from_empty_operator", False):
        # It has no log, and the scheduler would have to run it because of the callback.
        return LOG_LINES_MAX
    calls = list_callbacks(task.on_execute_callback)
    return max((call.lines for call in calls if isinstance(call, KeepLogLines)), default=0)


def read_log_lines(context: Mapping[str, Any], lines: int) -> str | None:
    """Return the last lines that the task of a callback has kept, redacted by Airflow; None if there are none."""
    # In this order: a color within a secret would hide it from the redaction, and so would a cut.
    without_colors = re.sub(r"\x1b\[[0-9;]*m", "", _tail.read(context.get("ti")))
    return _last_lines(plain_text(str(redact(without_colors))), lines)


def _last_lines(text: str | None, lines: int) -> str | None:
    """Return the last lines of a text, in at most 2,000 characters; None if there are none."""
    kept = [line.rstrip() for line in (text or "").splitlines() if line.strip()]
    text = "\n".join(kept[-lines:]) if lines else ""
    if len(text) > TEXT_CHARS:
        text = f"…{text[1 - TEXT_CHARS :]}"
    return text or None


_NUMBER = r"None|True|False|nan|-?inf|[-+]?(\d+\.?\d*|\.\d+)([eE][-+]?\d+)?"
_SINGLE = r"[(\[](?:Decimal\(')?([^',]*)(?:'\))?,?[)\]]"
"""A row of one value, as Python writes it. Compiled when it is first used: each failed run loads this module."""


@dataclass(frozen=True, kw_only=True)
class CheckResult:
    """A check of a task that failed.

    Each text is one line of at most 200 characters in which Airflow's secrets are masked.

    :param check: its name, such as ``null_check``.
    :param table: the table; None if the operator does not know it.
    :param column: the column; None if it is no check of a column.
    :param expected: the condition for the value, such as ``>= 5``; ``true`` if the statement must be true.
    :param actual: the value that was found. Anything but a number is left out unless ``[bzctrl] include_check_values``
        is on, because it can be a row with personal data.
    :param statement: the SQL that must be true or have the expected value; None for a check of a column.
    """

    check: str
    table: str | None = None
    column: str | None = None
    expected: str | None = None
    actual: str | None = None
    statement: str | None = None


def read_check_results(task: object, *, include_values: bool) -> tuple[CheckResult, ...]:
    """Return the failed checks of a task, at most 20; none if its operator keeps no results.

    :param task: the operator, after it was executed.
    :param include_values: whether values that are no numbers are kept, too.
    """
    results = getattr(task, "check_results", None)
    if not isinstance(results, list | tuple):
        return ()
    failed = [
        result
        for result in results
        if getattr(result, "success", None) is False and getattr(result, "severity", "error") == "error"
    ]
    return tuple(_read(result, include_values=include_values) for result in failed[:LIST_ITEMS])


def parse_check_results(data: object) -> tuple[CheckResult, ...]:
    """Return the checks that are in an XCom, which others can write as well; those of another form are left out."""
    if not isinstance(data, list | tuple):
        return ()
    names = [field.name for field in fields(CheckResult)]
    mappings = [item for item in data[:LIST_ITEMS] if isinstance(item, Mapping)]
    read: list[dict[str, Any]] = [{name: _text(item.get(name)) for name in names} for item in mappings]
    return tuple(CheckResult(**texts) for texts in read if texts["check"])


def format_check_results(checks: Sequence[CheckResult], *, task_id: str) -> list[str]:
    """Return a line for each check, in columns; a statement of SQL is in a line of its own.

    :param task_id: the id of the task, which is not repeated as the name of its only check.
    """
    names = ["" if check.check in (task_id, task_id.rpartition(".")[2]) else check.check for check in checks]
    subjects = [".".join(filter(None, (check.table, check.column))) for check in checks]
    lines = []
    for check, *cells in zip(checks, _pad(names), _pad(subjects), strict=True):
        outcome = f"expected {check.expected}" if check.expected else "failed"
        actual = "" if check.actual is None else f", actual {check.actual}"
        # A column without any text has the width 0.
        lines.append("   ".join([*filter(None, cells), outcome + actual]))
        if check.statement:
            lines.append(f"  {check.statement}")
    return lines


def _pad(texts: Sequence[str]) -> list[str]:
    width = max(map(len, texts))
    return [text.ljust(width) for text in texts]


def _read(result: Any, *, include_values: bool) -> CheckResult:
    column = _text(getattr(result, "column", None))
    name = _text(getattr(result, "name", None)) or _text(getattr(result, "check_type", None)) or "check"
    expected = _text(getattr(result, "expected", None))
    if expected == "all truthy":
        expected = "true"
    return CheckResult(
        check=name.removeprefix(f"{column}.") if column else name,
        table=_text(getattr(result, "table", None)),
        column=column,
        expected=expected and re.sub(r"([<>]=?)(?=[^\s=])", r"\1 ", expected),
        actual=_value(getattr(result, "actual", None), include_values=include_values),
        statement=None if column else _text(getattr(result, "content", None)),
    )


def _value(value: object, *, include_values: bool) -> str | None:
    if value is None:
        return None
    single = re.fullmatch(_SINGLE, str(value).strip())
    number = single[1] if single else str(value).strip()
    if re.fullmatch(_NUMBER, number) and len(number) <= NAME_CHARS:
        return number
    return _text(value) if include_values else None


def _text(value: object) -> str | None:
    """Return a value as one line without Airflow's secrets; None if there is nothing in it."""
    return None if value is None else _line(value, NAME_CHARS) or None


def _line(value: object, chars: int) -> str:
    # Cut last: half a secret would not be recognized.
    return cut(one_line(str(redact(str(value))), max_chars=chars + 1), chars)


EXCEPTION_XCOM_KEY = "bzctrl_exception"


@dataclass(frozen=True, kw_only=True)
class Reason:
    """The reason of a task's failure, as far as the task itself knows it; a ``FailedTask`` has the same attributes.

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


def remember_exception(context: Mapping[str, Any]) -> None:
    """Keep the reason of a task's failure for the incident that is raised after it, as an XCom of the task.

    Airflow shows the state of a failed task to the tasks after it, but not the exception. ``IncidentOnFailureOperator``
    and the policy add this to the failure callbacks of tasks. For other tasks put it into
    ``default_args={"on_failure_callback": remember_exception}``, or add it to the callbacks that are there already.
    """
    with best_effort("the exception that is kept for the incident"):
        reason = find_reason(context, log_lines=LOG_LINES_MAX)
        # The DAG processor of Airflow 3 cannot write an XCom.
        if reason.lost or runs_elsewhere(context.get("ti")):
            return
        parts = {**vars(reason), "checks": list(map(vars, reason.checks))}
        # Also an empty one: without it, the task is taken for one whose process ended without an exception.
        value = {key: part for key, part in parts.items() if part}
        context["ti"].xcom_push(key=EXCEPTION_XCOM_KEY, value=value)


def find_reason(context: Mapping[str, Any], *, log_lines: int) -> Reason:
    """Return the reason that the context of a task's own callback has.

    :param log_lines: how many of the lines of its log that the task keeps.
    """
    include_values = settings().include_check_values
    checks = _read_checks(context, include_values=include_values)
    is_lost, exception, log = _is_lost(context), context.get("exception"), None
    text = None if is_lost else exception_text(exception)
    if _is_ended_by_trigger(context):
        text = "Its trigger ended the task as failed, without an exception."
    if not checks or include_values:
        with best_effort("the last lines of the task's log"):
            log = read_log_lines(context, log_lines)
    elif text:
        # The rest, as the log, has the values of whole rows, and the checks say the same.
        text = text.partition("\n")[0]
    limit = getattr(context.get("task"), "execution_timeout", None)
    if text and limit and type(exception).__name__ == "AirflowTaskTimeout":
        # Airflow's text has only the number of the process.
        text += f"\nThe task ran longer than its execution_timeout of {limit}."
    name = _text(getattr(context.get("ti"), "rendered_map_index", None))
    return Reason(exception=text, name=name, checks=checks, lost=is_lost, log=log)


def _read_checks(context: Mapping[str, Any], *, include_values: bool) -> tuple[CheckResult, ...]:
    # On Airflow 3.0 and 3.1, the task of the context is not the copy that was executed.
    for task in (getattr(context.get("ti"), "task", None), context.get("task")):
        # They are objects of another package, and the exception is worth more than its details.
        with best_effort("the results of the task's checks"):
            if checks := read_check_results(task, include_values=include_values):
                return checks
    return ()


def read_reasons(
    failed: Sequence[tuple[str, int]],
    read: Callable[[str, str, int], object],
    keeps: Callable[[str], bool],
    *,
    log_lines: int,
) -> Mapping[tuple[str, int], Reason]:
    """Return the reasons that the first 20 failed instances kept; an empty one for each other.

    :param failed: the id and the index of each instance.
    :param read: returns the XCom with a key of an instance.
    :param keeps: returns whether a task keeps its reason, so that one without an XCom left no exception.
    :param log_lines: how many lines of the log an incident has.
    """
    reasons: dict[tuple[str, int], Reason] = defaultdict(Reason)
    with best_effort("the exceptions of the failed tasks"):
        for task_id, index in failed[:LIST_ITEMS]:
            value = read(EXCEPTION_XCOM_KEY, task_id, index)
            if value is not None:
                reasons[task_id, index] = parse_reason(value, log_lines=log_lines)
            elif keeps(task_id):
                reasons[task_id, index] = Reason(lost=True)
    return reasons


def parse_reason(value: object, *, log_lines: int) -> Reason:
    """Return the reason that is in an XCom, which others can write as well, without its invalid parts.

    :param log_lines: how many lines of the log an incident has.
    """
    if not isinstance(value, Mapping):
        return Reason()
    texts = {key: plain_text(text) for key, text in value.items() if isinstance(text, str)}
    return Reason(
        exception=cut_middle(texts["exception"]) if "exception" in texts else None,
        name=_text(texts.get("name")),
        checks=parse_check_results(value.get("checks")),
        log=_last_lines(texts.get("log"), log_lines),
    )


def keep_reasons(tasks: Iterable[Any], *, log_lines: int) -> None:
    """Add ``remember_exception`` to the failure callbacks of tasks, before their own and once.

    :param log_lines: how many lines of their logs they keep for it.
    """
    for task in tasks:
        if not remembers(task):
            task.on_failure_callback = [remember_exception, *list_callbacks(task.on_failure_callback)]
        keep_log_lines(task, log_lines)


def remembers(task: Any) -> bool:
    """Return whether ``remember_exception`` is among the failure callbacks of a task."""
    return remember_exception in list_callbacks(getattr(task, "on_failure_callback", None))


def keep_reasons_before(tasks: Iterable[Any], *, log_lines: int) -> None:
    """Apply ``keep_reasons`` to tasks, and to all that are known to be before them while a DAG is being built.

    The search ends at tasks to which it was: so each task is visited once, however many checks are connected one by one.
    """
    pending = list(tasks)
    while pending:
        task = pending.pop()
        if not remembers(task) or count_kept_lines(task) < log_lines:
            keep_reasons([task], log_lines=log_lines)
            pending += task.upstream_list


def find_warnings(context: Mapping[str, Any]) -> tuple[tuple[str, str], ...]:
    """Return the names of the dbt tests that warned, each with its result, which Astronomer Cosmos puts into the context."""
    names, results = context.get("test_names") or (), context.get("test_results") or ()
    return tuple(
        (_line(name, LINE_CHARS), "" if result is None else _line(result, LINE_CHARS))
        for name, result in zip(names, results, strict=False)
    )


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
    return isinstance(exception, str) and exception.startswith("{'DAG Id': ")


def _is_ended_by_trigger(context: Mapping[str, Any]) -> bool:
    """Return whether the trigger of a deferred task ended it as failed, so that no worker continued it."""
    if context.get("exception") is not None:
        return False
    ti = context.get("ti")
    if airflow_at_least(3, 0):
        # Only for this callback Airflow passes no run.
        return runs_elsewhere(ti) and "dag_run" not in context
    # Any other failure has an exception or a text.
    return getattr(ti, "state", None) in ("failed", "up_for_retry")
