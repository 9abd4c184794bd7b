"""The Airflow plugin of the provider.

Airflow loads it in each of its processes, by the entry point group ``airflow.plugins``, so it imports nothing heavy.
"""

from __future__ import annotations

from typing import Any

from airflow.plugins_manager import AirflowPlugin

from bzctrl_provider import preload
from bzctrl_provider.failed_runs import listener as failed_runs
from bzctrl_provider.import_errors import listener as import_errors


class BzCtrlPlugin(AirflowPlugin):
    """Add the listeners for failed runs and for import errors, which options switch on; the links of tasks come with their DAGs."""

    name = "bzctrl"
    listeners: list[Any] = [failed_runs, import_errors, preload]  # noqa: RUF012 - declared by Airflow
