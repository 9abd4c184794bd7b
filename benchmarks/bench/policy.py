"""The cost of the policy for DAGs that it does not concern: of ``dag_policy`` at each parse, and of the listener for each failed run."""

from __future__ import annotations

import os
import time
from functools import partial
from types import SimpleNamespace

from airflow.sdk import DAG

from bench.worker import forked_rounds, run
from bzctrl_provider import plugin, policy

_CALLS = 1000
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


def _fail(dag: DAG, options: dict[str, str]) -> float:
    """Return the CPU microseconds of a run that fails."""
    _configure(options)
    plugin._job_processes[:] = [os.getpid()]  # noqa: SLF001 - as on_starting does in a scheduler
    dag_run = SimpleNamespace(dag_id=dag.dag_id, dag=dag)
    plugin.on_dag_run_failed(dag_run=dag_run, msg="task_failure")
    began = time.process_time()
    for _ in range(_CALLS):
        plugin.on_dag_run_failed(dag_run=dag_run, msg="task_failure")
    return (time.process_time() - began) / _CALLS * 1e6


def main(rounds: int) -> dict[str, list[float]]:
    """Return the CPU microseconds of a DAG, and of a failed run that is not chosen."""
    dag = DAG("orders_by_country", schedule=None, tags={"sales", "daily"})
    return forked_rounds(
        {
            "policy.excluded": partial(_call, dag, _EXCLUDING),
            "policy.applies": partial(_call, dag, {}),
            "policy.run_excluded": partial(_fail, dag, _EXCLUDING),
        },
        rounds,
    )


if __name__ == "__main__":
    run(main)
