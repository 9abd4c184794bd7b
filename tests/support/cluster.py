"""An Airflow 3 cluster on this machine: PostgreSQL, Redis, every component, two Celery workers; loopback only."""

from __future__ import annotations

import json
import os
import pwd
import secrets
import shlex
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from urllib.parse import quote

import psutil
import requests
from cryptography.fernet import Fernet
from support.supervisor import Service, Supervised

ROOT = Path(__file__).parents[2]
RUN = ROOT / "build" / "system"
"""The folder of logs and screenshots, which stays after a run."""

WORKERS = ("worker-1", "worker-2")
START_S = 180

USERNAME = "airflow@example.com"
PASSWORD = "Siebenschläfer & 7 Zwerge"
REFUSED_PASSWORD = "Murmeltier? nicht dieses"


def wait_for(what, true, *, seconds):
    """Return the result of a call as soon as it is true."""
    ends_at = time.monotonic() + seconds
    while not (answer := true()):
        assert time.monotonic() < ends_at, f"waited for {seconds} s: {what}"
        time.sleep(0.3)
    return answer


def free_ports(count):
    import socket

    sockets = [socket.create_server(("127.0.0.1", 0)) for _ in range(count)]
    ports = [taken.getsockname()[1] for taken in sockets]
    for taken in sockets:
        taken.close()
    return ports


