"""The Airflow plugin of the provider, with the listeners that Airflow calls.

Airflow loads it in each of its processes, by the entry point group ``airflow.plugins``, so at its top it imports nothing heavy.
Nothing here raises: a process that does not start, or a lost import error, is worse than a lost incident.

The scheduler calls ``on_dag_run_failed`` before it commits the run's state, and the run is written when it commits: a failure
that is committed was noted before. That looks no connection and no Variable up, and waits at most one second for the store.

Airflow calls the functions for import errors after each parse of a broken file: Airflow 3 in the loop of the DAG processor,
Airflow 2 in the process that has parsed the file, in the middle of a transaction. So they look nothing up and wait for nothing.
"""

from __future__ import annotations

import logging
import os
import sys
from contextlib import contextmanager
from importlib import import_module
from operator import attrgetter
from typing import TYPE_CHECKING, Any, Final

from airflow.listeners import hookimpl
from airflow.plugins_manager import AirflowPlugin

from bzctrl_provider.settings import settings

if TYPE_CHECKING:
    from collections.abc import Iterator

log = logging.getLogger(__name__)

MODULES: Final = (
    # DAG files name these.
    "bzctrl_provider.decorators.bzctrl",
    "bzctrl_provider.notifications.bzctrl",
    "bzctrl_provider.operators.bzctrl",
    # A callback needs this until its incident is in the outbox.
    "bzctrl_provider.notifications.callback",
)
"""Those that are loaded in the DAG processor.

Airflow parses each DAG file and calls each callback of a DAG in a process that the DAG processor forks, so a module that
is not loaded there is loaded again by each of them, and so is what a first write into the outbox prepares.
"""

AIRFLOW_NAMES: Final = ("Stats", "task.bzctrl_todo")
"""Names that Airflow loads at their first use; ``task`` was more than half of the CPU time of a callback's process."""

_REASONS: Final = ("task_failure", "all_tasks_deadlocked")
"""With which ``DAG.test()`` calls it. The API server calls it with another text or none, if somebody marks a run as failed."""

_RUNS_LOST = "The listener for failed runs has failed, so they may raise no incident in BzCtrl."

_job_processes: Final[list[int]] = []
"""The process in which Airflow runs a job, such as the scheduler; a child that is forked from it finds that of its parent."""

_logged: Final[set[str]] = set()
"""The errors that this process has logged."""


class BzCtrlPlugin(AirflowPlugin):
    """The listeners for failed runs and for import errors, which options switch on; the links of tasks come with their DAGs."""

    name = "bzctrl"
    listeners: list[Any] = [sys.modules[__name__]]  # noqa: RUF012 - declared by Airflow


@hookimpl
def on_starting() -> None:
    """Note that this process runs a job of Airflow, and prepare it if it is a scheduler or the DAG processor."""
    # Not from the component: Airflow calls this before the job has its type.
    job = sys.argv[1:2]
    if not _job_processes:
        _job_processes.append(os.getpid())
        with _log_once(_RUNS_LOST):
            if job == ["scheduler"] and settings().incident_on_failed_run:
                # With all that a failed run needs: to import it in the loop costs time.
                from bzctrl_provider.failed_runs.scheduler import begin_heartbeat

                begin_heartbeat()
    if job == ["dag-processor"]:
        _preload()


def _preload() -> None:
    try:
        for module in MODULES:
            import_module(module)
        import_module("bzctrl_provider.outbox.writer").rehearse()
        attrgetter(*AIRFLOW_NAMES)(import_module("airflow.providers.common.compat.sdk"))
    except Exception as exc:  # noqa: BLE001 - without it, each process loads what it needs
        log.warning("The modules of callbacks could not be loaded in the DAG processor: %r", exc)


@hookimpl
def on_dag_run_failed(dag_run: Any, msg: str) -> None:
    """Note a run that failed, if the options choose its DAG."""
    with _log_once(_RUNS_LOST):
        options = settings()
        tags = getattr(getattr(dag_run, "dag", None), "tags", None) or ()
        is_chosen = options.incident_on_failed_run and options.applies_to(dag_run.dag_id, tags)
        if is_chosen and (os.getpid() in _job_processes or (options.in_test_runs and msg in _REASONS)):
            from bzctrl_provider.failed_runs.scheduler import write_before_commit

            write_before_commit(dag_run, msg)


@hookimpl
def on_new_dag_import_error(filename: str, stacktrace: str) -> None:
    """Note that a DAG file is broken that was not when it was last parsed."""
    _report(filename, stacktrace, is_new=True)


@hookimpl
def on_existing_dag_import_error(filename: str, stacktrace: str) -> None:
    """Note that a DAG file is still broken."""
    _report(filename, stacktrace, is_new=False)


def _report(filename: str, stacktrace: str, *, is_new: bool) -> None:
    with _log_once("A broken DAG file raises no incident in BzCtrl."):
        if settings().incident_on_import_error:
            from bzctrl_provider.import_errors.reporter import report

            report(filename, stacktrace, is_new=is_new)


@contextmanager
def _log_once(consequence: str) -> Iterator[None]:
    """Log an error of the block, once per process: it may be the same for each run, or for each file at each parse."""
    try:
        yield
    except Exception as exc:  # noqa: BLE001 - a scheduler would not start or end, and Airflow 2 would lose an import error
        from bzctrl_provider.best_effort import exception_text

        text = f"{consequence} {exception_text(exc)}"
        if text not in _logged:
            _logged.add(text)
            log.error("%s", text)  # noqa: TRY400 - its frames may show secrets
