"""Whether a callback belongs to a run of ``airflow dags test``, ``airflow tasks test`` or ``DAG.test()``."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Mapping

_TESTS = frozenset(
    {
        ("airflow.models.dag", "test"),
        ("airflow.sdk.definitions.dag", "test"),
        ("airflow.cli.commands.task_command", "task_test"),
    }
)
"""The modules and functions that run a test, in Airflow 2.11 and 3.x; the commands call them."""


def is_test_run(context: Mapping[str, Any]) -> bool:
    """Return whether a developer started this run as a test.

    Airflow 3 marks such a run in its database, and not in the context of a task; 2.11 does not mark it. All of them
    run tasks and callbacks in the process of the test, below its function, unless it uses an executor. If a later Airflow
    changes all of this, the run counts as a real one, because an incident too many is better than one too few.
    """
    dag_run = context.get("dag_run")
    triggered_by = getattr(dag_run, "triggered_by", None)
    if getattr(triggered_by, "value", triggered_by) == "test":
        return True
    # With an executor, the context of a task has only the user's name, from 3.1 on.
    if getattr(dag_run, "triggering_user_name", None) == "dag_test":
        return True
    frame = sys._getframe()  # noqa: SLF001 - the documented way; `inspect` reads source files in addition
    while frame := frame.f_back:  # type: ignore[assignment]  # None ends the loop
        if (frame.f_globals.get("__name__"), frame.f_code.co_name) in _TESTS:
            return True
    return False
