"""The growth of the cost with the todos of one process, and with the failed tasks of one incident."""

from __future__ import annotations

import json
import sys
import time
from typing import Any

from bench.children.forked import settle
from bench.children.worker import log_at_info
from bench.todo import FIELDS


def todos(number: int) -> dict[str, float]:
    """Return the seconds of so many todos one after another, with all that the first one brings along."""
    from airflow.providers.common.compat.sdk import BaseHook  # noqa: F401 - a task has it already

    began = time.perf_counter()
    from bzctrl_provider.hooks.bzctrl import BzCtrlHook

    hook = BzCtrlHook()
    for _ in range(number):
        hook.create_todo(FIELDS)
    return {"seconds": time.perf_counter() - began}


class _TaskInstance:
    """Answers like Airflow's: every task but the incident's own failed, and none remembered why."""

    def __init__(self, states: dict[str, str]) -> None:
        self._states = states
        self.state = "running"
        self.try_number = 1

    def get_task_states(self, *, run_ids: list[str], **_: Any) -> dict[str, dict[str, str]]:
        return {run_ids[0]: self._states}

    def xcom_pull(self, **_: Any) -> None:
        return None


def failures(number: int, is_mapped: str) -> dict[str, float]:
    """Return the CPU seconds and the length of the text about so many failed tasks, or instances of one mapped task."""
    from airflow.providers.standard.operators.empty import EmptyOperator
    from airflow.sdk import DAG

    from bzctrl_provider.failure_lookup import describe_failure
    from bzctrl_provider.operators.bzctrl import IncidentOnFailureOperator

    task_ids = ["check"] if is_mapped == "mapped" else [f"check_{index}" for index in range(number)]
    with DAG("growth", schedule=None) as dag:
        raise_incident = IncidentOnFailureOperator(task_id="raise_incident")
        for task_id in task_ids:
            EmptyOperator(task_id=task_id) >> raise_incident
    keys = [f"check_{index}" for index in range(number)]
    context = {
        "dag": dag,
        "task": raise_incident,
        "ti": _TaskInstance(dict.fromkeys(keys, "failed")),
        "run_id": "manual__2026-01-01",
    }
    settle()  # a pass over a DAG of 10,000 tasks would be ours or not by chance
    began = time.process_time()
    failure = describe_failure(context)
    text = failure.summary + failure.description
    took = time.process_time() - began
    assert len(failure.tasks) == number
    return {"seconds": took, "characters": len(text)}


if __name__ == "__main__":
    log_at_info()
    what, *arguments = sys.argv[1:]
    answer = todos(int(arguments[0])) if what == "todos" else failures(int(arguments[0]), arguments[1])
    print(json.dumps(answer))
