"""The cost of importing modules beyond Airflow's own classes, in fresh forks like those that parse DAG files."""

from __future__ import annotations

from functools import partial
from importlib import import_module

from airflow.listeners import hookimpl
from airflow.plugins_manager import AirflowPlugin
from airflow.sdk import DAG, BaseHook, BaseNotifier, BaseOperator, BaseOperatorLink

from bench.figures import ratios
from bench.worker import cpu_ms, forked_rounds, run

BASES = (DAG, BaseHook, BaseNotifier, BaseOperator, BaseOperatorLink, AirflowPlugin, hookimpl)
"""Airflow has loaded them when it parses a file or loads plugins."""

_MODULES = {
    "bash": "airflow.providers.standard.operators.bash",
    "operator": "bzctrl_provider.operators.bzctrl",
    "notifier": "bzctrl_provider.notifications.bzctrl",
    "plugin": "bzctrl_provider.plugin",
}


def main(rounds: int) -> dict[str, list[float]]:
    """Return the ratios of operator and notifier to the bash operator, and milliseconds of the others."""
    contestants = {name: partial(cpu_ms, partial(import_module, module)) for name, module in _MODULES.items()}
    measured = forked_rounds(contestants, rounds)
    return {
        "imports.operator": ratios(measured["operator"], measured["bash"]),
        "imports.notifier": ratios(measured["notifier"], measured["bash"]),
        "imports.plugin": measured["plugin"],
        "imports.bash": measured["bash"],
    }


if __name__ == "__main__":
    run(main)
