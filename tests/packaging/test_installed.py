"""The wheel in a separate environment, as on a worker."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
import tomllib
import venv
from pathlib import Path

import pytest

from bzctrl_provider.sandbox import Sandbox
from bzctrl_provider.sandbox.app import make_connection_json

ROOT = Path(__file__).parents[2]
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
WEB_SERVER = ("fastapi", "uvicorn", "multipart", "python_multipart")

WORK = """
import importlib.util, json, sys
from types import SimpleNamespace
from bzctrl_provider import outbox, policy
from bzctrl_provider.decorators.bzctrl import bzctrl_todo_task
from bzctrl_provider.hooks.bzctrl import BzCtrlHook
from bzctrl_provider.notifications.bzctrl import BzCtrlNotifier
from bzctrl_provider.operators.bzctrl import CreateTodoOperator

fields = {"todo_type": "INCIDENT", "description": "from a wheel", "order_id": "run 1"}
by_hook = BzCtrlHook().create_todo(title="by the hook", **fields)
ti = SimpleNamespace(xcom_push=lambda **_: None)
by_operator = CreateTodoOperator(task_id="t", title="by the operator", **fields).execute({"ti": ti})
BzCtrlNotifier(title="by the notifier", **fields)({"reason": "task_failure", "run_id": "run 1"})
# On Airflow 3 a thread delivers, for which this script does not wait.
outbox.deliver()
json.dump({
    "from": importlib.util.find_spec("bzctrl_provider").origin,
    "keys": [by_hook.key, by_operator["key"]],
    "found": [name for name in sys.argv[1:] if importlib.util.find_spec(name)],
}, open("said.json", "w"))
"""


class Environment:
    """An environment with the wheel and one Airflow."""

    def __init__(self, folder, airflow):
        self.folder = folder
        self.airflow = airflow
        venv.create(folder / "venv", with_pip=True, symlinks=True)
        self.bin = folder / "venv" / "bin"

    def pip(self, *arguments):
        self.run("python", "-m", "pip", "--disable-pip-version-check", "--quiet", *arguments, timeout=500)

    def run(self, command, *arguments, check=True, timeout=120, **more):
        environment = {
            name: value
            for name, value in os.environ.items()
            if not name.startswith(("AIRFLOW", "PYTHON", "COV", "VIRTUAL_ENV"))
        }
        result = subprocess.run(
            [str(self.bin / command), *arguments],
            cwd=self.folder,
            env={**environment, "AIRFLOW_HOME": str(self.folder / "airflow"), **more},
            capture_output=True,
            text=True,
            timeout=timeout,
            check=False,
        )
        assert not check or result.returncode == 0, result.stdout[-1000:] + result.stderr[-3000:]
        return result


@pytest.fixture(scope="module", params=["2.11.2", "3.3.2"])
def installed(request, tmp_path_factory):
    """Return an environment with the wheel of dist/, which `make build` has built."""
    (wheel,) = (ROOT / "dist").glob("*.whl")
    environment = Environment(tmp_path_factory.mktemp("installed"), request.param)
    constraints = str(ROOT / "constraints" / f"airflow-{request.param}.txt")
    environment.pip("install", "-c", constraints, str(wheel), f"apache-airflow=={request.param}")
    return environment


@pytest.fixture(scope="module")
def without_web_server(installed):
    """Return the environment without what Airflow brings for itself: the provider must not lean on it."""
    installed.pip("uninstall", "--yes", "fastapi", "uvicorn", "python-multipart")
    return installed


# The first test, because Airflow's own command needs the packages that the others do without.
def test_airflow_lists_the_installed_version_and_the_commands_have_their_help(installed):
    """`airflow providers list` and `get` name it; `bzctrl` and `bzctrl-sandbox` start."""
    for command in (["list"], ["get", PROJECT["name"]]):
        shown = installed.run("airflow", "providers", *command, "--output", "plain").stdout
        row = rf"^{PROJECT['name']} .*\b{re.escape(PROJECT['version'])}\b"
        assert re.search(row, shown, re.MULTILINE), shown[-2000:]
    for command in PROJECT["scripts"]:
        assert installed.run(command, "--help").stdout.startswith(f"usage: {command}")


def test_todos_are_created_without_a_web_server(without_web_server):
    """Hook, operator and notifier, from the wheel, against a sandbox of another environment."""
    installed = without_web_server
    with Sandbox() as sandbox:
        installed.run(
            "python",
            "-c",
            WORK,
            *WEB_SERVER,
            AIRFLOW_CONN_BZCTRL_DEFAULT=make_connection_json(sandbox.url),
            NO_PROXY="127.0.0.1",
        )
        titles = [todo["title"] for todo in sandbox.todos]
    said = json.loads((installed.folder / "said.json").read_text())
    assert titles == ["by the hook", "by the operator", "by the notifier"]
    assert said["keys"] == [f"EXA-CON-BUS-WOR-0{number}" for number in (1, 2)]
    assert said["found"] == []
    assert str(installed.folder) in said["from"]


def test_sandbox_without_its_extra_serves(without_web_server):
    """The command and the pytest fixture work with nothing but the wheel and Airflow."""
    installed = without_web_server
    assert installed.run("bzctrl-sandbox", "--help").stdout.startswith("usage: bzctrl-sandbox")
    installed.pip("install", "pytest")
    (installed.folder / "test_theirs.py").write_text(
        "from urllib.request import ProxyHandler, build_opener\n"
        "def test_page(bzctrl_sandbox):\n"
        "    opener = build_opener(ProxyHandler({}))\n"
        "    assert b'Nothing here yet' in opener.open(bzctrl_sandbox.url + '/app/', timeout=5).read()\n"
    )
    result = installed.run("python", "-m", "pytest", "-q", "-p", "no:cacheprovider", "test_theirs.py")
    assert "1 passed" in result.stdout


def test_wheel_has_types(installed):
    """A type checker in a user's project reads the types from the wheel."""
    (site,) = (installed.folder / "venv" / "lib").glob("python3.*/site-packages/bzctrl_provider")
    assert (site / "py.typed").exists()
    assert sys.version_info[:2] == tuple(int(part) for part in site.parts[-3][6:].split("."))
