"""Connection and Variables from a secrets backend that Airflow asks before its database: here its own for local files.

Each deployment is a process of its own, because Airflow reads the option for the backend when it is imported.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import urllib.parse
from pathlib import Path

import pytest
from support.airflow_versions import VERSION

from bzctrl_provider.sandbox import Sandbox
from bzctrl_provider.sandbox.app import make_connection_json

BIN = Path(sys.executable).parent
LOGIN, OLD, NEW = "user@example.com", "old p@ss/word", "new p@ss/word"
SILENCE = [{"dags": "silenced_*", "until": "2999-01-01T00:00Z"}]

RUN = """
import sys
from datetime import timedelta
from airflow.providers.common.compat.sdk import DAG, task
from bzctrl_provider.operators.bzctrl import IncidentOnFailureOperator


@task
def check():
    raise ValueError("The totals differ.")


for name in ("first", "rotated", "silenced_dag"):
    with DAG(name, schedule=None) as dag:
        check() >> IncidentOnFailureOperator(task_id="raise_incident", dedup_window=timedelta(days=1), retries=0)
    globals()[name] = dag
if __name__ == "__main__":
    states = []
    for name, secrets in (argument.split("=") for argument in sys.argv[1:]):
        # A backend whose secrets are changed while Airflow's processes run.
        with open(secrets) as new, open("connections.json", "w") as file:
            file.write(new.read())
        run = globals()[name].test()
        states.append({ti.task_id: str(ti.state) for ti in run.get_task_instances()}["raise_incident"])
    print("STATES", *states)
"""


def make_connection(url, password):
    return json.loads(make_connection_json(url, login=LOGIN, password=password))


def make_uri(url, password):
    parts = urllib.parse.urlsplit(url)
    user = ":".join(urllib.parse.quote(text, safe="") for text in (LOGIN, password))
    return f"bzctrl://{user}@{parts.netloc}/{parts.scheme}?domain_workspace=EXA-CON-BUS-WOR"


@pytest.fixture
def sandbox():
    """Start a BzCtrl that accepts only the new password."""
    with Sandbox(username=LOGIN, password=NEW) as sandbox:
        yield sandbox


@pytest.fixture
def start(_database, sandbox, tmp_path):
    """Return a function that runs a command in a deployment with the backend, and returns code and output."""

    def run(*argv, connections="connections.json", **options):
        files = {
            "connections_file_path": f"{tmp_path}/{connections}",
            "variables_file_path": f"{tmp_path}/variables.json",
        }
        bundle = {
            "name": "secrets",
            "classpath": "airflow.dag_processing.bundles.local.LocalDagBundle",
            "kwargs": {"path": str(tmp_path)},
        }
        environment = {
            **{name: text for name, text in os.environ.items() if not name.startswith("AIRFLOW_CONN_")},
            "AIRFLOW__SECRETS__BACKEND": "airflow.secrets.local_filesystem.LocalFilesystemBackend",
            "AIRFLOW__SECRETS__BACKEND_KWARGS": json.dumps(files),
            "AIRFLOW__CORE__DAGS_FOLDER": str(tmp_path),
            "AIRFLOW__DAG_PROCESSOR__DAG_BUNDLE_CONFIG_LIST": json.dumps([bundle]),
            "AIRFLOW__BZCTRL__DATABASE": f"sqlite:///{tmp_path}/bzctrl.db",
            "PYTHONWARNINGS": "ignore",
            **options,
        }
        result = subprocess.run(
            argv, check=False, capture_output=True, text=True, env=environment, cwd=tmp_path, timeout=300
        )
        printed = result.stdout + result.stderr
        if VERSION == (3, 0):  # it logs by itself what it masks, at the level of debugging
            printed = "\n".join(line for line in printed.splitlines() if "MaskSecret(" not in line)
        for password in (OLD, NEW):
            assert password not in printed
        return result.returncode, result.stdout, result.stderr

    (tmp_path / "variables.json").write_text(json.dumps({"bzctrl_silences": json.dumps(SILENCE)}))
    (tmp_path / "run.py").write_text(RUN)
    for name, password in (("old", OLD), ("new", NEW)):
        secrets = {"bzctrl_default": make_connection(sandbox.url, password)}
        (tmp_path / f"{name}.json").write_text(json.dumps(secrets))
    return run


@pytest.fixture
def silence_in_the_ui(_database):
    """Store silences in Airflow's database, as the UI does; other Variables are removed."""
    from airflow.models.variable import Variable
    from airflow.utils.session import create_session

    with create_session() as session:
        session.query(Variable).delete()
        session.add(Variable(key="bzctrl_silences", val="[]"))
    yield
    with create_session() as session:
        session.query(Variable).delete()


@pytest.mark.security
@pytest.mark.parametrize(
    ("file", "password", "status"), [("connections.env", NEW, "ok"), ("connections.json", OLD, "fault")]
)
def test_check_uses_the_secrets_of_the_backend(
    start, sandbox, tmp_path, silence_in_the_ui, file, password, status
):
    """As URI or JSON, and with the silences of the backend, which hide those of the UI; no password is in the output."""
    text = {
        "connections.json": json.dumps({"bzctrl_default": make_connection(sandbox.url, password)}),
        "connections.env": f"bzctrl_default={make_uri(sandbox.url, password)}\n",
    }
    (tmp_path / file).write_text(text[file])
    code, output, errors = start(BIN / "bzctrl", "check", "--json", connections=file)
    found = {one["check"]: one for one in json.loads(output)["checks"]}
    assert found["connection"]["status"] == "ok", output + errors
    assert (found["token"]["status"], code) == (status, int(status == "fault"))
    assert "1 active, 0 ended" in found["silences"]["message"]
    assert sandbox.todos == []


def test_changed_password_and_silence_of_the_backend_are_used_by_the_next_task(
    start, sandbox, silence_in_the_ui
):
    """Without a restart: the old password leaves an incident in the outbox, the new one creates the next, and then both.

    The silence of the backend skips an operator although the Variable in the database has none.
    """
    runs = ["first=old.json", "rotated=new.json", "rotated=new.json", "silenced_dag=new.json"]
    code, output, errors = start(sys.executable, "run.py", *runs)
    assert code == 0, output + errors
    assert "STATES success success success skipped" in output
    assert [todo["title"] for todo in sandbox.todos] == ["rotated: check failed"]
    code, output, errors = start(BIN / "bzctrl", "outbox", "deliver", connections="new.json")
    assert code == 0, output + errors
    assert sandbox.todos[1]["title"] == "first: check failed"
    assert len(sandbox.todos) == 2
