"""The listener that loads modules in the DAG processor, once, before it starts: the provider's, and those of ``@task``.

Airflow parses each DAG file and calls each callback of a DAG in a process that the DAG processor forks, so a module that
is not loaded there is loaded again by each of them, and so is what a first write into the outbox prepares. Airflow loads this module in each of its processes: at its top it
imports nothing but the mark for listeners.
"""

from __future__ import annotations

import logging
import sys
from importlib import import_module
from operator import attrgetter
from typing import Final

from airflow.listeners import hookimpl

log = logging.getLogger(__name__)

MODULES: Final = (
    # DAG files name these.
    "bzctrl_provider.decorators.bzctrl",
    "bzctrl_provider.notifications.bzctrl",
    "bzctrl_provider.operators.bzctrl",
    # A callback needs this until its incident is in the outbox.
    "bzctrl_provider.notifications.callback",
)

AIRFLOW_NAMES: Final = ("Stats", "task.bzctrl_todo")
"""Names that Airflow loads at their first use; ``task`` was more than half of the CPU time of a callback's process."""


@hookimpl
def on_starting() -> None:
    """Load the modules if this process is the DAG processor. Never raises."""
    # Not from the component: Airflow calls this before the job has its type.
    if "dag-processor" not in sys.argv[1:2]:
        return
    try:
        for module in MODULES:
            import_module(module)
        import_module("bzctrl_provider.outbox.writer").rehearse()
        attrgetter(*AIRFLOW_NAMES)(import_module("airflow.providers.common.compat.sdk"))
    except Exception as exc:  # noqa: BLE001 - without it, each process loads what it needs
        log.warning("The modules of callbacks could not be loaded in the DAG processor: %r", exc)
