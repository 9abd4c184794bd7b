"""The version of Airflow, and all uses of what Airflow does not document as its public interface.

Each function fails closed if a later Airflow lacks an attribute: data is not rendered, a DAG keeps its own callbacks, or
a clear error is raised while the DAG is parsed. ``tests/unit/test_airflow_compat.py`` takes each attribute away.
"""

# ruff: noqa: SLF001 - the private names of Airflow are here, and nowhere else

from __future__ import annotations

import logging
import os
import sys
from collections.abc import Mapping, Sequence
from contextlib import suppress
from datetime import UTC, datetime, timedelta
from functools import cache
from typing import TYPE_CHECKING, Any

from airflow.providers.common.compat.sdk import BaseOperator

from bzctrl_provider.best_effort import best_effort, exception_text
from bzctrl_provider.text import TEXT_CHARS

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

log = logging.getLogger(__name__)


@cache
def airflow_version() -> tuple[int, int]:
    """Return Airflow's major and minor version, such as ``(3, 1)``; ``3.1.0rc1`` counts as 3.1."""
    from airflow import __version__

    major, minor, *_ = __version__.split(".")
    return int(major), int(minor)


def airflow_at_least(major: int, minor: int) -> bool:
    """Return whether Airflow has this version or a newer one."""
    return airflow_version() >= (major, minor)


def find_mapped_data(
    operator: BaseOperator, context: Mapping[str, Any], *, defaults: Iterable[object]
) -> list[Any]:
    """Return the values of a mapped task's fields that come from data, and not from the DAG file.

    Airflow renders the values that ``expand_kwargs`` takes from another task's result as if the DAG file had them, so
    that a template in the data could read any connection's password. (It does not render those of ``expand``.)

    :param operator: the instance that is about to be rendered.
    :param context: Airflow's context.
    :param defaults: the defaults of the operator's parameters, which are part of the code.
    :return: the values that must not be rendered. If this cannot be found out, all but the defaults.
    """
    in_dag_file = _get_partial_arguments(operator.task_id, context)
    if in_dag_file is None:
        return []
    values = [getattr(operator, name) for name in operator.template_fields if name != "op_kwargs"]
    known = [*in_dag_file.values(), *defaults]
    if op_kwargs := getattr(operator, "op_kwargs", None):  # a decorated function: each argument may be mapped
        values += op_kwargs.values()
        known += in_dag_file.get("op_kwargs", {}).values()
    # By identity: `expand_kwargs(strict=False)` may replace a value of `partial`.
    known_ids = set(map(id, known))
    return [value for value in values if id(value) not in known_ids]


def _get_partial_arguments(task_id: str, context: Mapping[str, Any]) -> dict[str, Any] | None:
    """Return the keyword arguments of a mapped task that are not mapped; None if no argument of this instance comes from data."""
    index = getattr(context.get("ti"), "map_index", None)
    if index is None or index < 0:
        return None
    try:
        mapped = context["dag"].get_task(task_id)
        if isinstance(mapped, BaseOperator) or not _maps_over_data(mapped, index):
            return None
        return dict(mapped.partial_kwargs)
    except Exception:
        log.exception(
            "The mapped values of this task are not rendered: with this version of Airflow it cannot be found out which of them come from data."
        )
        return {}


def _maps_over_data(mapped: Any, index: int) -> bool:
    """Return whether the keyword arguments of an instance are made by the run, and are not written in the DAG file."""
    expand_input = getattr(mapped, mapped._expand_input_attr)
    kind = type(expand_input).__name__
    if kind == "DictOfListsExpandInput":  # of `expand`
        return False
    if kind != "ListOfDictsExpandInput":
        raise TypeError(kind)
    mappings = expand_input.value  # an XComArg, or a list of mappings and XComArgs
    return not (isinstance(mappings, Sequence) and isinstance(mappings[index], Mapping))


def add_to_task_log(handler: Any) -> None:
    """Add a handler to the log of the task that runs in this process.

    Operators and hooks log with Python's logging, from Airflow 3.1 on also with structlog, which does not pass through it. Airflow 2
    logs in this process what a task prints, Airflow 3 in another one.

    :param handler: of Python's logging, with a method ``process`` that is a processor of structlog.
    """
    logging.getLogger().addHandler(handler)
    of_tasks = logging.getLogger("airflow.task")
    if not of_tasks.propagate:
        of_tasks.addHandler(handler)
    if not airflow_at_least(3, 0):
        return
    import structlog

    # In place, because loggers that were used already have this list. The last processor makes a text of the event.
    processors = structlog.get_config()["processors"]
    if handler.process not in processors:
        processors.insert(-1, handler.process)
    for stream in (sys.stdout, sys.stderr):
        # Airflow opens the channels to the other process by their numbers. In a test run, stdout has the log itself.
        if getattr(stream, "name", None) in (1, 2) and "write" not in vars(stream):
            stream.write = _copy_lines(stream.write, handler)  # type: ignore[method-assign]


