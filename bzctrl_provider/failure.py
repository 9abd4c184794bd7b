"""What failed in a run: from the context that Airflow gives to one plain object, and from that to a text."""

from __future__ import annotations

import logging
import re
import traceback
from dataclasses import dataclass, field
from functools import cached_property
from itertools import groupby
from typing import TYPE_CHECKING, Any, Literal
from urllib.parse import quote

from bzctrl_provider.text import plain_text

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Iterable, Mapping

    from airflow.providers.common.compat.sdk import Context

log = logging.getLogger(__name__)

EXCEPTION_XCOM_KEY = "bzctrl_exception"

_TITLE_CHARS = 200
_EXCEPTION_CHARS = 2000
_TASKS_SHOWN = 50
_INDEXES_SHOWN = 10
_EXCEPTIONS_SHOWN = 10

Kind = Literal["checks", "task", "run", "deadline"]


@dataclass(frozen=True, kw_only=True)
class FailedTask:
    """One task, or one mapped instance of a task, that failed.

    :param task_id: its id, with those of its task groups.
    :param map_index: its index where it is mapped, else -1.
    :param operator: the name of its operator; None where Airflow does not tell.
    :param state: its state, such as ``failed``.
    :param log_url: the address of its log in Airflow's UI.
    :param exception: the type and the message of what it raised, redacted; None where nobody remembered it.
    """

    task_id: str
    map_index: int = -1
    operator: str | None = None
    state: str = "failed"
    log_url: str | None = None
    exception: str | None = None

    @property
    def label(self) -> str:
        """Its id, with the index of a mapped instance: ``validate[3]``."""
        return self.task_id if self.map_index < 0 else f"{self.task_id}[{self.map_index}]"


