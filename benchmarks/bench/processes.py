"""The processes of a measurement: the server, and one for each group of figures."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

from bench.databases import postgresql

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

LATENCY_MS = 50
"""How long the server waits before each of its responses to the groups of ``_SLOW``."""

_SLOW = ("bulk", "delivery")

_PACKAGES = Path(__file__).parents[1]
_GROUP_MAX_S = 3600


class Bench:
    """A server and an Airflow to measure with, which are used for nothing else.

    :param url: the server's address.
    :param home: the folder of Airflow.
    :param database: the variables with which a measurement finds PostgreSQL.
    """

    def __init__(self, url: str, home: Path, database: Mapping[str, str]) -> None:
        self._url = url
        self._home = home
        self._database = database

    def measure(self, group: str, rounds: int) -> dict[str, list[float]]:
        """Return the values of each figure of a group, round by round.

        :param group: the name of a module of this package.
        :param rounds: how many rounds to measure.
        """
        command = [sys.executable, "-m", f"bench.{group}", str(rounds)]
        url = f"{self._url}/latency-{LATENCY_MS}" if group in _SLOW else self._url
        done = subprocess.run(
            command,
            env=self._environment(url),
            capture_output=True,
            text=True,
            timeout=_GROUP_MAX_S,
            check=False,
        )
        if done.returncode:
            raise RuntimeError(f"{' '.join(command)} failed:\n{done.stderr}")
        values: dict[str, list[float]] = json.loads(done.stdout.splitlines()[-1])
        return values

    def _environment(self, url: str) -> dict[str, str]:
        # Small, because requests looks through all of it for proxies; without PYTHONDONTWRITEBYTECODE.
        connection = {"login": "user@example.com", "password": "a password", "host": url}
        return {
            "HOME": str(self._home),
            "LANG": "C.UTF-8",
            "PATH": os.environ["PATH"],
            "PYTHONPATH": str(_PACKAGES),
            "AIRFLOW_HOME": str(self._home),
            "AIRFLOW__CORE__LOAD_EXAMPLES": "False",
            "AIRFLOW_CONN_BZCTRL_DEFAULT": json.dumps({"conn_type": "bzctrl", **connection}),
            "AIRFLOW_CONN_HTTP_DEFAULT": json.dumps({"conn_type": "http", **connection}),
            **self._database,
        }


@contextmanager
def bench() -> Iterator[Bench]:
    """Start the server and PostgreSQL, and end them afterwards."""
    command = [sys.executable, str(Path(__file__).with_name("server.py"))]
    with (
        tempfile.TemporaryDirectory(prefix="bzctrl-bench-") as home,
        postgresql() as database,
        subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as server,
    ):
        try:
            assert server.stdout is not None
            port = int(server.stdout.readline())
            yield Bench(f"http://127.0.0.1:{port}", Path(home), database)
        finally:
            server.kill()