def _copy_lines(write: Callable[[str], int], handler: Any) -> Callable[[str], int]:
    """Return a function that writes a text to a stream, and gives its lines to a handler."""
    pending = ""

    def write_and_copy(text: str) -> int:
        nonlocal pending
        written = write(text)
        *lines, pending = (pending + text).split("\n")
        # The end of a line without an end; the handler keeps half of it, without the half of a secret at its beginning.
        pending = pending[-2 * TEXT_CHARS :]
        for line in lines:
            handler.process(None, "info", {"event": line})
        return written

    return write_and_copy


def is_step_of_airflow(logger: object, module: str = "") -> bool:
    """Return whether a line of a task's log is not of its work, but of Airflow's steps around it.

    :param logger: the name of its logger.
    :param module: the module that logs it; unknown for structlog.
    """
    return logger == "task" or module == "taskinstance"


def is_mapped_instance(operator: BaseOperator) -> bool:
    """Return whether Airflow builds this operator from a mapped task, in a running task and not in a DAG file.

    If this cannot be found out, it is assumed: the fields are then checked when the task runs, and not earlier.
    """
    return bool(getattr(operator, "_BaseOperator__from_mapped", True))


def get_partial_kwargs(partial: Any) -> dict[str, Any]:
    """Return the keyword arguments of what ``partial()`` returned, to be changed in place.

    :raises TypeError: if this Airflow keeps them elsewhere.
    """
    kwargs = getattr(partial, "kwargs", None)
    if not isinstance(kwargs, dict):
        raise TypeError(
            "IncidentOnFailureOperator cannot be mapped with this version of Airflow, because it could not be made a teardown task. Use it without partial() and expand()."
        )
    return kwargs


def find_team(ti: Any) -> str | None:
    """Return the team of a DAG's bundle, which Airflow 3.3 attaches to a task instance for its metrics; None if unknown."""
    tags = getattr(ti, "stats_tags", None)
    return tags.get("team_name") if isinstance(tags, Mapping) else None


_AFTER_ALL_RUNS = datetime(9000, 1, 1, tzinfo=UTC)
"""In place of the present time: a success may be newer than the clock of this machine."""


def find_last_success(context: Mapping[str, Any], *, of_task: bool) -> float | None:
    """Return the end, in seconds since 1970, of the successful run of a DAG that has the latest logical date; None if there was none.

    Only the look-up of a task is public (``get_previous_ti``, from Airflow 3.2 on). ``get_previous_dagrun`` sees only runs
    before the own one: not the success after an incident, if an older run is cleared and fails.

    :param context: of a callback.
    :param of_task: whether the success of the task itself is looked up. On Airflow 3.0 and 3.1 that is a success in the
        last successful run.
    :return: None also if Airflow cannot be asked here: in a test run's callback of a DAG, and in a process whose parent
        does not know the request, which would hang.
    :raises Exception: Airflow's own error.
    """
    ti, dag_id = context.get("ti"), getattr(context.get("dag"), "dag_id", None)
    if not dag_id:
        return None
    task_id = getattr(ti, "task_id", None) if of_task else None
    index = getattr(ti, "map_index", None)
    index = -1 if index is None else index
    if not airflow_at_least(3, 0):
        return _read_last_success(dag_id, task_id, index)
    return _request_last_success(dag_id, ti, task_id, index)


def _request_last_success(dag_id: str, ti: Any, task_id: str | None, index: int) -> float | None:
    if task_id and (find_previous := getattr(ti, "get_previous_ti", None)):
        found = find_previous(state="success", logical_date=_AFTER_ALL_RUNS, map_index=index)
    else:
        found = _request_last_run(dag_id)
        # A run can be successful although the task failed.
        if found and task_id and not _succeeded_in(found.run_id, ti, index):
            return None
    return found.end_date.timestamp() if found else None


