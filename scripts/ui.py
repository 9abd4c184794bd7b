"""Run Airflow's UI and the sandbox, with the examples and the connection, until Ctrl-C."""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any, TextIO

import psutil
import requests
from local_airflow import README_DAG_ID, environment, fill_warehouse, write_readme_dag

from bzctrl_provider.sandbox import Sandbox

if TYPE_CHECKING:
    from collections.abc import Mapping

DAG_IDS = (README_DAG_ID, "sea_ports_quality")
START_S = 180
END_S = 30


def free_port() -> int:
    """Return a free port."""
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port: int = taken.getsockname()[1]
        return port


def store_connections(variables: Mapping[str, str], log: TextIO) -> dict[str, str]:
    """Move the connections from the environment into Airflow's database, where the UI shows them; return the rest."""
    rest = {name: value for name, value in variables.items() if not name.startswith("AIRFLOW_CONN_")}
    connections = {
        name.removeprefix("AIRFLOW_CONN_").lower(): json.loads(value)
        for name, value in variables.items()
        if name not in rest
    }
    file = Path(rest["AIRFLOW_HOME"]) / "connections.json"
    file.write_text(json.dumps(connections))
    for command in (["db", "migrate"], ["connections", "import", str(file)]):
        subprocess.run(
            ["airflow", *command],
            env={**os.environ, **rest},
            check=True,
            stdout=log,
            stderr=subprocess.STDOUT,
        )
    file.unlink()
    return rest


def run_once(address: str, dag_id: str) -> None:
    """Unpause a DAG as soon as Airflow has parsed it, and trigger it, unless it has a schedule: that starts a run by itself."""
    ends_at = time.monotonic() + START_S
    session = requests.Session()
    while time.monotonic() < ends_at:
        time.sleep(1)
        try:
            token = session.get(f"{address}/auth/token", timeout=10).json()["access_token"]
            session.headers["Authorization"] = f"Bearer {token}"
            dag = f"{address}/api/v2/dags/{dag_id}"
            unpaused = session.patch(dag, json={"is_paused": False}, timeout=10)
            unpaused.raise_for_status()
            if unpaused.json()["next_dagrun_run_after"] is None:
                session.post(f"{dag}/dagRuns", json={"logical_date": None}, timeout=10).raise_for_status()
        except (requests.RequestException, KeyError, ValueError):
            continue
        return
    raise TimeoutError(f"Airflow was not ready within {START_S} s")


def end(process: subprocess.Popen[Any]) -> None:
    """End `airflow standalone` and its remaining children; it ends cleanly only on SIGINT."""
    children = psutil.Process(process.pid).children(recursive=True) if process.poll() is None else []
    process.send_signal(signal.SIGINT)
    _, alive = psutil.wait_procs([psutil.Process(process.pid), *children], timeout=END_S)
    for child in alive:
        child.kill()


def main() -> int:
    """Return 0 after Ctrl-C, 1 if Airflow did not start or ended by itself."""
    os.environ["PATH"] = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
    with tempfile.TemporaryDirectory(prefix="bzctrl-ui-") as folder, Sandbox() as sandbox:
        home = Path(folder)
        variables = environment(home, sandbox_url=sandbox.url, api_port=free_port()) | {
            "AIRFLOW__CORE__SIMPLE_AUTH_MANAGER_ALL_ADMINS": "True",
            "AIRFLOW__CORE__TEST_CONNECTION": "Enabled",
            "AIRFLOW__LOGGING__WORKER_LOG_SERVER_PORT": str(free_port()),
            "AIRFLOW__LOGGING__TRIGGER_LOG_SERVER_PORT": str(free_port()),
        }
        write_readme_dag(home / "readme")
        fill_warehouse(home / "dwh.db")
        address = variables["AIRFLOW__API__BASE_URL"]
        print("Preparing a separate Airflow …", flush=True)
        with (home / "standalone.log").open("w") as log:
            process = subprocess.Popen(
                ["airflow", "standalone"],
                env={**os.environ, **store_connections(variables, log)},
                stdout=log,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )
            try:
                print("Starting it; this takes up to a minute …", flush=True)
                for dag_id in DAG_IDS:
                    run_once(address, dag_id)
                    print(f"Airflow:  {address}/dags/{dag_id}  (a run has just been started; no login)")
                print(f"BzCtrl:   {sandbox.url}/app/  (the sandbox; the incidents appear here)")
                print("Ctrl-C ends both.", flush=True)
                process.wait()
            except KeyboardInterrupt:
                print("\nEnding; this may take half a minute …", flush=True)
                return 0
            except TimeoutError as exc:
                print(exc)
            finally:
                end(process)
        print((home / "standalone.log").read_text()[-4000:])
    return 1


if __name__ == "__main__":
    # Also where the shell that started it in the background ignores SIGINT, and for the processes started from here.
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, signal.default_int_handler)
    sys.exit(main())
