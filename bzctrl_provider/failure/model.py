"""The failure of a run as a plain object, and the title and description that are generated from it.

``failure.lookup`` makes it from Airflow's context; nothing here asks Airflow for anything but its redaction.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from functools import cache, partial
from itertools import groupby
from typing import TYPE_CHECKING, Any, Literal

from bzctrl_provider.best_effort import exception_text
from bzctrl_provider.failure.reasons import Reason, format_check_results
from bzctrl_provider.fields import is_missing
from bzctrl_provider.text import (
    LINE_CHARS,
    LIST_ITEMS,
    NAME_CHARS,
    count,
    cut,
    format_span,
    is_email,
    list_names,
    names_in_brackets,
)

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping

_LOST = "Its process ended without an exception, for example because it was killed or never started."
_WITHOUT_EXCEPTION = "It left no exception: its process was killed or never started, a trigger ended it, or somebody marked it as failed."

_ENDS = {
    "failed": "failed",
    "skipped": "was skipped",
    "success": "succeeded",
    "up_for_retry": "is tried again",
}
"""The words for the states in which Airflow calls the callbacks of a task; another state is an adjective, such as ``running``."""

_RUN_ENDS = {"success": "the run succeeded", "timed_out": "the run timed out"}

Kind = Literal["checks", "task", "run", "deadline", "import"]


@dataclass(frozen=True, kw_only=True)
class FailedTask(Reason):
    """One task, or one mapped instance of a task, that failed; in its own callback, one that ended in any state.

    :param task_id: its id, with those of its task groups.
    :param map_index: its index if it is mapped, otherwise -1.
    :param operator: the name of its operator; None if Airflow does not know it.
    :param state: its state, such as ``failed``; ``warned`` if it has warnings.
    :param log_url: the address of its log in Airflow's UI.
    :param exception: the type and the message of its exception, redacted; None if ``remember_exception`` did not keep it.
    :param name: the name of a mapped instance, which its ``map_index_template`` gives; None if Airflow does not show it.
    :param checks: the checks of its operator that failed, each with ``check``, ``table``, ``column``, ``expected`` and
        ``actual``; empty if the operator keeps none.
    :param lost: whether it left no exception, for example because its process was killed.
    :param owner: its owner.
    :param warnings: the names of the dbt tests that warned, each with its result, as Astronomer Cosmos gives them to
        ``on_warning_callback``.
    :param log: the last lines of its log, redacted; None unless ``include_log_lines`` is set.
    """

    task_id: str
    map_index: int = -1
    operator: str | None = None
    state: str = "failed"
    log_url: str | None = None
    owner: str | None = None
    warnings: tuple[tuple[str, str], ...] = ()

    @property
    def outcome(self) -> str:
        """Return its end in words: ``failed``, ``was skipped``, ``has 2 warnings``."""
        if self.warnings:
            return f"has {count(len(self.warnings), 'warning')}"
        return _ENDS.get(self.state, f"is {self.state}")

    @property
    def label(self) -> str:
        """Return its id, with the name or the index of a mapped instance: ``validate[DHL]``, ``validate[3]``."""
        return self.task_id if self.map_index < 0 else f"{self.task_id}[{self.instance}]"

    @property
    def instance(self) -> str:
        """Return the name of a mapped instance, otherwise its index."""
        return self.name or str(self.map_index)


@dataclass(frozen=True, kw_only=True)
class Failure:
    """A failure, as far as Airflow's context shows it.

    In a callback after a success, a skip or a retry, it describes that instead.

    :param kind: where it was noticed: in an operator after its ``checks``, in the callback of one ``task``, in the
        callback of a DAG's ``run``, in a ``deadline`` alert, or in the ``import`` of a DAG file.
    :param tasks: the tasks that failed by themselves, by id and map index; empty if Airflow does not show them. In the
        callback of one task it is that task, with its state.
    :param instances: the number of instances of each task that was looked at.
    :param checks: the number of tasks directly before the operator.
    :param not_run: how many of them could not run, because a task before them failed.
    :param skipped: how many of them were skipped.
    :param did_not_run: the ids of the tasks after the failed ones that did not run because of them.
    :param not_updated: the names of the assets (or datasets) that failed tasks and those after them would have updated.
    :param dag_id: the DAG's id; empty for a DAG file.
    :param run_id: the run's id; empty for a DAG file.
    :param logical_date: the run's logical date in ISO 8601; None if it has none.
    :param try_number: the try, from 1, of the task in which it was noticed.
    :param owner: the owner of the DAG.
    :param run_url: the address of the run in Airflow's UI; for a DAG file that of the UI.
    :param reason: for a run Airflow's reason, such as ``task_failure`` or ``success``; for a deadline its time; for a DAG
        file the last line of the trace.
    :param file: the path of a DAG file that cannot be imported, relative to its bundle or to the DAGs folder.
    :param line: where it failed to be imported, such as ``orders.py, line 3``; None if the trace names only libraries.
    :param bundle: the name of its bundle, on Airflow 3.
    :param broken_since: when it was first seen broken, in ISO 8601.
    :param broken_for_s: how many seconds ago that was.
    """

    kind: Kind
    tasks: tuple[FailedTask, ...] = ()
    instances: Mapping[str, int] = field(default_factory=dict)
    checks: int = 0
    not_run: int = 0
    skipped: int = 0
    did_not_run: tuple[str, ...] = ()
    not_updated: tuple[str, ...] = ()
    dag_id: str
    run_id: str
    logical_date: str | None = None
    try_number: int | None = None
    owner: str | None = None
    run_url: str | None = None
    reason: str | None = None
    file: str | None = None
    line: str | None = None
    bundle: str | None = None
    broken_since: str | None = None
    broken_for_s: int = 0

    def __str__(self) -> str:
        return self.summary

    @property
    def task_ids(self) -> list[str]:
        """Return the ids of the tasks that failed, each once."""
        return list(dict.fromkeys(task.task_id for task in self.tasks))

    @property
    def state(self) -> str:
        """Return ``failed``; in a callback after something else, the state of the task or run."""
        if self.kind == "run" and self.reason == "success":
            return "success"
        return self.tasks[0].state if self.kind == "task" and self.tasks else "failed"

    @property
    def exception(self) -> str | None:
        """Return the first exception that is known."""
        return next((task.exception for task in self.tasks if task.exception), None)

    @property
    def assignee(self) -> str | None:
        """Return the e-mail address that is the owner of the failed tasks, otherwise that of the DAG.

        None if the owners are no e-mail addresses, or if there is more than one.
        """
        for owners in ([task.owner for task in self.tasks], [self.owner]):
            # Airflow joins the owners of a DAG's tasks by commas.
            names = {name.strip() for owner in owners if owner for name in owner.split(",")}
            addresses = [name for name in names if is_email(name)]
            if len(addresses) == 1:
                return addresses[0]
        return None

    @property
    def summary(self) -> str:
        """Return one line of at most 200 characters, for a title: ``customs: 2 of 5 checks failed (amounts, totals)``.

        Mapped instances with names have them, if there is room: ``customs: 1 of 5 checks failed (validate[DHL, GLS])``.
        """
        if self.kind == "import":
            end = ": the DAG file cannot be imported"
            # The name of the file is at the end of its path.
            return cut((self.file or "")[::-1], NAME_CHARS - len(end))[::-1] + end
        start = f"{self.dag_id}: {self._describe_outcome()}"
        if self._has_only_one():
            named = f"{self.dag_id}: {', '.join(self._labels())} failed"
            start = named if len(named) <= NAME_CHARS else start
        else:
            start += self._names(room=NAME_CHARS - len(start))
        return cut(start, NAME_CHARS)

    def _names(self, *, room: int) -> str:
        """Return in brackets what failed, or for a task what was warned of."""
        if self.kind not in ("checks", "run", "deadline"):
            return names_in_brackets([name for task in self.tasks for name, _ in task.warnings], room=room)
        named = f" ({', '.join(self._labels())})" if self.tasks else ""
        return named if len(named) <= room else names_in_brackets(self.task_ids, room=room)

    def _labels(self) -> Iterable[str]:
        """Return the ids of the tasks that failed, each with the names of its instances."""
        for task_id, tasks in self._group():
            names = [task.instance for task in tasks] if any(task.name for task in tasks) else []
            yield f"{task_id}[{', '.join(names)}]" if names else task_id

    @property
    def description(self) -> str:
        """Return the details in plain text, the same on every try of the same run."""
        return self.describe()

    def describe(self, *, link_to_run: bool = True) -> str:
        """Return the description, with or without the address of the run."""
        run_url = self.run_url if link_to_run else None
        parts = self._file_parts(run_url) if self.kind == "import" else self._run_parts(run_url)
        return "\n\n".join(filter(None, parts))

    def _run_parts(self, run_url: str | None) -> Iterable[str]:
        yield f"In the DAG {self.dag_id}, {self._describe_outcome()}."
        yield "\n".join(self._task_lines())
        did_not_run, not_updated = list_names(self.did_not_run), list_names(self.not_updated)
        yield _list_known({"Did not run": did_not_run, "Not updated": not_updated})
        known = {
            "Run": self.run_id,
            "Logical date": self.logical_date,
            "Owner": None if self.owner == "airflow" else self.owner,  # the default says nothing
            # Last, because they are long.
            **{
                f"Log of {task.label}": task.log_url
                for _, tasks in self._group()[:LIST_ITEMS]
                for task in tasks[:LIST_ITEMS]
            },
            "Airflow": run_url,
        }
        yield _list_known(known)

    def _file_parts(self, run_url: str | None) -> Iterable[str | None]:
        yield f"The DAG file {self.file} cannot be imported."
        yield f"{self.reason} ({self.line})" if self.line else self.reason
        broken = f"for {format_span(self.broken_for_s, least=2)}, since {self.broken_since}"
        yield _list_known({"Broken": broken, "Bundle": self.bundle, "Airflow": run_url})

    def _describe_outcome(self) -> str:
        """Return what failed in words, such as ``2 of 5 checks failed``."""
        failed = len(self.task_ids)
        if self.kind == "deadline":
            return self._describe_deadline()
        if self.kind == "task" and self.tasks:
            return f"{self.tasks[0].label} {self.tasks[0].outcome}"
        if self.kind == "checks" and self.not_run:
            of = "the check" if self.checks == 1 else f"{self.not_run} of {count(self.checks, 'check')}"
            return f"{count(failed, 'task')} failed, so that {of} did not run"
        if self._has_only_one():
            return f"{self.tasks[0].task_id} failed"
        if not failed:
            return _RUN_ENDS.get(self.reason or "", "the run failed")
        return f"{failed} of {self._count_all()} failed"

    def _count_all(self) -> str:
        return count(self.checks, "check") if self.kind == "checks" else count(len(self.instances), "task")

    def _has_only_one(self) -> bool:
        """Return whether the task that failed is the only one that was looked at."""
        total = {"checks": self.checks, "run": len(self.instances)}.get(self.kind)
        return total == len(self.task_ids) == 1 and not self.not_run

    def _describe_deadline(self) -> str:
        if late := len(self.task_ids):
            return f"{count(late, 'task')} {'is' if late == 1 else 'are'} late"
        return f"the deadline {self.reason} was missed" if self.reason else "a deadline was missed"

    def _group(self) -> list[tuple[str, list[FailedTask]]]:
        return [(task_id, list(of)) for task_id, of in groupby(self.tasks, lambda task: task.task_id)]

    def _task_lines(self) -> Iterable[str]:
        by_task = self._group()
        for task_id, tasks in by_task[:LIST_ITEMS]:
            yield self._task_line(task_id, tasks)
            named = len(tasks) > 1 or self._lists_instances(tasks[0])
            for task in tasks[:LIST_ITEMS]:
                # Only the callback of a task itself knows that its process ended.
                lost = _LOST if self.kind == "task" else _WITHOUT_EXCEPTION
                yield from _detail_lines(task, named=named, lost=lost)
        if len(by_task) > LIST_ITEMS:
            yield f"- and {len(by_task) - LIST_ITEMS} more"

    def _task_line(self, task_id: str, tasks: list[FailedTask]) -> str:
        first = tasks[0]
        operator = f" ({first.operator})" if first.operator else ""
        if not self._lists_instances(first):
            return f"- {first.label}{operator}: {first.state}"
        total = self.instances.get(task_id, len(tasks))
        instances = names_in_brackets([task.instance for task in tasks], room=LINE_CHARS)
        return f"- {task_id}{operator}: {len(tasks)} of {total} mapped failed{instances}"

    def _lists_instances(self, task: FailedTask) -> bool:
        return task.map_index >= 0 and self.kind != "task" and self.instances.get(task.task_id) != 1


def _list_known(facts: Mapping[str, str | None]) -> str:
    return "\n".join(f"{name}: {value}" for name, value in facts.items() if value)


def _detail_lines(task: FailedTask, *, named: bool, lost: str) -> Iterable[str]:
    """Return why a task failed.

    :param named: whether the lines begin with the name of the mapped instance, because there are others.
    :param lost: the sentence about a task that left no exception.
    """
    lines = [*_reason_lines(task, lost=lost), *_warning_lines(task)]
    if task.log:
        lines += ["Last lines of its log:", *(f"| {line}" for line in task.log.splitlines())]
    if named and task.checks:
        lines = [f"[{task.instance}]", *(f"  {line}" for line in lines)]
    elif named and lines:
        lines[0] = f"[{task.instance}] {lines[0]}"
    return (f"  {line}" for line in lines)


def _reason_lines(task: FailedTask, *, lost: str) -> list[str]:
    if task.checks:
        return format_check_results(task.checks, task_id=task.task_id)
    if task.exception:
        return task.exception.splitlines()
    return [lost] if task.lost else []


def _warning_lines(task: FailedTask) -> list[str]:
    lines = [f"{name}: {result}" if result else name for name, result in task.warnings[:LIST_ITEMS]]
    if more := task.warnings[LIST_ITEMS:]:
        lines.append(f"and {len(more)} more")
    return lines


class LazyFailure:
    """The ``failure`` of a template: it is looked up when a template first uses it, and at most once.

    :param context: Airflow's context.
    :param look_up: returns the failure of a context, such as ``lookup.describe_failure``.
    """

    def __init__(self, context: Mapping[str, Any], look_up: Callable[[Mapping[str, Any]], Failure]) -> None:
        self._resolve = cache(partial(look_up, context))

    def __getattr__(self, name: str) -> Any:
        if name.startswith("_"):  # Jinja and pickle look such names up on every object
            raise AttributeError(name)
        return getattr(self._resolve(), name)

    def __str__(self) -> str:
        return str(self._resolve())


def fill_text(
    failure: Failure | LazyFailure, fields: Mapping[str, Any], *, link_to_run: bool = True
) -> dict[str, Any]:
    """Return the fields of a todo with the title and the description generated from a failure, if they are unset.

    If nothing failed, the fields stay as they are.

    :param link_to_run: whether a generated description has the address of the run.
    """
    filled = dict(fields)
    for name in ("title", "description"):
        if _is_unset(filled.get(name)) and (failure.tasks or failure.kind in ("run", "deadline", "import")):
            filled[name] = failure.summary if name == "title" else failure.describe(link_to_run=link_to_run)
    return filled


def _is_unset(value: object) -> bool:
    return value is None or (isinstance(value, str) and not value.strip())


def as_text(value: object) -> object:
    """Return the text of a failure or an exception, None for a gap in a table, both also in a list; other values as they are.

    With ``render_template_as_native_obj=True`` the templates ``{{ failure }}`` and ``{{ exception }}`` give objects.
    """
    if isinstance(value, Failure | LazyFailure):
        return str(value)
    if isinstance(value, FailedTask):
        return value.label
    if isinstance(value, BaseException):
        return exception_text(value)
    if is_missing(value):
        return None
    return [as_text(item) for item in value] if isinstance(value, list | tuple) else value