def find_last_successful_run(dag_id: str) -> float | None:
    """Return the same for a DAG in a delivery: a task, or a process with Airflow's database, such as the command line.

    :raises Exception: Airflow's own error.
    """
    if _find_api() is None:
        return _read_last_success(dag_id, None, -1)
    run = _request_last_run(dag_id)
    return run.end_date.timestamp() if run else None


def _find_api() -> Any:
    """Return the channel to Airflow's API that a task of Airflow 3 has; None in a process with Airflow's database."""
    if not airflow_at_least(3, 0):
        return None
    from airflow.sdk.execution_time import task_runner

    return getattr(task_runner, "SUPERVISOR_COMMS", None)


def _open_session() -> Any:
    """Return a session of Airflow's database, which is committed at the end of its block."""
    from airflow.utils.session import create_session

    return create_session()


def read_run_state(dag_id: str, run_id: str) -> str | None:
    """Return the state of a run, in a delivery; None if it cannot be found out, or there is no such run."""
    with best_effort("the look-up of the run's state"):
        if _find_api() is not None:
            from airflow.sdk.execution_time.task_runner import RuntimeTaskInstance

            return str(RuntimeTaskInstance.get_dagrun_state(dag_id=dag_id, run_id=run_id))
        from airflow.models.dagrun import DagRun

        with _open_session() as session:
            run = session.query(DagRun).filter_by(dag_id=dag_id, run_id=run_id).first()
            return str(run.state) if run else None
    return None


def read_xcom(key: str, *, dag_id: str, run_id: str, task_id: str, map_index: int) -> Any:
    """Return the XCom of a task of any run, in a delivery; None if there is none.

    :raises Exception: Airflow's own error.
    """
    of_task = {"key": key, "dag_id": dag_id, "run_id": run_id, "task_id": task_id, "map_index": map_index}
    if _find_api() is not None or not airflow_at_least(3, 0):
        from airflow.providers.common.compat.sdk import XCom

        return XCom.get_one(**of_task)
    from airflow.models.xcom import XComModel

    with _open_session() as session:
        row = session.query(XComModel).filter_by(**of_task).first()
        return XComModel.deserialize_value(row) if row else None


def _succeeded_in(run_id: str, ti: Any, index: int) -> bool:
    """Return whether a task was successful in a successful run; that is assumed where Airflow cannot be asked."""
    # In the DAG processor of 3.0, where a task instance has no state, the request would hang.
    if not airflow_at_least(3, 1) and getattr(ti, "state", None) is None:
        return True
    states = ti.get_task_states(dag_id=ti.dag_id, task_ids=[ti.task_id], run_ids=[run_id])
    name = ti.task_id if index < 0 else f"{ti.task_id}_{index}"
    return str(states.get(run_id, {}).get(name)) == "success"


def _read_last_success(dag_id: str, task_id: str | None, map_index: int) -> float | None:
    """Return it from Airflow's database, which tasks and callbacks of Airflow 2, and the command line, can read."""
    from airflow.models.dagrun import DagRun
    from airflow.models.taskinstance import TaskInstance

    date: Any = DagRun.logical_date if airflow_at_least(3, 0) else DagRun.execution_date
    successful = {"dag_id": dag_id, "state": "success"}
    with _open_session() as session:
        if task_id is None:
            query = session.query(DagRun.end_date).filter_by(**successful).filter(date.isnot(None))
        else:
            of_task = {**successful, "task_id": task_id, "map_index": map_index}
            query = session.query(TaskInstance.end_date).filter_by(**of_task).join(TaskInstance.dag_run)
        end: datetime | None = query.order_by(date.desc()).limit(1).scalar()
    return end.timestamp() if end else None


def _request_last_run(dag_id: str) -> Any:
    from airflow.sdk.execution_time.comms import GetPreviousDagRun

    comms = _find_api()
    processor = sys.modules.get("airflow.dag_processing.processor")
    known = str(getattr(processor, "ToManager", GetPreviousDagRun.__name__))
    if comms is None or GetPreviousDagRun.__name__ not in known:
        return None
    response = comms.send(GetPreviousDagRun(dag_id=dag_id, logical_date=_AFTER_ALL_RUNS, state="success"))
    return getattr(response, "dag_run", None)


_MARKS = "bzctrl"


