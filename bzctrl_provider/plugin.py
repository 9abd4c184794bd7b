"""The Airflow plugin: the link "BzCtrl todo" of tasks whose callback raised an incident.

Airflow loads it in each of its processes, by the entry point group ``airflow.plugins``, so it imports nothing heavy.
"""

from __future__ import annotations

from typing import Any

from airflow.plugins_manager import AirflowPlugin

from bzctrl_provider.links.bzctrl import BzCtrlIncidentLink
from bzctrl_provider.version_compat import airflow_at_least


class BzCtrlPlugin(AirflowPlugin):
    """Adds one link to all tasks; Airflow shows it where there is one.

    Airflow 2 would show a disabled button on every task of the deployment, so it gets none.
    """

    name = "bzctrl"
    global_operator_extra_links: list[Any] = [  # noqa: RUF012 - declared by Airflow
        *([BzCtrlIncidentLink()] if airflow_at_least(3, 0) else [])
    ]
