"""The cost of the deployment's policy for a DAG that it does not apply to: switched off, and excluded by all options."""

from __future__ import annotations

import json
import sys
import time
from functools import partial

from airflow.sdk import DAG

from bzctrl_provider import policy
from bzctrl_provider.settings import Settings
from bzctrl_provider.settings import settings as read_settings

_CALLS = 1000
_SETTINGS = Settings(
    incident_on_failed_run=True,
    include_tags=("finance", "customs"),
    exclude_tags=("test",),
    include_dags=("customs_*", "declarations_*"),
    exclude_dags=("*_backfill", "sandbox_*"),
)


def _return(settings: Settings) -> Settings:
    return settings


def main(rounds: int) -> dict[str, list[float]]:
    """Return the CPU microseconds of a DAG, round by round."""
    dag = DAG("orders_by_country", schedule=None, tags={"sales", "daily"})
    off = read_settings()
    assert not off.incident_on_failed_run
    measured: dict[str, list[float]] = {"off": [], "not_meant": []}
    for _ in range(rounds):
        for name, settings in (("off", off), ("not_meant", _SETTINGS)):
            policy.settings = partial(_return, settings)  # type: ignore[attr-defined, assignment]  # reading them is not measured
            began = time.process_time()
            for _ in range(_CALLS):
                policy.dag_policy(dag)
            measured[name].append((time.process_time() - began) / _CALLS * 1e6)
    assert not dag.on_failure_callback
    return measured


if __name__ == "__main__":
    print(json.dumps(main(int(sys.argv[1]))))