def mark_dag(dag: Any, **marks: Any) -> None:
    """Note facts about a DAG that the scheduler cannot see, because its callbacks and classes are not serialized.

    Of what is serialized, the default arguments are the only place for data that nothing shows and nobody else reads.

    :param marks: plain JSON.
    """
    if isinstance(getattr(dag, "default_args", None), dict):
        dag.default_args = {**dag.default_args, _MARKS: marks}
    else:
        log.error("With this version of Airflow, the policy cannot mark a DAG.")


def read_marks(dag: Any) -> Mapping[str, Any]:
    """Return the facts that ``mark_dag`` has noted about a DAG; none if there are none."""
    arguments = getattr(dag, "default_args", None)
    marks = arguments.get(_MARKS) if isinstance(arguments, Mapping) else None
    return marks if isinstance(marks, Mapping) else {}


def use_metadata_database() -> None:
    """Let this process of the command line read connections and Variables from Airflow's database.

    Airflow 3.1 and newer do so only in processes that say so; ``airflow connections test`` sets the same. Others ignore it.
    """
    os.environ.setdefault("_AIRFLOW_PROCESS_CONTEXT", "server")


def find_database_error() -> str | None:
    """Return why this process of the command line cannot read Airflow's database, with the remedy; None if it can.

    If it cannot, the log of Airflow's look-ups is left out: it would have a trace for each connection and Variable.
    """
    from airflow.models.connection import Connection

    try:
        with _open_session() as session:
            session.query(Connection).limit(0).all()
    except Exception as exc:  # noqa: BLE001 - of SQLAlchemy, or of a driver that is not installed
        logging.getLogger("airflow.models").setLevel(logging.CRITICAL)
        why = (exception_text(getattr(exc, "orig", None) or exc) or "").partition("\n")[0]
        return f"Airflow's database cannot be read: {why}. Run `airflow db migrate`, or correct AIRFLOW_HOME or sql_alchemy_conn in the section [database]."
    return None


def read_server_variable(name: str) -> Any:
    """Return the text of an Airflow Variable in a process of the command line; None if there is none.

    Not the class of the task SDK: on Airflow 3.0 that needs a supervisor.
    """
    from airflow.models.variable import Variable

    return Variable.get(name, None)


def find_hosts() -> list[str]:
    """Return the hosts of Airflow's running components, from its database; none if that is not known."""
    with best_effort("the look-up of the hosts in Airflow's database"):
        from airflow.jobs.job import Job

        since = datetime.now(UTC) - timedelta(minutes=2)
        with _open_session() as session:
            rows = session.query(Job.hostname).filter(Job.state == "running", Job.latest_heartbeat > since)
            return sorted({row.hostname for row in rows if row.hostname})
    return []


def read_dag_facts(dag_id: str) -> dict[str, Any] | None:
    """Return ``tags``, ``owner``, ``team``, ``roll_ups`` and ``has_notifier`` of a DAG from Airflow's database.

    :param dag_id: the id of the DAG.
    :return: None if the database has no such DAG, or this process has no database.
    """
    with best_effort("the look-up of the DAG in Airflow's database"):
        from airflow.models.dag import DagModel

        with _open_session() as session:
            if dag := DagModel.get_dagmodel(dag_id, session=session):
                # Teams exist from Airflow 3.1 on.
                get_team_name = getattr(DagModel, "get_team_name", None)
                return {
                    "tags": sorted(tag.name for tag in dag.tags),
                    "owner": dag.owners,
                    "team": get_team_name(dag_id, session=session) if get_team_name else None,
                    **_read_serialized(dag_id, session),
                }
    return None


def _read_serialized(dag_id: str, session: Any) -> dict[str, Any]:
    """Return the tasks of a DAG that raise an incident, each with those before it, and whether the DAG has a notifier of its own."""
    from airflow.models.serialized_dag import SerializedDagModel

    row = SerializedDagModel.get(dag_id, session=session)
    dag = row.dag if row else None
    return {
        "roll_ups": {
            task.task_id: sorted(task.get_flat_relative_ids(upstream=True))
            for task in (dag.tasks if dag else ())
            if task.task_type == "IncidentOnFailureOperator"
        },
        "has_notifier": bool(read_marks(dag).get("has_notifier")),
    }


def add_link(task: Any, link: Any) -> None:
    """Add a link to one task, which may be mapped: Airflow 3 stores the links of each task with its DAG.

    A task whose class computes its links stays as it is.
    """
    links = getattr(task, "operator_extra_links", None)
    if not isinstance(links, tuple | list) or any(known.name == link.name for known in links):
        return
    with suppress(AttributeError):
        task.operator_extra_links = (*links, link)
