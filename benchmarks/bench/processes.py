"""The processes of a measurement: the server, and the children in which the contestants run."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
import urllib.request
from contextlib import contextmanager
from itertools import count
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

_PACKAGES = Path(__file__).parents[1]
_CHILD_MAX_S = 600


class Bench:
    """A place to measure in: a server, and an Airflow that belongs to nobody.

    :param url: the server's.
    :param home: a folder for Airflow and for files.
    :param is_quick: whether to measure just enough to see that it works.
    """

    def __init__(self, url: str, home: Path, *, is_quick: bool) -> None:
        self.url = url
        self.home = home
        self.is_quick = is_quick
        self._runs = count(1)

    def rounds(self, number: int) -> int:
        """Return how many rounds to make, where a real measurement makes so many."""
        return 2 if self.is_quick else number

    def new_run(self, *, latency_ms: int = 0) -> str:
        """Return an address whose requests are counted by themselves."""
        run = f"{self.url}/run-{next(self._runs)}"
        return f"{run}/latency-{latency_ms}" if latency_ms else run

    def counts(self, run: str) -> dict[str, int]:
        """Return how many connections and requests of each kind a run has made."""
        name = run.removeprefix(self.url).split("/")[1]
        with urllib.request.urlopen(f"{self.url}/{name}/counts", timeout=10) as answer:  # noqa: S310 - our own server
            counts: dict[str, int] = json.load(answer)
        return counts

    def child(self, name: str, *arguments: object, run: str = "") -> dict[str, Any]:
        """Run a child and return what it measured.

        :param name: of a module in ``bench.children``.
        :param arguments: its command line.
        :param run: the address that its connections lead to.
        """
        command = [sys.executable, "-m", f"bench.children.{name}", *map(str, arguments)]
        done = subprocess.run(
            command,
            env=self._environment(run),
            capture_output=True,
            text=True,
            timeout=_CHILD_MAX_S,
            check=False,
        )
        if done.returncode:
            raise RuntimeError(f"{' '.join(command)} failed:\n{done.stderr}")
        answer: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
        return answer

    def _environment(self, run: str) -> dict[str, str]:
        # Of its own and small: requests looks through all of the environment for proxies, and bytecode is wanted.
        connection = {"login": "user@example.com", "password": "a password", "host": run}
        return {
            "HOME": str(self.home),
            "LANG": "C.UTF-8",
            "PATH": os.environ["PATH"],
            "PYTHONPATH": str(_PACKAGES),
            "AIRFLOW_HOME": str(self.home),
            "AIRFLOW__CORE__LOAD_EXAMPLES": "False",
            "AIRFLOW_CONN_BZCTRL_DEFAULT": json.dumps({"conn_type": "bzctrl", **connection}),
            "AIRFLOW_CONN_HTTP_DEFAULT": json.dumps({"conn_type": "http", **connection}),
        }


@contextmanager
def bench(*, is_quick: bool = False) -> Iterator[Bench]:
    """Start the server and make the place; end both afterwards."""
    command: Sequence[str] = [sys.executable, str(Path(__file__).with_name("server.py"))]
    with (
        tempfile.TemporaryDirectory(prefix="bzctrl-bench-") as home,
        subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as server,
    ):
        try:
            assert server.stdout is not None
            port = int(server.stdout.readline())
            yield Bench(f"http://127.0.0.1:{port}", Path(home), is_quick=is_quick)
        finally:
            server.kill()
