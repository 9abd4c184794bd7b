"""The failure of a run as a plain object, and the title and description that are generated from it.

``failure_lookup`` makes it from Airflow's context; nothing here asks Airflow for anything but its redaction.
"""

from __future__ import annotations

import logging
import traceback
from dataclasses import dataclass, field
from itertools import groupby
from typing import TYPE_CHECKING, Any, Literal

from bzctrl_provider.text import plain_text

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping

    from airflow.providers.common.compat.sdk import Context

log = logging.getLogger(__name__)

EXCEPTION_XCOM_KEY = "bzctrl_exception"

_TITLE_CHARS = 200
_EXCEPTION_CHARS = 2000
_TASKS_SHOWN = 50
_INDEXES_SHOWN = 10

Kind = Literal["checks", "task", "run", "deadline"]


@dataclass(frozen=True, kw_only=True)
class FailedTask:
    """Describe one task, or one mapped instance of a task, that failed.

    :param task_id: its id, with those of its task groups.
    :param map_index: its index if it is mapped, otherwise -1.
    :param operator: the name of its operator; None if Airflow does not know it.
    :param state: its state, such as ``failed``.
    :param log_url: the address of its log in Airflow's UI.
    :param exception: the type and the message of its exception, redacted; None if ``remember_exception`` did not keep it.
    """

    task_id: str
    map_index: int = -1
    operator: str | None = None
    state: str = "failed"
    log_url: str | None = None
    exception: str | None = None

    @property
    def label(self) -> str:
        """Return its id, with the index of a mapped instance: ``validate[3]``."""
        return self.task_id if self.map_index < 0 else f"{self.task_id}[{self.map_index}]"


@dataclass(frozen=True, kw_only=True)
class Failure:
    """Describe what failed, as far as Airflow's context shows it.

    :param kind: where it was noticed: in an operator after its ``checks``, in the callback of one ``task``, in the
        callback of a DAG's ``run``, or in a ``deadline`` alert.
    :param tasks: the tasks that failed by themselves, by id and map index; empty if Airflow does not show them.
    :param instances: the number of instances of each task that was looked at.
    :param checks: the number of tasks directly before the operator.
    :param not_run: how many of them could not run, because a task before them failed.
    :param dag_id: the DAG's id.
    :param run_id: the run's id.
    :param logical_date: the run's logical date in ISO 8601; None if it has none.
    :param try_number: the try, from 1, of the task in which it was noticed.
    :param owner: the owner of the DAG.
    :param run_url: the address of the run in Airflow's UI.
    :param reason: for a failed run Airflow's reason, such as ``task_failure``; for a deadline its time.
    """

    kind: Kind
    tasks: tuple[FailedTask, ...] = ()
    instances: Mapping[str, int] = field(default_factory=dict)
    checks: int = 0
    not_run: int = 0
    dag_id: str
    run_id: str
    logical_date: str | None = None
    try_number: int | None = None
    owner: str | None = None
    run_url: str | None = None
    reason: str | None = None

    def __str__(self) -> str:
        return self.summary

    @property
    def task_ids(self) -> list[str]:
        """Return the ids of the tasks that failed, each once."""
        return list(dict.fromkeys(task.task_id for task in self.tasks))

    @property
    def exception(self) -> str | None:
        """Return the first exception that is known."""
        return next((task.exception for task in self.tasks if task.exception), None)

    @property
    def summary(self) -> str:
        """Return one line of at most 200 characters, for a title: ``customs: 2 of 5 checks failed (amounts, totals)``."""
        start = f"{self.dag_id}: {self._outcome}"
        if self.kind in ("checks", "run"):
            start += _join_limited(self.task_ids, _TITLE_CHARS - len(start))
        return _cut(start, _TITLE_CHARS)

    @property
    def description(self) -> str:
        """Return the details in plain text, the same on every try of the same run."""
        parts = [f"In the DAG {self.dag_id}, {self._outcome}."]
        if self.tasks:
            parts.append("\n".join(self._task_lines()))
        known = {
            "Run": self.run_id,
            "Logical date": self.logical_date,
            "Owner": self.owner,
            "Airflow": self.run_url,
        }
        parts.append("\n".join(f"{name}: {value}" for name, value in known.items() if value))
        return "\n\n".join(parts)

    @property
    def _outcome(self) -> str:
        failed = len(self.task_ids)
        if self.kind == "deadline":
            return f"the deadline {self.reason} was missed" if self.reason else "a deadline was missed"
        if self.kind == "task" and self.tasks:
            return f"{self.tasks[0].label} failed"
        if self.kind == "checks" and self.not_run:
            return f"{_count(failed, 'task')} failed, so that {self.not_run} of {_count(self.checks, 'check')} did not run"
        if self.kind == "checks" and failed:
            return f"{failed} of {_count(self.checks, 'check')} failed"
        if failed:
            return f"{failed} of {_count(len(self.instances), 'task')} failed"
        return "the run timed out" if self.reason == "timed_out" else "the run failed"

    def _task_lines(self) -> Iterable[str]:
        by_task = [(task_id, list(of)) for task_id, of in groupby(self.tasks, lambda task: task.task_id)]
        for task_id, tasks in by_task[:_TASKS_SHOWN]:
            first = tasks[0]
            operator = f" ({first.operator})" if first.operator else ""
            if first.map_index < 0:
                yield f"- {task_id}{operator}: {first.state}"
            elif self.kind == "task" or self.instances.get(task_id) == 1:
                yield f"- {first.label}{operator}: {first.state}"
            else:
                total = self.instances.get(task_id, len(tasks))
                indexes = _join_limited([str(task.map_index) for task in tasks], shown=_INDEXES_SHOWN)
                yield f"- {task_id}{operator}: {len(tasks)} of {total} mapped failed{indexes}"
            for task in tasks:
                if task.exception:
                    index = f"[{task.map_index}] " if task.map_index >= 0 else ""
                    yield "\n".join(f"  {line}" for line in f"{index}{task.exception}".splitlines())
            if first.log_url:
                yield f"  Log: {first.log_url}"
        if len(by_task) > _TASKS_SHOWN:
            yield f"- and {len(by_task) - _TASKS_SHOWN} more"