class Cluster:
    """Start a cluster with ``start``, end it with ``stop``; ``run`` runs a DAG to its end.

    :param logs: where the log of each component and of each task goes, and stays.
    :param bundles: DAG folders by name.
    :param settings: further environment variables of every component.
    """

    def __init__(self, *, logs, bundles, settings):
        self.logs = logs
        self._bundles = bundles
        self._settings = settings
        self._supervised = None
        self._http = requests.Session()
        self._http.trust_env = False

    def start(self):
        shutil.rmtree(self.logs, ignore_errors=True)
        (self.logs / "tasks").mkdir(parents=True)
        self.home = Path(tempfile.mkdtemp(prefix="bzctrl-cluster-"))
        # Of its own, because somebody else owns it.
        self._postgres_home = Path(tempfile.mkdtemp(prefix="bzctrl-postgres-"))
        self._postgres_port, self._redis_port, self._api_port, *log_ports = free_ports(5)
        self._postgres_password, redis_password = secrets.token_hex(8), secrets.token_hex(8)
        self.url = f"http://127.0.0.1:{self._api_port}"
        self.database = f"postgres:{self._postgres_password}@127.0.0.1:{self._postgres_port}/postgres"
        self.env = {
            # Without its byte code, each process would compile the provider again.
            **{
                name: value
                for name, value in os.environ.items()
                if not name.startswith("AIRFLOW") and name != "PYTHONDONTWRITEBYTECODE"
            },
            "PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}",
            "NO_PROXY": "127.0.0.1",
            "AIRFLOW_HOME": str(self.home),
            "AIRFLOW__CORE__DAGS_FOLDER": str(next(iter(self._bundles.values()))),
            "AIRFLOW__CORE__LOAD_EXAMPLES": "False",
            "AIRFLOW__CORE__EXECUTOR": "CeleryExecutor",
            "AIRFLOW__CORE__EXECUTION_API_SERVER_URL": f"{self.url}/execution/",
            "AIRFLOW__CORE__FERNET_KEY": Fernet.generate_key().decode(),
            "AIRFLOW__CORE__SIMPLE_AUTH_MANAGER_ALL_ADMINS": "True",
            "AIRFLOW__API__HOST": "127.0.0.1",
            "AIRFLOW__API__PORT": str(self._api_port),
            "AIRFLOW__API__BASE_URL": self.url,
            "AIRFLOW__API__SECRET_KEY": secrets.token_hex(16),
            "AIRFLOW__API_AUTH__JWT_SECRET": secrets.token_hex(32),
            "AIRFLOW__DATABASE__SQL_ALCHEMY_CONN": f"postgresql+psycopg2://{self.database}",
            "AIRFLOW__CELERY__BROKER_URL": f"redis://:{redis_password}@127.0.0.1:{self._redis_port}/0",
            "AIRFLOW__CELERY__RESULT_BACKEND": f"db+postgresql+psycopg2://{self.database}",
            "AIRFLOW__CELERY__WORKER_PREFETCH_MULTIPLIER": "1",
            "AIRFLOW__WORKERS__MIN_HEARTBEAT_INTERVAL": "1",
            "AIRFLOW__SCHEDULER__TASK_INSTANCE_HEARTBEAT_TIMEOUT": "10",
            "AIRFLOW__SCHEDULER__TASK_INSTANCE_HEARTBEAT_TIMEOUT_DETECTION_INTERVAL": "2",
            "AIRFLOW__LOGGING__BASE_LOG_FOLDER": str(self.logs / "tasks"),
            "AIRFLOW__LOGGING__WORKER_LOG_SERVER_PORT": str(log_ports[0]),
            "AIRFLOW__LOGGING__TRIGGER_LOG_SERVER_PORT": str(log_ports[1]),
            "AIRFLOW__DAG_PROCESSOR__DAG_BUNDLE_CONFIG_LIST": json.dumps(
                [
                    {
                        "name": name,
                        "classpath": "airflow.dag_processing.bundles.local.LocalDagBundle",
                        "kwargs": {"path": str(path)},
                    }
                    for name, path in self._bundles.items()
                ]
            ),
            **self._settings,
        }
        self._supervised = Supervised(self.home, self._postgres_home)
        self._start_postgres()
        self._start_service(
            "redis",
            shlex.split(
                f"redis-server --bind 127.0.0.1 --port {self._redis_port} --save '' --dir {self.home} "
                f"--requirepass {redis_password}"
            ),
        )
        self.airflow("db", "migrate")
        self._start_airflow("api-server", "api-server")
        self._start_airflow("scheduler", "scheduler", "--skip-serve-logs")
        self._start_airflow("dag-processor", "dag-processor")
        self._start_airflow("triggerer", "triggerer", "--skip-serve-logs")
        for worker in WORKERS:
            self._start_airflow(
                worker,
                *("celery", "worker", "-H", worker, "-c", "2", "--skip-serve-logs", "--without-gossip"),
                *("--pid", str(self.home / f"{worker}.celery.pid")),
                restart=True,
                env={"BZCTRL_TESTS_WORKER": worker},
            )
        wait_for("every component is healthy", self._is_healthy, seconds=START_S)
        for worker in WORKERS:
            wait_for(f"{worker} is ready", lambda worker=worker: self._is_ready(worker), seconds=START_S)

    def _start_postgres(self):
        binaries = max(Path("/usr/lib/postgresql").glob("*/bin"), key=lambda path: int(path.parent.name))
        # PostgreSQL refuses to run as root.
        user = "postgres" if os.geteuid() == 0 else None
        password_file = self._postgres_home / "password"
        password_file.write_text(self._postgres_password)
        data = self._postgres_home / "data"
        if user:
            owner = pwd.getpwnam(user)
            for path in (self._postgres_home, password_file):
                os.chown(path, owner.pw_uid, owner.pw_gid)
        subprocess.run(
            shlex.split(
                f"{binaries}/initdb -D {data} -U postgres -A scram-sha-256 --no-sync --pwfile={password_file}"
            ),
            user=user,
            check=True,
            capture_output=True,
            cwd="/",
        )
        self._start_service(
            "postgres",
            shlex.split(
                f"{binaries}/postgres -D {data} -p {self._postgres_port} -c listen_addresses=127.0.0.1 "
                "-c unix_socket_directories='' -c fsync=off"
            ),
            user=user,
            stop_signal=signal.SIGINT,
        )
        self.pg_dump = str(binaries / "pg_dump")
        ready = shlex.split(f"{binaries}/pg_isready -h 127.0.0.1 -p {self._postgres_port}")
        wait_for(
            "PostgreSQL",
            lambda: subprocess.run(ready, capture_output=True, check=False).returncode == 0,
            seconds=START_S,
        )

    def _start_airflow(self, name, *command, env=None, restart=False):
        self._start_service(name, ["airflow", *command], env=env or {}, restart=restart)

    def _start_service(self, name, command, *, env=None, **more):
        self._supervised.start(
            Service(
                name=name, command=command, env={**self.env, **(env or {})}, folder=str(self.logs), **more
            )
        )

    def stop(self):
        """End all processes, and return the remaining folders and processes."""
        if self._supervised is None:
            return []
        self._supervised.stop()
        return [
            *(path for path in (self.home, self._postgres_home) if path.exists()),
            *(process for process in psutil.process_iter(["cmdline"]) if self._is_mine(process)),
        ]

    def _is_mine(self, process):
        try:
            return process.environ().get("AIRFLOW_HOME") == str(self.home)
        except psutil.Error:
            return False

    def airflow(self, *command):
        """Run a command of Airflow's."""
        done = subprocess.run(
            ["airflow", *command], env=self.env, capture_output=True, text=True, timeout=300, check=False
        )
        with (self.logs / "commands.log").open("a") as log:
            log.write(f"$ airflow {command[0]}\n{done.stdout}{done.stderr}\n")
        assert done.returncode == 0, done.stdout + done.stderr
        return done.stdout

    def _is_healthy(self):
        try:
            health = self._http.get(f"{self.url}/api/v2/monitor/health", timeout=10).json()
            token = self._http.get(f"{self.url}/auth/token", timeout=10).json()["access_token"]
        except (requests.RequestException, ValueError, KeyError):
            return False
        self._http.headers["Authorization"] = f"Bearer {token}"
        return all(component["status"] == "healthy" for component in health.values())

    def _is_ready(self, worker):
        return f"{worker} ready." in (self.logs / f"{worker}.log").read_text()

    def api(self, method, path, **arguments):
        """Ask Airflow's API; the path begins after ``/api/v2``."""
        answer = self._http.request(method, f"{self.url}/api/v2{path}", timeout=30, **arguments)
        assert answer.ok, f"{method} {path}: {answer.status_code} {answer.text}"
        return answer.json() if answer.content else None

    def trigger(self, dag_id):
        """Begin a run, and return its id."""
        self.wait_for_dag(dag_id)
        self.api("PATCH", f"/dags/{dag_id}", json={"is_paused": False})
        return self.api("POST", f"/dags/{dag_id}/dagRuns", json={"logical_date": None})["dag_run_id"]

    def wait_for_dag(self, dag_id):
        """Wait until a DAG is parsed."""

        def is_there():
            answer = self._http.get(f"{self.url}/api/v2/dags/{dag_id}", timeout=30)
            return answer.ok

        wait_for(f"the DAG {dag_id} is parsed", is_there, seconds=START_S)

    def wait_for_run(self, dag_id, run_id, *, seconds=120):
        """Return how a run ended."""

        def ended():
            state = self.api("GET", f"/dags/{dag_id}/dagRuns/{quote(run_id)}")["state"]
            return state if state in ("success", "failed") else None

        return wait_for(f"{dag_id} ends", ended, seconds=seconds)

    def run(self, dag_id, *, seconds=120):
        """Run a DAG to its end, and return the run's id and how it ended."""
        run_id = self.trigger(dag_id)
        return run_id, self.wait_for_run(dag_id, run_id, seconds=seconds)

    def tries(self, dag_id, run_id):
        """Return the state and the number of tries of each task instance, by task id and map index."""
        found = self.api("GET", f"/dags/{dag_id}/dagRuns/{quote(run_id)}/taskInstances?limit=100")
        return {
            (ti["task_id"], ti["map_index"]): (ti["state"], ti["try_number"])
            for ti in found["task_instances"]
        }

    def worker(self, name):
        """Return the main process of a worker."""
        return psutil.Process(int((self.logs / f"{name}.pid").read_text()))

    def waiting(self):
        """Return the files of the incidents that wait in the spool."""
        return list(self.spool.glob("[!.]*.json"))

    def task_processes(self):
        """Return the worker's name, its pool process and the task's process of each running task."""
        return [
            (name, pool, task)
            for name in WORKERS
            for pool in self.worker(name).children()
            for task in pool.children()
        ]