@dataclass(frozen=True, kw_only=True)
class Failure:
    """What failed, as far as the context told.

    :param kind: whom it was told to: an operator after its ``checks``, the callback of one ``task``, the callback of a
        DAG's ``run``, or a ``deadline`` alert.
    :param tasks: those that failed by themselves, by id and map index; empty where Airflow does not tell.
    :param instances: the number of instances of each task that was looked at.
    :param checks: how many tasks stand right before the operator.
    :param not_run: how many of them could not run, because something before them failed.
    :param dag_id: the DAG's id.
    :param run_id: the run's id.
    :param logical_date: the run's logical date in ISO 8601; None where it has none.
    :param try_number: the try, from 1, of the task that it was told to.
    :param owner: whom the DAG belongs to.
    :param run_url: the address of the run in Airflow's UI.
    :param reason: what Airflow says of a failed run, such as ``task_failure``; of a deadline, when it was.
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
        """The ids of the tasks that failed, each once."""
        return list(dict.fromkeys(task.task_id for task in self.tasks))

    @property
    def exception(self) -> str | None:
        """The first exception that is known."""
        return next((task.exception for task in self.tasks if task.exception), None)

    @property
    def summary(self) -> str:
        """One line of at most 200 characters, for a title: ``customs: 2 of 5 checks failed (amounts, totals)``."""
        what = self._what_happened
        start = f"{self.dag_id}: {what}"
        if self.kind in ("checks", "run"):
            start += _join_limited(self.task_ids, _TITLE_CHARS - len(start))
        return _cut(start, _TITLE_CHARS)

    @property
    def description(self) -> str:
        """The whole story in plain text, the same on every try of the same run."""
        parts = [f"In the DAG {self.dag_id}, {self._what_happened}."]
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
    def _what_happened(self) -> str:
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
            elif self.kind == "task":
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


def describe_failure(context: Mapping[str, Any], *, in_callback: bool = False) -> Failure:
    """Tell what failed from a context: of an operator after its checks, of a callback, or of a deadline alert.

    It asks Airflow for states only where that cannot hang, and tells what the context has where it cannot ask.

    :param in_callback: whether it is the context of a callback. Where Airflow lost a worker, that of a task's callback has
        neither an exception nor a state to know it by.
    :raises Exception: whatever Airflow raises where the states are there to be asked for but cannot be had. To take
        that for "nothing failed" would lose an incident.
    """
    if "deadline" in context:
        return _missed_deadline(context)
    dag, ti = context.get("dag"), context.get("ti")
    if dag is None:  # an operator that is executed by hand
        return Failure(kind="checks", dag_id="", run_id="")
    run_id = str(context.get("run_id") or getattr(context.get("dag_run"), "run_id", ""))
    logical_date = context.get("logical_date") or getattr(context.get("dag_run"), "logical_date", None)
    kind = _kind(context, in_callback=in_callback)
    run = _RunAddress(dag.dag_id, run_id)
    return Failure(
        kind=kind,
        dag_id=dag.dag_id,
        run_id=run_id,
        logical_date=logical_date.isoformat() if logical_date else None,
        try_number=getattr(ti, "try_number", None),
        owner=getattr(dag, "owner", None) or None,
        run_url=run.url,
        reason=context.get("reason"),
        **(_own_task(context, run) if kind == "task" else _other_tasks(context, run, kind)),
    )


def _kind(context: Mapping[str, Any], *, in_callback: bool) -> Kind:
    if context.get("reason") is not None or (in_callback and context.get("ti") is None):
        return "run"
    if in_callback:
        return "task"
    state = _name(getattr(context.get("ti"), "state", None))
    return "task" if context.get("exception") is not None or state in ("failed", "up_for_retry") else "checks"


def _own_task(context: Mapping[str, Any], run: _RunAddress) -> dict[str, Any]:
    ti = context["ti"]
    index = -1 if ti.map_index is None else ti.map_index
    task = FailedTask(
        task_id=ti.task_id,
        map_index=index,
        operator=_operator(context["task"]),
        log_url=run.log_url(ti.task_id, index),
        exception=exception_text(context.get("exception")),
    )
    return {"tasks": (task,)}


def _other_tasks(context: Mapping[str, Any], run: _RunAddress, kind: Kind) -> dict[str, Any]:
    dag = context["dag"]
    checks = sorted(context["task"].upstream_task_ids) if kind == "checks" else []
    states = _states(
        context, with_all_before(dag, checks) if kind == "checks" else sorted(dag.task_ids), run.run_id, kind
    )
    root_failures = _root_failures(dag, checks, states) if kind == "checks" else set(states)
    found = [
        (task_id, index)
        for task_id in sorted(root_failures)
        for index, state in sorted(states[task_id].items())
        if state == "failed"
    ]
    exceptions = _remembered(context.get("ti"), found[:_EXCEPTIONS_SHOWN])
    tasks = tuple(
        FailedTask(
            task_id=task_id,
            map_index=index,
            operator=_operator(dag.get_task(task_id)),
            log_url=run.log_url(task_id, index),
            exception=exceptions.get((task_id, index)),
        )
        for task_id, index in found
    )
    return {
        "tasks": tasks,
        "instances": {task_id: len(of) for task_id, of in states.items()},
        "checks": len(checks),
        "not_run": sum("upstream_failed" in states.get(task_id, {}).values() for task_id in checks),
    }


class LazyFailure:
    """The ``failure`` of a template: told from the context when a template first looks at it, and not before."""

    def __init__(
        self, context: Mapping[str, Any], tell: Callable[[Mapping[str, Any]], Failure] | None = None
    ) -> None:
        self._context = context
        self._tell = tell or describe_failure
        self._failure: Failure | None = None

    def resolve(self) -> Failure:
        """Return the failure itself."""
        if self._failure is None:
            self._failure = self._tell(self._context)
        return self._failure

    def __getattr__(self, name: str) -> Any:
        if name.startswith("_"):  # of Jinja, pickle and the like, which ask whether something is there
            raise AttributeError(name)
        return getattr(self.resolve(), name)

    def __str__(self) -> str:
        return str(self.resolve())


def fill_text(failure: Failure | LazyFailure, fields: Mapping[str, Any]) -> dict[str, Any]:
    """Return the fields of a todo with the title and the description written from a failure, where they are unset.

    Nothing is told where nothing failed: the fields stay as they are.
    """
    told = dict(fields)
    for name, text in (("title", "summary"), ("description", "description")):
        value = told.get(name)
        unset = value is None or (isinstance(value, str) and not value.strip())
        if unset and (failure.tasks or failure.kind in ("run", "deadline")):
            told[name] = getattr(failure, text)
    return told


def exception_text(exception: object) -> str | None:
    """Return the type and the message of an exception, redacted by Airflow and at most 2,000 characters long.

    Of a longer one the end is kept as well: that is where most errors say what is wrong.
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

    Airflow tells a task downstream that another one failed, but not why. Put this into
    ``default_args={"on_failure_callback": remember_exception}``, or among the callbacks that are there already.
    """
    try:
        text = exception_text(context.get("exception"))
        if text:
            context["ti"].xcom_push(key=EXCEPTION_XCOM_KEY, value=text)
    except Exception:  # a callback for comfort must not spoil the others
        log.exception("The exception could not be kept for the incident.")


@dataclass(frozen=True)
class _RunAddress:
    """Where a run is in Airflow's UI."""

    dag_id: str
    run_id: str

    @property
    def url(self) -> str:
        return self._in_airflow_3 or f"{self._grid}"

    def log_url(self, task_id: str, map_index: int) -> str:
        if base := self._in_airflow_3:
            return f"{base}/tasks/{quote(task_id)}" + (f"/mapped/{map_index}" if map_index >= 0 else "")
        return f"{self._grid}&task_id={quote(task_id)}&map_index={map_index}&tab=logs"

    @cached_property
    def _in_airflow_3(self) -> str | None:
        from airflow.providers.common.compat.sdk import conf
        from airflow.providers.common.compat.version_compat import AIRFLOW_V_3_0_PLUS

        if not AIRFLOW_V_3_0_PLUS:
            return None
        # The same fallback as Airflow's own addresses have.
        base = conf.get("api", "base_url", fallback="http://localhost:8080/")
        return f"{base.rstrip('/')}/dags/{quote(self.dag_id)}/runs/{quote(self.run_id)}"

    @cached_property
    def _grid(self) -> str:
        from airflow.providers.common.compat.sdk import conf

        base = conf.get("webserver", "base_url").rstrip("/")
        return f"{base}/dags/{quote(self.dag_id)}/grid?dag_run_id={quote(self.run_id)}"


