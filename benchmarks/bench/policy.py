"""The cost of the policy: of ``dag_policy`` for each DAG that is parsed, and of its listener for each run that fails in the scheduler."""

from __future__ import annotations

import os
import time
from datetime import UTC, datetime
from functools import partial
from types import SimpleNamespace
from typing import Any
from unittest.mock import patch

from airflow.sdk import DAG, BaseOperator
from airflow.sdk.bases.operator import chain
from airflow.serialization.serialized_objects import DagSerialization

from bench.databases import urls
from bench.worker import forked_rounds, log_at_info, run
from bzctrl_provider import policy
from bzctrl_provider.failed_runs import listener, reader, writer

_CALLS = 1000
_NOTED = 50
_TASKS = 20
_EXCLUDING = {
    "INCLUDE_TAGS": "finance, customs",
    "EXCLUDE_TAGS": "test",
    "INCLUDE_DAGS": "customs_*, declarations_*",
    "EXCLUDE_DAGS": "*_backfill, sandbox_*",
}


def _configure(options: dict[str, str]) -> None:
    for name, value in {"INCIDENT_ON_FAILED_RUN": "True", **options}.items():
        os.environ[f"AIRFLOW__BZCTRL__{name}"] = value


def _call(dag: DAG, options: dict[str, str]) -> float:
    """Return the CPU microseconds of a DAG, once the process has read the options and loaded what it needs."""
    _configure(options)
    policy.dag_policy(dag)
    began = time.process_time()
    for _ in range(_CALLS):
        policy.dag_policy(dag)
    return (time.process_time() - began) / _CALLS * 1e6


def _new_run(dag: Any, number: int) -> Any:
    """Return a run of the DAG whose first task failed; the look-up of its tasks is the scheduler's own."""
    tis = [
        SimpleNamespace(task_id=task_id, map_index=-1, state="upstream_failed" if index else "failed")
        for index, task_id in enumerate(sorted(dag.task_ids))
    ]
    return SimpleNamespace(
        dag_id=dag.dag_id,
        run_id=f"scheduled__{os.getpid()}_{number}",
        clear_number=0,
        start_date=datetime.now(UTC),
        logical_date=datetime.now(UTC),
        run_type="scheduled",
        dag=dag,
        get_task_instances=lambda: tis,
    )


def _fail(dag: Any, options: dict[str, str], runs: int) -> tuple[float, float]:
    """Return the seconds, and the CPU seconds, by which the listener makes the failure of a run longer."""
    _configure(options)
    listener._job_processes[:] = [os.getpid()]  # noqa: SLF001 - as on_starting does in a scheduler
    failed = [_new_run(dag, number) for number in range(runs + 1)]
    with patch.object(reader, "object_session", return_value=None):
        listener.on_dag_run_failed(dag_run=failed.pop(), msg="task_failure")
        began, began_cpu = time.perf_counter(), time.process_time()
        for dag_run in failed:
            listener.on_dag_run_failed(dag_run=dag_run, msg="task_failure")
    return (time.perf_counter() - began) / runs, (time.process_time() - began_cpu) / runs


def _note(dag: Any, url: str) -> tuple[float, float]:
    """Return the milliseconds of a failed run that is noted."""
    took_s, cpu_s = _fail(dag, {"DATABASE": url}, _NOTED)
    assert not writer.writer._runs  # noqa: SLF001 - all are in the store
    return took_s * 1e3, cpu_s * 1e3


def main(rounds: int) -> dict[str, list[float]]:
    """Return the CPU microseconds of a DAG and of a run that is not chosen, and the milliseconds of one that is noted."""
    log_at_info()
    with DAG("orders_by_country", schedule=None, tags={"sales", "daily"}) as dag:
        chain(*(BaseOperator(task_id=f"task_{number:02}") for number in range(_TASKS)))
    serialized = DagSerialization.from_dict(DagSerialization.to_dict(dag))
    empty = DAG("orders_by_country", schedule=None, tags={"sales", "daily"})
    stores = urls("policy")
    measured = forked_rounds(
        {
            "excluded": partial(_call, empty, _EXCLUDING),
            "applies": partial(_call, empty, {}),
            "run_excluded": partial(_fail, serialized, _EXCLUDING, _CALLS),
            **{f"noted_{name}": partial(_note, serialized, url) for name, url in stores.items()},
        },
        rounds,
    )
    return {
        "policy.excluded": measured["excluded"],
        "policy.applies": measured["applies"],
        "policy.run_excluded": [cpu_s * 1e6 for _, cpu_s in measured["run_excluded"]],
        **{
            f"policy.{what}_{name}": [values[position] for values in measured[f"noted_{name}"]]
            for name in stores
            for position, what in enumerate(("noted", "noted_cpu"))
        },
    }


if __name__ == "__main__":
    run(main)
