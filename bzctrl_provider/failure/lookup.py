"""The look-up in Airflow: from the context of a task or a callback to a ``Failure``."""

from __future__ import annotations

import logging
import re
from collections import defaultdict
from typing import TYPE_CHECKING, Any
from urllib.parse import quote

from airflow.providers.common.compat.sdk import conf

from bzctrl_provider.airflow_compat import airflow_at_least
from bzctrl_provider.failure.dag_graph import find_consequences, get_mapped_group, with_all_before
from bzctrl_provider.failure.model import FailedTask, Failure, Kind
from bzctrl_provider.failure.reasons import (
    find_reason,
    find_warnings,
    read_reasons,
    remembers,
    runs_elsewhere,
)
from bzctrl_provider.settings import settings
from bzctrl_provider.text import parse_time

if TYPE_CHECKING:
    from collections.abc import Collection, Iterable, Mapping

    from bzctrl_provider.failure.reasons import Reason

log = logging.getLogger(__name__)

_QUERY_CHARS = 3500
"""Of one request for states: with the rest of its URL it stays below 4 KiB, which every proxy accepts."""


def describe_failure(context: Mapping[str, Any], *, in_callback: bool = False) -> Failure:
    """Return the failure of a context: of an operator after its checks, of a callback, or of a deadline alert.

    A callback may also be one after a success, a skip or a retry, or that of Astronomer Cosmos for warnings.

    Airflow is asked for states only in processes in which that cannot hang; otherwise the failure has only the facts of
    the context.

    :param in_callback: whether it is the context of a callback. If Airflow lost a worker, the context of a task's
        callback has neither an exception nor a state from which this could be seen.
    :raises Exception: Airflow's own error, if the states cannot be read. To take that for "nothing failed" would lose
        an incident.
    """
    if "deadline" in context:
        return _missed_deadline(context)
    if "slas" in context:
        return _missed_slas(context)
    dag = context.get("dag")
    if dag is None:  # the operator is executed outside Airflow
        return Failure(kind="checks", dag_id="", run_id="")
    run_id, logical_date = str(context.get("run_id") or ""), context.get("logical_date")
    kind = kind_of(context, in_callback=in_callback)
    run_url = find_run_address(dag.dag_id, run_id)
    of_kind = _own_task(context, run_url) if kind == "task" else _other_tasks(context, run_id, run_url, kind)
    return Failure(
        kind=kind,
        dag_id=dag.dag_id,
        run_id=run_id,
        logical_date=logical_date.isoformat() if logical_date else None,
        try_number=getattr(context.get("ti"), "try_number", None),
        owner=getattr(dag, "owner", None) or None,
        run_url=run_url,
        reason=context.get("reason"),
        **of_kind,
    )


def describe_callback(context: Mapping[str, Any]) -> Failure:
    """Return the failure of a callback, or only its run if the tasks cannot be looked up: a callback is the last chance."""
    try:
        return describe_failure(context, in_callback=True)
    except Exception as exc:  # noqa: BLE001 - whatever Airflow raises, the incident is worth more than its details
        log.warning("The failed tasks could not be looked up, so the incident names only the run: %r", exc)
        dag_id, run_id = getattr(context.get("dag"), "dag_id", ""), str(context.get("run_id") or "")
        return Failure(kind="run", dag_id=dag_id, run_id=run_id, reason=context.get("reason"))


def find_airflow_url() -> str:
    """Return the address of Airflow's UI."""
    section = "api" if airflow_at_least(3, 0) else "webserver"
    # The same fallback as in Airflow's own addresses.
    return str(conf.get(section, "base_url", fallback="http://localhost:8080/")).rstrip("/")


def find_run_url(context: Mapping[str, Any]) -> str | None:
    """Return the address of a context's run in Airflow's UI; None outside Airflow. Airflow is not asked for it."""
    dag, run_id = context.get("dag"), context.get("run_id")
    return find_run_address(dag.dag_id, run_id) if dag and run_id else None


