"""Broken DAG files, parsed by the DAG processor of the installed Airflow."""

from __future__ import annotations

import json
import os
import subprocess
import sys

import pytest
from support.airflow_versions import VERSION
from support.store import read

from bzctrl_provider.outbox import deliver
from bzctrl_provider.store.database import database

pytestmark = pytest.mark.usefixtures("_database")

PARSE = """
import json, logging, sys
from pathlib import Path

folder = Path(sys.argv[1])
if sys.argv[2] == "3":
    from airflow.dag_processing.manager import DagFileProcessorManager

    DagFileProcessorManager(max_runs=1).run()
else:
    from airflow.dag_processing.processor import DagFileProcessor

    for file in sorted(folder.rglob("*.py")):
        DagFileProcessor(dag_ids=[], dag_directory=str(folder), log=logging.getLogger()).process_file(str(file), [])

from airflow.models.errors import ParseImportError
from airflow.utils.session import create_session

with create_session() as session:
    print("RESULT" + json.dumps([Path(error.filename).name for error in session.query(ParseImportError).all()]))
"""

BROKEN = "# airflow dag\nimport nothing_here\n"
REPAIRED = "# airflow dag\nfrom airflow import DAG\n\ndag = DAG('orders', schedule=None)\n"


@pytest.fixture
def dags(tmp_path):
    """Return a folder of DAG files, of which one is in a subfolder."""
    (tmp_path / "dags" / "customs").mkdir(parents=True)
    return tmp_path / "dags"


@pytest.fixture
def parse(tmp_path, dags, bzctrl_sandbox):
    """Return a function that parses all files once, as a new DAG processor, and returns its import errors."""
    bundle = {
        "name": "company",
        "classpath": "airflow.dag_processing.bundles.local.LocalDagBundle",
        "kwargs": {"path": str(dags)},
    }
    routes = tmp_path / "routes.toml"
    routes.write_text('[[route]]\nfiles = ["customs/*"]\npriority = "HIGH"\n')
    environment = os.environ | {
        "AIRFLOW__CORE__DAGS_FOLDER": str(dags),
        "AIRFLOW__DAG_PROCESSOR__DAG_BUNDLE_CONFIG_LIST": json.dumps([bundle]),
        "AIRFLOW__BZCTRL__ROUTES_PATH": str(routes),
        "AIRFLOW__BZCTRL__INCIDENT_ON_IMPORT_ERROR": "True",
        "AIRFLOW__BZCTRL__IMPORT_ERROR_GRACE_S": "0",
    }

    def run():
        done = subprocess.run(
            [sys.executable, "-W", "ignore", "-c", PARSE, str(dags), str(VERSION[0])],
            env=environment,
            capture_output=True,
            text=True,
            timeout=300,
            check=True,
        )
        (result,) = [line for line in done.stdout.splitlines() if line.startswith("RESULT")]
        return json.loads(result.removeprefix("RESULT"))

    return run


def test_a_broken_dag_file_raises_one_incident_until_it_is_clean(dags, parse, bzctrl_sandbox):
    """One for the first error, none for the next parse and after a restart, one more after a repair: the parse sends nothing, and a delivery does; Airflow shows its own."""
    file = dags / "customs" / "orders.py"
    file.write_text(BROKEN)
    assert parse() == ["orders.py"]
    assert bzctrl_sandbox.requests == []
    deliver()
    (todo,) = bzctrl_sandbox.todos
    assert todo["title"] == "customs/orders.py: the DAG file cannot be imported"
    assert (
        "\n\nModuleNotFoundError: No module named 'nothing_here' (orders.py, line 2)\n\n"
        in todo["description"]
    )
    assert "\nAirflow: http" in todo["description"]
    assert todo["orderID"] == "customs/orders.py"
    assert todo["priority"] == "HIGH"

    assert parse() == ["orders.py"]
    file.write_text(REPAIRED)
    assert parse() == []
    assert read(database()) == []

    file.write_text(BROKEN)
    assert parse() == ["orders.py"]
    deliver()
    assert len(bzctrl_sandbox.todos) == 2


def test_the_incident_of_a_syntax_error_has_its_line(dags, parse, bzctrl_sandbox):
    """Also with the part of a trace that this version of Airflow keeps."""
    (dags / "broken.py").write_text("# airflow dag\nif True\n    pass\n")
    assert "broken.py" in parse()
    deliver()
    (todo,) = bzctrl_sandbox.todos
    assert "\n\nSyntaxError: expected ':' (broken.py, line 2)\n\n" in todo["description"]
