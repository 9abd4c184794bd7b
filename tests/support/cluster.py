"""An Airflow 3 on this machine, on loopback only: a Celery cluster with PostgreSQL, or one machine with SQLite.

In the cluster, each component has a disk of its own (its AIRFLOW_HOME), which is empty again when it is started again, as pods have;
and the provider's store is a database of its own on the cluster's PostgreSQL, with a user of its own.
"""

from __future__ import annotations

import contextlib
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
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime
from pathlib import Path
from urllib.parse import quote

import psutil
import requests
from cryptography.fernet import Fernet
from sqlalchemy import create_engine, text, update
from sqlalchemy.exc import SQLAlchemyError
from sqlalchemy.pool import NullPool
from support.supervisor import Service, Supervised

from bzctrl_provider.store import failed_runs, incidents, schema
from bzctrl_provider.store.database import Database

ROOT = Path(__file__).parents[2]
RUN = ROOT / "build" / "system"
"""The folder of logs and screenshots, which stays after a run."""

WORKERS = ("worker-1", "worker-2")
COMPONENTS = ("api-server", "scheduler", "dag-processor", "triggerer", *WORKERS)
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


def as_epoch(value):
    """Return a time of Airflow's database, which is a text in SQLite, in seconds since 1970."""
    moment = datetime.fromisoformat(value) if isinstance(value, str) else value
    return (moment if moment.tzinfo else moment.replace(tzinfo=UTC)).timestamp()