def kind_of(context: Mapping[str, Any], *, in_callback: bool) -> Kind:
    """Return where a failure was noticed; a missed SLA of Airflow 2 is a deadline of tasks."""
    if "deadline" in context or "slas" in context:
        return "deadline"
    if context.get("reason") is not None or (in_callback and context.get("ti") is None):
        return "run"
    if in_callback:
        return "task"
    state = _name(getattr(context.get("ti"), "state", None))
    return "task" if context.get("exception") is not None or state in ("failed", "up_for_retry") else "checks"


def find_state(context: Mapping[str, Any]) -> str:
    """Return the state of the task of a callback: ``failed``, ``up_for_retry``, ``success``, ``skipped``, ``running``, ``warned``."""
    ti: Any = context.get("ti")
    state = _name(getattr(ti, "state", None))
    if state in ("failed", "up_for_retry"):
        return state
    if state not in ("success", "skipped"):
        # A function of the DAG's own calls the notifier.
        if isinstance(context.get("exception"), BaseException):
            return "failed"
        if runs_elsewhere(ti):
            return "failed" if ti.try_number > getattr(ti, "max_tries", 0) else "up_for_retry"
        state = "running"
    # Last: the warnings of an earlier callback may still be in the context of a failure.
    return "warned" if find_warnings(context) else state


def _own_task(context: Mapping[str, Any], run_url: str) -> dict[str, Any]:
    ti, state = context["ti"], find_state(context)
    index = -1 if ti.map_index is None else ti.map_index
    reason = find_reason(context, log_lines=settings().include_log_lines)
    more = {"state": state, "warnings": find_warnings(context) if state == "warned" else ()}
    task = new_failed_task(ti.task_id, index, run_url, reason, **read_operator(context["task"]), **more)
    blocking = {ti.task_id: index < 0} if state == "failed" else {}
    return {"tasks": (task,), **find_consequences(context["dag"], blocking)}


def _count_log_lines(context: Mapping[str, Any], kind: Kind) -> int:
    own: int | None = getattr(context.get("task"), "include_log_lines", None) if kind == "checks" else None
    return settings().include_log_lines if own is None else own


def _other_tasks(context: Mapping[str, Any], run_id: str, run_url: str, kind: Kind) -> dict[str, Any]:
    if context.get("reason") == "success":
        return {}
    dag = context["dag"]
    checks: list[str] = []
    if kind == "checks":
        checks = sorted(context["task"].upstream_task_ids)
        states, found = _find_failed_before(context, checks, run_id)
    else:
        states = _states(context, sorted(dag.task_ids), run_id, kind)
        found = find_failed(states, states)

    def read(key: str, task_id: str, index: int) -> object:
        return context["ti"].xcom_pull(task_ids=task_id, key=key, map_indexes=index if index >= 0 else None)

    lines = _count_log_lines(context, kind)
    reasons = read_reasons(found, read, lambda task_id: remembers(dag.get_task(task_id)), log_lines=lines)
    all_failed = {
        # Of a task in a mapped task group, only some instances are known here.
        task_id: not get_mapped_group(dag.get_task(task_id)) and "success" not in states[task_id].values()
        for task_id, _ in found
    }
    of_checks = [set(states.get(task_id, {}).values()) for task_id in checks]
    return {
        "tasks": tuple(
            new_failed_task(
                task_id, index, run_url, reasons[task_id, index], **read_operator(dag.get_task(task_id))
            )
            for task_id, index in found
        ),
        "instances": {task_id: len(of) for task_id, of in states.items()},
        "checks": len(checks),
        "not_run": sum("upstream_failed" in found_states for found_states in of_checks),
        "skipped": of_checks.count({"skipped"}),
        **find_consequences(dag, all_failed),
    }