def _missed_deadline(context: Mapping[str, Any]) -> Failure:
    dag_run: Mapping[str, Any] = context.get("dag_run") or {}
    dag_id, run_id = str(dag_run.get("dag_id", "")), str(dag_run.get("dag_run_id", ""))
    return Failure(
        kind="deadline",
        dag_id=dag_id,
        run_id=run_id,
        logical_date=str(dag_run["logical_date"]) if dag_run.get("logical_date") else None,
        run_url=_RunAddress(dag_id, run_id).url,
        reason=str((context.get("deadline") or {}).get("deadline_time") or "") or None,
    )


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


def _root_failures(dag: Any, task_ids: Iterable[str], states: Mapping[str, Mapping[int, str]]) -> set[str]:
    """Return the tasks that failed by themselves and kept these from succeeding.

    A failure further up that a task between has dealt with (``all_done``, say) is none of them.
    """
    root_failures: set[str] = set()
    seen: set[str] = set()
    pending = list(task_ids)
    while pending:
        task_id = pending.pop()
        if task_id in seen:
            continue
        seen.add(task_id)
        own = states.get(task_id, {}).values()
        if "failed" in own:
            root_failures.add(task_id)
        if "upstream_failed" in own:
            pending += dag.get_task(task_id).upstream_task_ids
    return root_failures


def _states(
    context: Mapping[str, Any], task_ids: list[str], run_id: str, kind: Kind
) -> dict[str, dict[int, str]]:
    """Return for each task the state of each of its instances, by map index (-1 where it is not mapped)."""
    from airflow.providers.common.compat.version_compat import AIRFLOW_V_3_0_PLUS, AIRFLOW_V_3_1_PLUS

    states: dict[str, dict[int, str]] = {}
    if not AIRFLOW_V_3_0_PLUS:
        asked = set(task_ids)
        for ti in context["dag_run"].get_task_instances():
            if ti.task_id in asked:
                states.setdefault(ti.task_id, {})[ti.map_index] = _name(ti.state) or ""
        return states
    ti = context.get("ti")
    # In a DAG's callback on 3.0 the question hangs until Airflow kills the process.
    if ti is None or (kind == "run" and not AIRFLOW_V_3_1_PLUS):
        return {}

    def ask(some: list[str]) -> Mapping[str, Any]:
        answer = ti.get_task_states(dag_id=context["dag"].dag_id, task_ids=some, run_ids=[run_id])
        of_run: Mapping[str, Any] = answer.get(run_id, {})
        return of_run

    for some in _group_unambiguous(task_ids):
        known = set(some)
        for key, state in ask(some).items():
            task_id, index = _parse_state_key(key, known)
            states.setdefault(task_id, {})[index] = _name(state) or ""
    return states


def _group_unambiguous(task_ids: list[str]) -> list[list[str]]:
    """Group task ids so that, within a group, no instance of a mapped task looks like another task.

    Airflow answers ``{"validate_1": state}`` both for the task of that name and for the second instance of a mapped
    task ``validate``.
    """
    known = set(task_ids)
    lookalikes = {match[1] for task_id in task_ids if (match := re.fullmatch(r"(.+)_\d+", task_id))} & known
    together = [task_id for task_id in task_ids if task_id not in lookalikes]
    return [group for group in (together, *([task_id] for task_id in sorted(lookalikes))) if group]


def _parse_state_key(key: str, task_ids: Collection[str]) -> tuple[str, int]:
    if key not in task_ids and (match := re.fullmatch(r"(.+)_(\d+)", key)) and match[1] in task_ids:
        return match[1], int(match[2])
    return key, -1


def _remembered(ti: Any, found: Iterable[tuple[str, int]]) -> dict[tuple[str, int], str]:
    """Return the exceptions that ``remember_exception`` has kept."""
    exceptions = {}
    for task_id, index in found:
        try:
            text = ti.xcom_pull(
                task_ids=task_id, key=EXCEPTION_XCOM_KEY, map_indexes=index if index >= 0 else None
            )
        except Exception:  # the incident is worth more than its reason
            log.warning("The exception of %s could not be looked up.", task_id, exc_info=True)
            break
        if isinstance(text, str):
            exceptions[task_id, index] = text
    return exceptions


def _operator(task: Any) -> str | None:
    name = getattr(task, "operator_name", None) or getattr(task, "task_type", None)
    return str(name) if name else None


def _name(state: object) -> str | None:
    return None if state is None else str(getattr(state, "value", state))


def _count(number: int, thing: str) -> str:
    return f"{number} {thing}" if number == 1 else f"{number} {thing}s"


def _join_limited(words: list[str], room: int = 10**6, *, shown: int | None = None) -> str:
    """Return in brackets as many words as there is room for."""
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
