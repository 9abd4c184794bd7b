"""The listener for import errors of DAG files.

Airflow loads it in each of its processes, so at its top it imports nothing but the mark for listeners. It calls the two
functions after each parse of a broken file: Airflow 3 in the loop of the DAG processor, Airflow 2 in the process that
has parsed the file, in the middle of a transaction. So they look nothing up, wait for nothing, and raise nothing.
"""

from __future__ import annotations

import logging

from airflow.listeners import hookimpl

from bzctrl_provider.settings import settings

log = logging.getLogger(__name__)

_logged: set[str] = set()
"""The errors that this process has logged."""


@hookimpl
def on_new_dag_import_error(filename: str, stacktrace: str) -> None:
    """Note that a DAG file is broken that was not when it was last parsed."""
    _report(filename, stacktrace, is_new=True)


@hookimpl
def on_existing_dag_import_error(filename: str, stacktrace: str) -> None:
    """Note that a DAG file is still broken."""
    _report(filename, stacktrace, is_new=False)


def _report(filename: str, stacktrace: str, *, is_new: bool) -> None:
    try:
        if not settings().incident_on_import_error:
            return
        from bzctrl_provider.import_errors.reporter import report

        report(filename, stacktrace, is_new=is_new)
    except Exception as exc:  # noqa: BLE001 - Airflow 2 would lose its own import error
        _log_failure(exc)


def _log_failure(exc: Exception) -> None:
    """Log an error, once per process: it may be the same for each file at each parse."""
    from bzctrl_provider.reason_text import exception_text

    text = exception_text(exc) or type(exc).__name__
    if text not in _logged:
        _logged.add(text)
        log.error("A broken DAG file raises no incident in BzCtrl. %s", text)