def _find_failed_before(
    context: Mapping[str, Any], checks: list[str], run_id: str
) -> tuple[dict[str, dict[int, str]], list[tuple[str, int]]]:
    """Return the states of all tasks before a roll-up, and the instances whose failure it reports."""
    dag = context["dag"]
    states = _select_own_instances(context, _states(context, with_all_before(dag, checks), run_id, "checks"))
    # A failure further up does not count if a task between handled it, for example one with `all_done`.
    blocked = {task_id for task_id, of in states.items() if "upstream_failed" in of.values()}
    return states, find_failed(states, with_all_before(dag, checks, through=blocked))


def find_failed(states: Mapping[str, Mapping[int, str]], task_ids: Iterable[str]) -> list[tuple[str, int]]:
    """Return the ids and indexes of the instances of tasks that failed."""
    return [
        (task_id, index)
        for task_id in sorted(task_ids)
        for index, state in sorted(states.get(task_id, {}).items())
        if state == "failed"
    ]


def new_failed_task(task_id: str, index: int, run_url: str, reason: Reason, **more: Any) -> FailedTask:
    """Return an instance of a task that failed, with the address of its log.

    :param more: the rest of its attributes, such as those of ``read_operator``.
    """
    return FailedTask(
        task_id=task_id,
        map_index=index,
        log_url=_find_log_address(run_url, task_id, index),
        **vars(reason),
        **more,
    )


def find_run_address(dag_id: str, run_id: str) -> str:
    """Return the address of a run in Airflow's UI."""
    dag, run = f"{find_airflow_url()}/dags/{quote(dag_id)}", quote(run_id)
    return f"{dag}/runs/{run}" if airflow_at_least(3, 0) else f"{dag}/grid?dag_run_id={run}"


def _find_log_address(run_url: str, task_id: str, map_index: int) -> str:
    """Return the address of the log of a task, or of one instance of it, from that of its run."""
    task = quote(task_id)
    if not airflow_at_least(3, 0):
        return f"{run_url}&task_id={task}&map_index={map_index}&tab=logs"
    mapped = f"/mapped/{map_index}" if map_index >= 0 else ""
    return f"{run_url}/tasks/{task}{mapped}"


def _missed_deadline(context: Mapping[str, Any]) -> Failure:
    dag_run: Mapping[str, Any] = context.get("dag_run") or {}
    dag_id, run_id = str(dag_run.get("dag_id", "")), str(dag_run.get("dag_run_id", ""))
    return Failure(
        kind="deadline",
        dag_id=dag_id,
        run_id=run_id,
        logical_date=str(dag_run.get("logical_date") or "") or None,
        run_url=find_run_address(dag_id, run_id),
        reason=str(context["deadline"].get("deadline_time") or "") or None,
    )


def has_failed_in_time(context: Mapping[str, Any]) -> bool:
    """Return whether the run of a deadline alert failed before its deadline, which Airflow counts as missed as well."""
    dag_run, deadline = context.get("dag_run"), context.get("deadline")
    if not deadline or not dag_run or dag_run.get("state") != "failed":
        return False
    ended, due = parse_time(str(dag_run.get("end_date"))), parse_time(str(deadline.get("deadline_time")))
    return ended is not None and due is not None and ended <= due


def _missed_slas(context: Mapping[str, Any]) -> Failure:
    dag = context["dag"]
    slas = sorted(context["slas"], key=lambda sla: (sla.execution_date, sla.task_id))
    # Only scheduled runs have SLAs, and Airflow gives no more of them than their date.
    dates = [sla.execution_date.isoformat() for sla in slas]
    runs = [find_run_address(dag.dag_id, f"scheduled__{date}") for date in dates]
    return Failure(
        kind="deadline",
        tasks=tuple(
            FailedTask(task_id=sla.task_id, state="late", log_url=_find_log_address(run, sla.task_id, -1))
            for sla, run in zip(slas, runs, strict=True)
        ),
        dag_id=dag.dag_id,
        run_id=f"scheduled__{dates[-1]}",
        logical_date=dates[-1],
        owner=getattr(dag, "owner", None) or None,
        run_url=runs[-1],
    )


