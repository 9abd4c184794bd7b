"""The listener for failed runs, in the scheduler.

Airflow loads it in each of its processes, so at its top it imports nothing but the mark for listeners. The scheduler calls
``on_dag_run_failed`` before it commits the run's state, and the run is written when it commits: a failure that is committed was
noted before. That looks no connection and no Variable up, waits at most one second for the store, and raises nothing.
"""

from __future__ import annotations

import logging
import os
import sys
from typing import Any, Final

from airflow.listeners import hookimpl

from bzctrl_provider.settings import settings

log = logging.getLogger(__name__)

_REASONS: Final = ("task_failure", "all_tasks_deadlocked")
"""With which ``DAG.test()`` calls it. The API server calls it with another text or none, if somebody marks a run as failed."""

_job_processes: Final[list[int]] = []
"""The process in which Airflow runs a job, such as the scheduler; a child that is forked from it finds that of its parent."""

_logged: Final[set[str]] = set()
"""The errors that this process has logged."""


@hookimpl
def on_starting() -> None:
    """Note that this process runs a job of Airflow; in a scheduler, show from now on that the listener is loaded. Never raises."""
    if _job_processes:
        return
    _job_processes.append(os.getpid())
    # Not from the component: Airflow calls this before the job has its type.
    if "scheduler" not in sys.argv[1:2]:
        return
    try:
        if settings().incident_on_failed_run:
            # With all that a failed run needs: to import it in the loop costs time.
            from bzctrl_provider.failed_runs.reader import begin

            begin()
    except Exception as exc:  # noqa: BLE001 - a scheduler that does not start is worse
        _log_failure(exc)


@hookimpl
def on_dag_run_failed(dag_run: Any, msg: str) -> None:
    """Note a run that failed, if the options choose its DAG. Never raises."""
    try:
        if not _applies(dag_run, msg):
            return
        from bzctrl_provider.failed_runs.reader import write_before_commit

        write_before_commit(dag_run, msg)
    except Exception as exc:  # noqa: BLE001 - the scheduler would end on Airflow 2
        _log_failure(exc)


def _applies(dag_run: Any, msg: str) -> bool:
    options = settings()
    if not options.incident_on_failed_run:
        return False
    tags = getattr(getattr(dag_run, "dag", None), "tags", None) or ()
    if not options.applies_to(dag_run.dag_id, tags):
        return False
    return os.getpid() in _job_processes or (options.in_test_runs and msg in _REASONS)


def _log_failure(exc: Exception) -> None:
    """Log an error, once per process: it may be the same for each run."""
    from bzctrl_provider.reason_text import exception_text

    text = exception_text(exc) or type(exc).__name__
    if text not in _logged:
        _logged.add(text)
        log.error(
            "The listener for failed runs has failed, so they may raise no incident in BzCtrl. %s", text
        )
