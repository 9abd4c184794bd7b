"""An Airflow in one folder with a connection to the sandbox and the DAG of README.md: for the demo, the UI and the tests."""

from __future__ import annotations

import json
import sqlite3
from pathlib import Path

ROOT = Path(__file__).parent.parent
DAGS_FOLDER = ROOT / "dags_examples"

README_DAG_ID = "declarations"


def write_readme_dag(folder: Path) -> Path:
    """Write the first Python code of README.md into a DAG file, and return the file."""
    _, _, rest = (ROOT / "README.md").read_text().partition("\n```python\n")
    code, _, _ = rest.partition("```\n")
    folder.mkdir(exist_ok=True)
    file = folder / f"{README_DAG_ID}.py"
    file.write_text(code)
    return file


def fill_warehouse(file: Path) -> None:
    """Create the tables that the DAG of README.md checks: 17 declarations have no amount, and one has a negative one."""
    with sqlite3.connect(file) as connection:
        connection.execute("CREATE TABLE declarations (number INTEGER, amount INTEGER)")
        amounts = [None] * 17 + [-80] + [1250] * 982
        connection.executemany("INSERT INTO declarations VALUES (?, ?)", enumerate(amounts, 1))
        connection.execute("CREATE TABLE ledger (due INTEGER, paid INTEGER)")
        connection.execute("INSERT INTO ledger VALUES (7500, 7500)")
    connection.close()


def environment(home: Path, *, sandbox_url: str, api_port: int | None = None) -> dict[str, str]:
    """Return the environment variables; they have to be set before Airflow is imported.

    The folder ``readme`` in ``home`` is for the DAG of README.md, and the file ``dwh.db`` is its warehouse.

    :param home: an empty folder, which becomes ``AIRFLOW_HOME``.
    :param sandbox_url: the URL of the sandbox.
    :param api_port: the port of Airflow's UI; without it, no UI is configured.
    """
    variables = {
        "AIRFLOW_HOME": str(home),
        "AIRFLOW__CORE__DAGS_FOLDER": str(DAGS_FOLDER),
        "AIRFLOW__DAG_PROCESSOR__DAG_BUNDLE_CONFIG_LIST": json.dumps(
            [
                {
                    "name": name,
                    "classpath": "airflow.dag_processing.bundles.local.LocalDagBundle",
                    "kwargs": {"path": str(folder)},
                }
                for name, folder in {"readme": home / "readme", "examples": DAGS_FOLDER}.items()
            ]
        ),
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
        "AIRFLOW_CONN_DWH": json.dumps({"conn_type": "sqlite", "host": f"{home}/dwh.db"}),
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
