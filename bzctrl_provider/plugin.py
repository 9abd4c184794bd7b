"""The Airflow plugin of the provider.

Airflow loads it in each of its processes, by the entry point group ``airflow.plugins``, so it imports nothing heavy.
"""

from __future__ import annotations

from airflow.plugins_manager import AirflowPlugin


class BzCtrlPlugin(AirflowPlugin):
    """Adds nothing to Airflow: the links of tasks come with their DAGs."""

    name = "bzctrl"