class Cluster:
    """Start Airflow with ``start``, end it with ``stop``; ``run`` runs a DAG to its end.

    :param logs: where the log of each component and of each task goes, and stays.
    :param bundles: DAG folders by name.
    :param settings: further environment variables of every component.
    :param python_path: folders of modules.
    :param is_small: whether it is one machine with the LocalExecutor and SQLite, for Airflow and for the store.
    """

    def __init__(self, *, logs, bundles, settings, python_path=(), is_small=False):
        self.logs = logs
        self._python_path = [ROOT / "tests", *python_path]
        self.is_small = is_small
        self._bundles = bundles
        self._settings = settings
        self._supervised = None
        self._http = requests.Session()
        self._http.trust_env = False

    def start(self, *, only_postgres=False):
        """Start PostgreSQL, and unless only that is wanted everything else."""
        shutil.rmtree(self.logs, ignore_errors=True)
        (self.logs / "tasks").mkdir(parents=True)
        # The disks of the components, and one folder that they share for what tests note.
        self.home = Path(tempfile.mkdtemp(prefix="bzctrl-cluster-"))
        self.shared = self.home / "shared"
        self.shared.mkdir()
        # Of its own, because somebody else owns it.
        self._postgres_home = Path(tempfile.mkdtemp(prefix="bzctrl-postgres-"))
        self._postgres_port, self._redis_port, self._api_port, *log_ports = free_ports(5)
        self._postgres_password, self.store_password = secrets.token_hex(8), secrets.token_hex(8)
        self._redis_password = secrets.token_hex(8)
        self.url = f"http://127.0.0.1:{self._api_port}"
        self.env = {
            # Without its byte code, each process would compile the provider again.
            **{
                name: value
                for name, value in os.environ.items()
                if not name.startswith("AIRFLOW") and name != "PYTHONDONTWRITEBYTECODE"
            },
            "PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}",
            "NO_PROXY": "127.0.0.1",
            "PYTHONPATH": os.pathsep.join([*map(str, self._python_path), os.environ.get("PYTHONPATH", "")]),
            "BZCTRL_TESTS_SHARED": str(self.shared),
            "AIRFLOW__CORE__DAGS_FOLDER": str(next(iter(self._bundles.values()))),
            "AIRFLOW__CORE__LOAD_EXAMPLES": "False",
            "AIRFLOW__CORE__EXECUTION_API_SERVER_URL": f"{self.url}/execution/",
            "AIRFLOW__CORE__FERNET_KEY": Fernet.generate_key().decode(),
            "AIRFLOW__CORE__SIMPLE_AUTH_MANAGER_ALL_ADMINS": "True",
            "AIRFLOW__API__HOST": "127.0.0.1",
            "AIRFLOW__API__PORT": str(self._api_port),
            "AIRFLOW__API__BASE_URL": self.url,
            "AIRFLOW__API__SECRET_KEY": secrets.token_hex(16),
            "AIRFLOW__API_AUTH__JWT_SECRET": secrets.token_hex(32),
            "AIRFLOW__WORKERS__MIN_HEARTBEAT_INTERVAL": "1",
            "AIRFLOW__SCHEDULER__TASK_INSTANCE_HEARTBEAT_TIMEOUT": "10",
            "AIRFLOW__SCHEDULER__TASK_INSTANCE_HEARTBEAT_TIMEOUT_DETECTION_INTERVAL": "2",
            "AIRFLOW__LOGGING__BASE_LOG_FOLDER": str(self.logs / "tasks"),
            "AIRFLOW__LOGGING__DAG_PROCESSOR_CHILD_PROCESS_LOG_DIRECTORY": str(self.logs / "callbacks"),
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
            **(self._small_env() if self.is_small else self._cluster_env()),
            **self._settings,
        }
        self._supervised = Supervised(self.home, self._postgres_home)
        if not self.is_small:
            self._start_postgres()
        if only_postgres:
            return
        if not self.is_small:
            redis = f"redis-server --bind 127.0.0.1 --port {self._redis_port} --save '' --dir {self.home} --requirepass {self._redis_password}"
            self._start_service("redis", shlex.split(redis))
        self.airflow("db", "migrate")
        self._start_airflow("api-server", "api-server")
        self._start_airflow("scheduler", "scheduler", "--skip-serve-logs")
        self._start_airflow("dag-processor", "dag-processor")
        self._start_airflow("triggerer", "triggerer", "--skip-serve-logs")
        for worker in () if self.is_small else WORKERS:
            self.start_worker(worker)
        self._wait_until_ready(dict.fromkeys(COMPONENTS, 0))

    def _small_env(self):
        self.database = f"sqlite:///{self.disk('any')}/airflow.db"
        # That of a deployment without the option.
        self.store = Database(f"sqlite:///{self.disk('any')}/bzctrl.db")
        return {
            "AIRFLOW__CORE__EXECUTOR": "LocalExecutor",
            "AIRFLOW__DATABASE__SQL_ALCHEMY_CONN": self.database,
        }

    def _cluster_env(self):
        server = f"127.0.0.1:{self._postgres_port}"
        account = f"postgres:{self._postgres_password}@{server}"
        redis = f"redis://:{self._redis_password}@127.0.0.1:{self._redis_port}/0"
        self.database = f"postgresql+psycopg2://{account}/postgres"
        self.store_url = f"postgresql+psycopg2://bzctrl:{self.store_password}@{server}/bzctrl"
        self.store = Database(self.store_url)
        return {
            "AIRFLOW__BZCTRL__DATABASE": self.store_url,
            "AIRFLOW__CORE__EXECUTOR": "CeleryExecutor,pods:support.pod_executor.PodExecutor",
            "AIRFLOW__DATABASE__SQL_ALCHEMY_CONN": self.database,
            "AIRFLOW__CELERY__BROKER_URL": redis,
            "AIRFLOW__CELERY__RESULT_BACKEND": f"db+{self.database}",
            "AIRFLOW__CELERY__WORKER_PREFETCH_MULTIPLIER": "1",
        }

    def disk(self, name):
        """Return the AIRFLOW_HOME of a component; one machine has only one."""
        return self.home / ("machine" if self.is_small else name)

    def start_worker(self, name, *, queue="default", slots=2, env=None):
        """Start a worker of a queue."""
        self._start_airflow(
            name,
            *("celery", "worker", "-H", name, "-q", queue, "-c", str(slots)),
            *("--skip-serve-logs", "--without-gossip", "--pid", str(self.disk(name) / "celery.pid")),
            env={"BZCTRL_TESTS_WORKER": name, **(env or {})},
        )

    def kill_components(self):
        """Kill each component of Airflow with all its processes, as a power failure does, and wait until all are back.

        Their disks are lost, because each begins again with an empty one.
        """
        marks = [self.disk(name) / "mark" for name in COMPONENTS]
        for mark in marks:
            mark.touch()
        sizes = {name: (self.logs / f"{name}.log").stat().st_size for name in COMPONENTS}
        for name in COMPONENTS:
            self.kill(name)
        killed_at = time.time()
        wait_for("new disks", lambda: not any(mark.exists() for mark in marks), seconds=START_S)
        self._wait_until_ready(sizes, since=killed_at)

    def kill(self, name):
        """Kill a component of Airflow with all its processes; the supervisor starts it again."""
        component = self.component(name)
        for process in [component, *component.children(recursive=True)]:
            with contextlib.suppress(psutil.NoSuchProcess):
                process.kill()

    def kill_delivery(self):
        """Kill the process of the next run of the delivery DAG, in the middle of its work."""

        def find_process():
            rows = self.query(
                "SELECT pid FROM task_instance WHERE dag_id = 'bzctrl_delivery' AND state = 'running' AND pid > 0"
            )
            with contextlib.suppress(psutil.NoSuchProcess):
                return [psutil.Process(pid) for (pid,) in rows]

        for process in wait_for("a delivery", find_process, seconds=120):
            with contextlib.suppress(psutil.NoSuchProcess):
                process.kill()

    def restart_postgres(self):
        """Restart the database, which closes each connection, and wait until it responds."""
        self.component("postgres").send_signal(signal.SIGINT)
        time.sleep(1)

        def responds():
            with contextlib.suppress(SQLAlchemyError):
                return self.query("SELECT 1")

        wait_for("PostgreSQL", responds, seconds=START_S)

    def _wait_until_ready(self, log_sizes, *, since=0.0):
        wait_for("every component is healthy", lambda: self._is_healthy(since), seconds=START_S)
        for worker in () if self.is_small else WORKERS:
            self.wait_for_worker(worker, log_sizes[worker])

    def wait_for_worker(self, name, log_size=0):
        """Wait until a worker takes tasks.

        :param log_size: of its log when it was started.
        """
        log = self.logs / f"{name}.log"
        ready = f"{name} ready."
        wait_for(ready, lambda: log.exists() and ready in log.read_text()[log_size:], seconds=START_S)

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
            restart=True,
        )
        self.pg_dump = str(binaries / "pg_dump")
        ready = shlex.split(f"{binaries}/pg_isready -h 127.0.0.1 -p {self._postgres_port}")
        wait_for(
            "PostgreSQL",
            lambda: subprocess.run(ready, capture_output=True, check=False).returncode == 0,
            seconds=START_S,
        )
        self.new_database("bzctrl", password=self.store_password)

    def new_database(self, name, *, password="unused"):
        """Make a database whose owner has its name."""
        engine = create_engine(self.database, poolclass=NullPool, isolation_level="AUTOCOMMIT")
        with engine.connect() as connection:
            connection.execute(text(f"CREATE ROLE {name} LOGIN PASSWORD '{password}'"))
            connection.execute(text(f"CREATE DATABASE {name} OWNER {name}"))

    def _start_airflow(self, name, *command, env=None):
        home = str(self.disk(name))
        self._start_service(
            name,
            ["airflow", *command],
            env={"AIRFLOW_HOME": home, **(env or {})},
            # On one machine, Airflow's scheduler ends if its database is locked.
            restart=True,
            disk=None if self.is_small else home,
        )

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
            return process.environ().get("AIRFLOW_HOME", "").startswith(str(self.home))
        except psutil.Error:
            return False

    def airflow(self, *command):
        """Run a command of Airflow's, on a disk of its own."""
        done = subprocess.run(
            ["airflow", *command],
            env={**self.env, "AIRFLOW_HOME": str(self.disk("command"))},
            capture_output=True,
            text=True,
            timeout=300,
            check=False,
        )
        with (self.logs / "commands.log").open("a") as log:
            log.write(f"$ airflow {command[0]}\n{done.stdout}{done.stderr}\n")
        assert done.returncode == 0, done.stdout + done.stderr
        return done.stdout

    def deliver(self):
        """Make one delivery by hand; if one of the delivery DAG is at work, after it."""
        command = ["airflow", "bzctrl", "outbox", "deliver", "--json"]
        env = {**self.env, "AIRFLOW_HOME": str(self.disk("command"))}

        def delivered():
            done = subprocess.run(command, env=env, capture_output=True, text=True, timeout=300, check=False)
            result = json.loads(done.stdout.splitlines()[-1])
            return result if not result["busy"] else None

        return wait_for("a delivery", delivered, seconds=300)

    def _is_healthy(self, since):
        try:
            health = self._http.get(f"{self.url}/api/v2/monitor/health", timeout=10).json()
            token = self._http.get(f"{self.url}/auth/token", timeout=10).json()["access_token"]
        except (requests.RequestException, ValueError, KeyError):
            return False
        self._http.headers["Authorization"] = f"Bearer {token}"
        beats = [
            datetime.fromisoformat(beat).timestamp()
            for component in health.values()
            for name, beat in component.items()
            if name.startswith("latest_") and beat
        ]
        return all(component["status"] == "healthy" for component in health.values()) and min(beats) > since

    def api(self, method, path, **arguments):
        """Ask Airflow's API; the path begins after ``/api/v2``."""
        answer = self._http.request(method, f"{self.url}/api/v2{path}", timeout=30, **arguments)
        assert answer.ok, f"{method} {path}: {answer.status_code} {answer.text}"
        return answer.json() if answer.content else None

    def trigger(self, dag_id):
        """Begin a run, and return its id."""
        self.wait_for_dag(dag_id)
        self.api("PATCH", f"/dags/{dag_id}", json={"is_paused": False})
        return self.begin(dag_id)

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

    def trigger_all(self, dag_ids):
        """Begin a run of each of the DAGs at the same time; return ids of DAG and run."""
        for dag_id in set(dag_ids):
            self.wait_for_dag(dag_id)
            self.api("PATCH", f"/dags/{dag_id}", json={"is_paused": False})
        with ThreadPoolExecutor(8) as pool:
            return list(zip(dag_ids, pool.map(self.begin, dag_ids), strict=True))

    def begin(self, dag_id):
        """Begin a run of a DAG that is not paused, and return its id."""
        run = {"logical_date": None, "dag_run_id": f"manual__{datetime.now(UTC).isoformat()}"}

        def begun():
            answer = self._http.post(f"{self.url}/api/v2/dags/{dag_id}/dagRuns", json=run, timeout=30)
            # Airflow's database is locked now and then, if it is a file; the run may have begun all the same.
            return answer.ok or (self.is_small and answer.status_code == 409)

        wait_for(f"a run of {dag_id} begins", begun, seconds=60 if self.is_small else 0)
        return run["dag_run_id"]

    def wait_for_runs(self, runs, *, seconds=300):
        """Wait until runs have ended, and return the time of the last end."""
        ids = [run_id for _, run_id in runs]

        def ends():
            rows = self.query(
                "SELECT run_id, end_date, state FROM dag_run WHERE state IN ('failed', 'success')"
            )
            found = [as_epoch(end) for run_id, end, _ in rows if run_id in ids]
            return found if len(found) == len(ids) else None

        return max(wait_for("the end of the runs", ends, seconds=seconds))

    @contextlib.contextmanager
    def without_delivery_dag(self):
        """Keep the delivery DAG from running, and the provider from relying on it."""
        self.wait_for_dag("bzctrl_delivery")
        self.api("PATCH", "/dags/bzctrl_delivery", json={"is_paused": True})
        # Not of its runs: one whose task is not queued yet runs until the DAG is unpaused, and delivers nothing before.
        running = (
            "SELECT 1 FROM task_instance WHERE state IN ('running', 'queued') AND dag_id = 'bzctrl_delivery'"
        )
        try:
            wait_for("the end of deliveries", lambda: not self.query(running), seconds=120)
            with self.store.transaction() as tx:
                tx.connection.execute(update(schema.lease).values(scheduled_at=0.0))
            yield
        finally:
            self.api("PATCH", "/dags/bzctrl_delivery", json={"is_paused": False})

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

    def component(self, name):
        """Return the main process of a component."""
        return psutil.Process(int((self.logs / f"{name}.pid").read_text()))

    def query(self, statement, **values):
        """Return the rows of a statement on Airflow's database."""
        with create_engine(self.database, poolclass=NullPool).connect() as connection:
            return connection.execute(text(statement), values).all()

    def incidents(self, *states):
        """Return the incidents of the store in some states, summaries left out."""
        with self.store.transaction() as tx:
            return [one for one in incidents.list_of(tx, *states) if not one.is_summary]

    def waiting(self):
        """Return the incidents that are not delivered yet."""
        return self.incidents("waiting", "sending")

    def undecided(self):
        """Return the failed runs that the scheduler has noted, and about which no delivery has decided yet."""
        with self.store.transaction() as tx:
            return [noted.run for noted in failed_runs.list_undecided(tx)]

    def task_processes(self):
        """Return the worker's name, its pool process and the task's process of each running task."""
        return [
            (name, pool, task)
            for name in WORKERS
            for pool in self.component(name).children()
            for task in pool.children()
        ]
