"""The cost of importing modules beyond Airflow's own classes, in fresh forks like those that parse DAG files."""

from __future__ import annotations

import json
import sys
import time
from functools import partial
from importlib import import_module

from airflow.sdk import DAG, BaseHook, BaseNotifier, BaseOperator, BaseOperatorLink

from bench.children.forked import forked, settle

BASES = (DAG, BaseHook, BaseNotifier, BaseOperator, BaseOperatorLink)
"""Airflow loads them when they are first named."""


def cpu_ms(modules: str) -> dict[str, float]:
    """Return the CPU milliseconds of importing modules, which are separated by commas."""
    began = time.process_time()
    for module in modules.split(","):
        import_module(module)
    return {"cpu_ms": (time.process_time() - began) * 1e3}


def main(rounds: int, contestants: list[str]) -> list[list[float]]:
    """Return the CPU milliseconds of each contestant, round by round."""
    for modules in contestants:  # writes the bytecode that an installation has
        forked(partial(cpu_ms, modules))
    settle()
    return [[forked(partial(cpu_ms, modules))["cpu_ms"] for modules in contestants] for _ in range(rounds)]


if __name__ == "__main__":
    print(json.dumps({"measured": main(int(sys.argv[1]), sys.argv[2:])}))