class LazyFailure:
    """Provide the ``failure`` of a template; it is looked up when a template first uses it, and at most once.

    :param context: Airflow's context.
    :param look_up: returns the failure of a context, such as ``failure_lookup.describe_failure``.
    """

    def __init__(self, context: Mapping[str, Any], look_up: Callable[[Mapping[str, Any]], Failure]) -> None:
        self._context = context
        self._look_up = look_up
        self._failure: Failure | None = None

    def resolve(self) -> Failure:
        """Return the failure itself."""
        if self._failure is None:
            self._failure = self._look_up(self._context)
        return self._failure

    def __getattr__(self, name: str) -> Any:
        if name.startswith("_"):  # Jinja and pickle look such names up on every object
            raise AttributeError(name)
        return getattr(self.resolve(), name)

    def __str__(self) -> str:
        return str(self.resolve())


def fill_text(failure: Failure | LazyFailure, fields: Mapping[str, Any]) -> dict[str, Any]:
    """Return the fields of a todo with the title and the description generated from a failure, if they are unset.

    If nothing failed, the fields stay as they are.
    """
    filled = dict(fields)
    for name, text in (("title", "summary"), ("description", "description")):
        value = filled.get(name)
        unset = value is None or (isinstance(value, str) and not value.strip())
        if unset and (failure.tasks or failure.kind in ("run", "deadline")):
            filled[name] = getattr(failure, text)
    return filled


def as_text(value: object) -> object:
    """Return the text of a failure or an exception, also within a list, and any other value as it is.

    With ``render_template_as_native_obj=True`` the templates ``{{ failure }}`` and ``{{ exception }}`` give objects.
    """
    if isinstance(value, Failure | LazyFailure):
        return str(value)
    if isinstance(value, FailedTask):
        return value.label
    if isinstance(value, BaseException):
        return exception_text(value)
    return [as_text(item) for item in value] if type(value) in (list, tuple) else value  # type: ignore[attr-defined]


def exception_text(exception: object) -> str | None:
    """Return the type and the message of an exception, redacted by Airflow, in at most 2,000 characters.

    A longer one keeps its beginning and its last line, because most errors give their cause there.
    """
    if exception is None:
        return None
    from airflow.providers.common.compat.sdk import redact

    if isinstance(exception, BaseException):
        exception = "".join(traceback.format_exception_only(exception))
    text = plain_text(str(redact(str(exception)))).strip()
    if len(text) <= _EXCEPTION_CHARS:
        return text
    last = _cut(text.rsplit("\n", 1)[-1], _EXCEPTION_CHARS // 2)
    return f"{text[: _EXCEPTION_CHARS - len(last) - 3]}\n…\n{last}"


def remember_exception(context: Context) -> None:
    """Keep a task's exception for the incident that is raised after it, as an XCom of the task.

    Airflow shows the state of a failed task to the tasks after it, but not the exception. Put this into
    ``default_args={"on_failure_callback": remember_exception}``, or add it to the callbacks that are there already.
    """
    try:
        text = exception_text(context.get("exception"))
        if text:
            context["ti"].xcom_push(key=EXCEPTION_XCOM_KEY, value=text)
    except Exception:  # an optional callback must not break the others
        log.exception("The exception could not be kept for the incident.")


def _count(number: int, thing: str) -> str:
    return f"{number} {thing}" if number == 1 else f"{number} {thing}s"


def _join_limited(words: list[str], room: int = 10**6, *, shown: int | None = None) -> str:
    """Return as many words as fit into the room, in brackets."""
    text = ""
    for number, word in enumerate(words[:shown], 1):
        longer = f"{text}, {word}" if text else word
        end = "" if number == len(words) else ", …"
        if len(longer) + len(end) + 3 > room:
            break
        text = longer
    else:
        return f" ({text}{', …' if shown and shown < len(words) else ''})" if text else ""
    return f" ({text}, …)" if text else ""


def _cut(text: str, chars: int) -> str:
    return text if len(text) <= chars else f"{text[: chars - 1]}…"
