"""The cost of the deployment's policy for a DAG that all options exclude, and for one that gets the notifier."""

from __future__ import annotations

import os
import time
from functools import partial

from airflow.sdk import DAG

from bench.worker import forked_rounds, run
from bzctrl_provider import policy

_CALLS = 1000
_EXCLUDING = {
    "INCLUDE_TAGS": "finance, customs",
    "EXCLUDE_TAGS": "test",
    "INCLUDE_DAGS": "customs_*, declarations_*",
    "EXCLUDE_DAGS": "*_backfill, sandbox_*",
}


def _call(dag: DAG, options: dict[str, str], *, applies: bool) -> float:
    """Return the CPU microseconds of a DAG, once the process has read the options and loaded what it needs."""
    for name, value in {"INCIDENT_ON_FAILED_RUN": "True", **options}.items():
        os.environ[f"AIRFLOW__BZCTRL__{name}"] = value
    policy.dag_policy(dag)
    assert bool(dag.on_failure_callback) == applies
    began = time.process_time()
    for _ in range(_CALLS):
        dag.on_failure_callback = None  # as in the next DAG
        policy.dag_policy(dag)
    return (time.process_time() - began) / _CALLS * 1e6


def main(rounds: int) -> dict[str, list[float]]:
    """Return the CPU microseconds of a DAG."""
    dag = DAG("orders_by_country", schedule=None, tags={"sales", "daily"})
    return forked_rounds(
        {
            "policy.excluded": partial(_call, dag, _EXCLUDING, applies=False),
            "policy.applies": partial(_call, dag, {}, applies=True),
        },
        rounds,
    )


if __name__ == "__main__":
    run(main)
