from __future__ import annotations

import os
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

import pytest
import requests
from support.cluster import RUN, free_ports, wait_for
from support.supervisor import Service, Supervised


class Webserver:
    """Airflow 2's own UI, without other components."""

    def __init__(self):
        self.home = Path(tempfile.mkdtemp(prefix="bzctrl-airflow-2-"))
        # Nobody has to log in.
        (self.home / "webserver_config.py").write_text(
            'AUTH_ROLE_PUBLIC = "Admin"\nWTF_CSRF_ENABLED = True\n'
        )
        (port,) = free_ports(1)
        self.url = f"http://127.0.0.1:{port}"
        self._env = {
            **{name: value for name, value in os.environ.items() if not name.startswith("AIRFLOW")},
            "PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}",
            "AIRFLOW_HOME": str(self.home),
            "AIRFLOW__CORE__LOAD_EXAMPLES": "False",
            "AIRFLOW__WEBSERVER__WEB_SERVER_HOST": "127.0.0.1",
            "AIRFLOW__WEBSERVER__WEB_SERVER_PORT": str(port),
            "AIRFLOW__WEBSERVER__WORKERS": "1",
        }
        self._supervised = Supervised(self.home)
        self.airflow("db", "migrate")
        logs = RUN / "logs-airflow-2"
        shutil.rmtree(logs, ignore_errors=True)
        logs.mkdir(parents=True)
        self._supervised.start(
            Service(name="webserver", command=["airflow", "webserver"], env=self._env, folder=str(logs))
        )
        wait_for("the web server", self._is_there, seconds=180)

    def _is_there(self):
        try:
            return requests.get(f"{self.url}/health", timeout=10).ok
        except requests.RequestException:
            return False

    def airflow(self, *command):
        """Run a command of Airflow's, and return what it prints."""
        return subprocess.run(
            ["airflow", *command], env=self._env, capture_output=True, text=True, timeout=300, check=True
        ).stdout

    def stop(self):
        self._supervised.stop()
        assert not self.home.exists()


@pytest.fixture(scope="session")
def webserver():
    webserver = Webserver()
    yield webserver
    webserver.stop()
