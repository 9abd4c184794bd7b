"""The environment of an Airflow in one folder with a connection to the sandbox: for the demo, the UI and the tests."""

from __future__ import annotations

import json
from pathlib import Path

DAGS_FOLDER = Path(__file__).parent.parent / "dags_examples"


def environment(home: Path, *, sandbox_url: str, api_port: int | None = None) -> dict[str, str]:
    """Return the environment variables; they have to be set before Airflow is imported.

    :param home: an empty folder, which becomes ``AIRFLOW_HOME``.
    :param sandbox_url: the URL of the sandbox.
    :param api_port: the port of Airflow's UI; without it, no UI is configured.
    """
    variables = {
        "AIRFLOW_HOME": str(home),
        "AIRFLOW__CORE__DAGS_FOLDER": str(DAGS_FOLDER),
        "AIRFLOW__CORE__LOAD_EXAMPLES": "False",
        "AIRFLOW__CORE__UNIT_TEST_MODE": "False",
        "AIRFLOW__DATABASE__SQL_ALCHEMY_CONN": f"sqlite:///{home}/airflow.db",
        "AIRFLOW_CONN_BZCTRL_DEFAULT": json.dumps(
            {
                "conn_type": "bzctrl",
                "host": sandbox_url,
                "login": "airflow@example.com",
                "password": "any password, it is the sandbox",
                "extra": {"domain_workspace": "EXA-CON-BUS-WOR"},
            }
        ),
        "AIRFLOW_CONN_SEA_PORTS_DB": json.dumps({"conn_type": "sqlite", "host": f"{home}/sea_ports.db"}),
    }
    if api_port:
        variables |= {
            "AIRFLOW__API__PORT": str(api_port),
            "AIRFLOW__API__HOST": "127.0.0.1",
            "AIRFLOW__API__BASE_URL": f"http://127.0.0.1:{api_port}",
            "AIRFLOW__CORE__EXECUTION_API_SERVER_URL": f"http://127.0.0.1:{api_port}/execution/",
        }
    return variables