def _select_own_instances(
    context: Mapping[str, Any], states: dict[str, dict[int, str]]
) -> dict[str, dict[int, str]]:
    """Return the instances that a roll-up in a mapped task group is responsible for; all, if it is in none.

    These are the ones with its own map index. A task outside the group belongs to the group's first instance, so that a
    failure before the group is one incident. So does a task of the group that has the one instance -1: Airflow did not map
    it, because of such a failure.
    """
    group = get_mapped_group(context["task"])
    if group is None:
        return states
    dag, index = context["dag"], context["ti"].map_index
    own: dict[str, dict[int, str]] = {}
    for task_id, instances in states.items():
        if get_mapped_group(dag.get_task(task_id)) == group:
            own[task_id] = {at: state for at, state in instances.items() if at in (index, -1)}
        elif index < 1:
            own[task_id] = instances
    return own


def belongs_to_first_instance(dag: Any, task_id: str, roll_up: str) -> bool:
    """Return whether a failure of a task is raised by the first instance of a roll-up: that is in a mapped task group without it."""
    group = get_mapped_group(dag.get_task(roll_up))
    return group is not None and get_mapped_group(dag.get_task(task_id)) != group


def _states(
    context: Mapping[str, Any], task_ids: list[str], run_id: str, kind: Kind
) -> dict[str, dict[int, str]]:
    """Return for each task the state of each of its instances, by map index (-1 if it is not mapped)."""
    states: dict[str, dict[int, str]] = defaultdict(dict)
    if not airflow_at_least(3, 0):
        wanted = set(task_ids)
        # Tasks and callbacks of Airflow 2 can read its database.
        for found in context["dag_run"].get_task_instances():
            if found.task_id in wanted:
                states[found.task_id][found.map_index] = _name(found.state)
        return states
    ti = context.get("ti")
    # In a DAG's callback on 3.0 the request hangs until Airflow kills the process.
    if ti is None or (kind == "run" and not airflow_at_least(3, 1)):
        return {}
    dag_id = context["dag"].dag_id
    room = _QUERY_CHARS - len(quote(dag_id)) - len(quote(run_id))
    for part in _split(task_ids, room):
        response = ti.get_task_states(dag_id=dag_id, task_ids=part, run_ids=[run_id])
        for key, state in response.get(run_id, {}).items():
            task_id, index = _parse_state_key(key, part)
            states[task_id][index] = _name(state)
    return states


def _split(task_ids: list[str], room: int) -> Iterable[list[str]]:
    """Split task ids so that each part fits into one query, and no instance of a mapped task looks like another task of it.

    Airflow's response has the key ``validate_1`` both for the task of that name and for the second instance of a
    mapped task ``validate``, which is therefore a part of its own.

    :param room: how many characters of a query the ids of one part may have.
    """
    prefixes = {match[1] for task_id in task_ids if (match := re.fullmatch(r"(.+)_\d+", task_id))}
    together = [task_id for task_id in task_ids if task_id not in prefixes]
    longest = max((len("&task_ids=") + len(quote(task_id)) for task_id in together), default=1)
    size = max(room // longest, 1)
    for start in range(0, len(together), size):
        yield together[start : start + size]
    for task_id in sorted(prefixes.intersection(task_ids)):
        yield [task_id]


def _parse_state_key(key: str, task_ids: Collection[str]) -> tuple[str, int]:
    if key not in task_ids and (match := re.fullmatch(r"(.+)_(\d+)", key)) and match[1] in task_ids:
        return match[1], int(match[2])
    return key, -1


def read_operator(task: Any) -> dict[str, str | None]:
    """Return the name of a task's ``operator``, such as ``@task``, and its ``owner``; None for one that Airflow does not know."""
    name = getattr(task, "operator_name", None) or getattr(task, "task_type", None)
    return {"operator": str(name) if name else None, "owner": getattr(task, "owner", None) or None}


def _name(state: object) -> str:
    return "" if state is None else str(getattr(state, "value", state))
