from __future__ import annotations

import json
import os
import subprocess
import sys

import pytest
from support.store import read

from bzctrl_provider.airflow_compat import airflow_at_least
from bzctrl_provider.store.database import Database

PROGRAM = """
import json, socket, sys, time
from types import SimpleNamespace

from airflow.providers.common.compat.sdk import DAG, conf, redact
from bzctrl_provider.notifications.bzctrl import BzCtrlNotifier

def refuse(*arguments, **options):
    raise AssertionError("a name was looked up")

socket.getaddrinfo = socket.create_connection = refuse
dag = DAG("customs", schedule=None, on_failure_callback=BzCtrlNotifier(assignee="a@example.com", priority="HIGH"))
dag.get_template_env()
redact("text")
conf.get("core", "dags_folder")
before = set(sys.modules)
work, _, place = sys.argv[1].partition(" in a ")
if place == "DAG processor":
    from bzctrl_provider import plugin
    sys.argv[1:] = ["dag-processor"]
    plugin.on_starting()
preloaded = set(sys.modules) - before
before = set(sys.modules)
began_at = time.process_time()
if work == "parse":
    from airflow.providers.common.compat.sdk import task
    with dag:
        task(refuse)()
if work == "call":
    dag.on_failure_callback({"dag": dag, "run_id": "r", "reason": "task_failure", "dag_run": SimpleNamespace(clear_number=0)})
cpu_s = time.process_time() - began_at
print("RESULT" + json.dumps({"preloaded": sorted(preloaded), "new": sorted(set(sys.modules) - before), "cpu_s": cpu_s}), flush=True)
# As Airflow ends a process that was killed: nothing is delivered.
import os
os._exit(0)
"""

pytestmark = pytest.mark.skipif(
    not airflow_at_least(3, 1), reason="before Airflow 3.1, a callback of a DAG delivers by itself"
)

HEAVY = {"requests", "urllib3", "http.client", "pydantic", "httpx", "aiohttp", "ssl"}


@pytest.fixture
def run_callback(tmp_path):
    """Return what runs the callback of a DAG in a process of its own, and returns the modules that it has loaded."""

    def run(argument):
        environment = os.environ | {"AIRFLOW__BZCTRL__DATABASE": f"sqlite:///{tmp_path / 'bzctrl.db'}"}
        # Left by dag.test() of another test: as a server, a callback would load Airflow's database for a Variable.
        environment.pop("_AIRFLOW_PROCESS_CONTEXT", None)
        done = subprocess.run(
            [sys.executable, "-c", PROGRAM, argument],
            env=environment,
            capture_output=True,
            text=True,
            timeout=120,
            check=True,
        )
        (result,) = [line for line in done.stdout.splitlines() if line.startswith("RESULT")]
        return json.loads(result.removeprefix("RESULT"))

    return run


def read_store(folder):
    return read(Database(f"sqlite:///{folder / 'bzctrl.db'}"))


def test_callback_loads_no_http_library_and_looks_up_no_name(run_callback, tmp_path):
    """The process that writes an incident into the outbox loads no more than the store needs."""
    result = run_callback("call")
    (incident,) = read_store(tmp_path)
    assert incident.fields["title"] == "customs: the run failed"
    assert HEAVY.isdisjoint(result["new"])
    assert "tomllib" not in result["new"]
    assert [name for name in result["new"] if name.startswith("bzctrl_provider.rules.routes")] == []
    assert [name for name in result["new"] if name.startswith("bzctrl_provider.client.")] in (
        [],
        ["bzctrl_provider.client.todo"],
    )


def test_callback_in_a_dag_processor_loads_no_module_of_the_provider(run_callback, tmp_path):
    """Each callback of a DAG is a process that the DAG processor forks: it has loaded all of them, and no HTTP library."""
    result = run_callback("call in a DAG processor")
    assert len(read_store(tmp_path)) == 1
    assert HEAVY.isdisjoint(result["preloaded"])
    assert [name for name in result["new"] if name.startswith("bzctrl_provider")] == []


def test_parse_in_a_dag_processor_loads_no_module_for_decorated_tasks(run_callback):
    """Otherwise each parse and each callback of a file with @task would load it, which takes longer than the rest."""
    name = "airflow.sdk.definitions.decorators"
    assert name in run_callback("parse")["new"]
    result = run_callback("parse in a DAG processor")
    assert name in result["preloaded"]
    assert HEAVY.isdisjoint(result["preloaded"])
    assert [
        item for item in result["new"] if item.startswith(("airflow.providers.", name, "packaging."))
    ] == []
