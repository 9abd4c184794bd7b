"""The Airflow plugin of the provider.

Airflow loads it in each of its processes, by the entry point group ``airflow.plugins``, so it imports nothing heavy.
"""

from __future__ import annotations

from typing import Any

from airflow.plugins_manager import AirflowPlugin

from bzctrl_provider import preload
from bzctrl_provider.import_errors import listener


class BzCtrlPlugin(AirflowPlugin):
    """Add the listener for import errors, which an option switches on; the links of tasks come with their DAGs."""

    name = "bzctrl"
    listeners: list[Any] = [listener, preload]  # noqa: RUF012 - declared by Airflow
