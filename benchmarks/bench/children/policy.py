"""The cost of the deployment's policy for a DAG: switched off, excluded by all options, and with the notifier added."""

from __future__ import annotations

import json
import sys
import time
from functools import partial

from airflow.sdk import DAG

from bench.children.forked import settle
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


_EVERY_DAG = Settings(incident_on_failed_run=True)


def _return(settings: Settings) -> Settings:
    return settings


def main(rounds: int) -> dict[str, list[float]]:
    """Return the CPU microseconds of a DAG, round by round."""
    dag = DAG("orders_by_country", schedule=None, tags={"sales", "daily"})
    off = read_settings()
    assert not off.incident_on_failed_run
    measured: dict[str, list[float]] = {"off": [], "excluded": [], "applies": []}
    settle()
    # In this order: with the notifier, the policy loads modules that the others do without.
    for name, settings in (("off", off), ("excluded", _SETTINGS), ("applies", _EVERY_DAG)):
        for _ in range(rounds):
            policy.settings = partial(_return, settings)  # type: ignore[attr-defined, assignment]  # reading them is not measured
            began = time.process_time()
            for _ in range(_CALLS):
                policy.dag_policy(dag)
                added = bool(dag.on_failure_callback)
                dag.on_failure_callback = None  # as in the next DAG
            measured[name].append((time.process_time() - began) / _CALLS * 1e6)
            assert added == (name == "applies")
    return measured


if __name__ == "__main__":
    print(json.dumps(main(int(sys.argv[1]))))
