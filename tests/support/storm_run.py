"""Run storms of failures on a cluster, and measure how much the rest of Airflow is held up."""

from __future__ import annotations

import contextlib
import json
import statistics
import time
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from typing import TYPE_CHECKING
from urllib.parse import quote

from support.cluster import PASSWORD, USERNAME, Cluster, as_epoch, wait_for
from support.gate import Gate
from support.storm import CANARIES, failing, late, write_dags

from bzctrl_provider.sandbox import Sandbox

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

END_S = 600
"""The longest that the runs of a storm may take on two busy cores."""


@dataclass
class Measured:
    """Seconds that the rest of Airflow took during a storm."""

    canary_s: list[float] = field(default_factory=list)
    oldest_parse_s: float = 0.0
    took_s: float = 0.0

    def __str__(self):
        median_s, longest_s = statistics.median(self.canary_s), max(self.canary_s)
        return (
            f"callbacks {median_s:.2f} s in the median and {longest_s:.2f} at most,"
            f" oldest parse {self.oldest_parse_s:.1f} s, storm {self.took_s:.0f} s"
        )


class Storm:
    """A cluster with many DAGs, and a BzCtrl behind a gate.

    :param fail_count: DAGs that fail at once, half of them in one file.
    :param late_count: DAGs that miss a deadline.
    :param is_small: whether Airflow is one machine with SQLite, for Airflow and for the store.
    """

    def __init__(self, folder: Path, logs: Path, *, fail_count: int, late_count: int, is_small: bool = False):
        self._is_small = is_small
        self._canary = folder / "canary"
        self._counts = fail_count, late_count
        dags = folder / "dags"
        dags.mkdir()
        self._dag_count = write_dags(
            dags, fail_count=fail_count, late_count=late_count, has_delivery_dag=True
        )
        self.sandbox = Sandbox(username=USERNAME, password=PASSWORD)
        self._logs, self._dags = logs, dags

    @contextlib.contextmanager
    def running(self) -> Iterator[Storm]:
        with self.sandbox as sandbox, Gate("127.0.0.1", int(sandbox.url.rpartition(":")[2])) as self.gate:
            connection = {
                "conn_type": "bzctrl",
                "host": self.gate.url,
                "login": USERNAME,
                "password": PASSWORD,
                "extra": {"domain_workspace": "EXA-CON-BUS-WOR"},
            }
            self.cluster = Cluster(
                logs=self._logs,
                bundles={"storm": self._dags},
                settings={
                    "AIRFLOW__BZCTRL__INCIDENT_ON_FAILED_RUN": "True",
                    "AIRFLOW__BZCTRL__INCLUDE_TAGS": "policy",
                    "AIRFLOW_CONN_BZCTRL_DEFAULT": json.dumps(connection),
                    "AIRFLOW__CORE__DAGS_ARE_PAUSED_AT_CREATION": "False",
                    # Celery may forget a task while its database is restarted, and Airflow fails it after that time.
                    "AIRFLOW__SCHEDULER__TASK_QUEUED_TIMEOUT": "240",
                    "AIRFLOW__SCHEDULER__TASK_QUEUED_TIMEOUT_CHECK_INTERVAL": "15",
                    # The LocalExecutor starts so many processes.
                    "AIRFLOW__CORE__PARALLELISM": "4" if self._is_small else "64",
                    "BZCTRL_TESTS_CANARY": str(self._canary),
                },
                python_path=[self._dags],
                is_small=self._is_small,
            )
            try:
                self.cluster.start()
                wait_for("every DAG is parsed", self._all_parsed, seconds=300)
                self._make_first_request()
                yield self
            finally:
                self.gate.drop_connections()
                left = self.cluster.stop()
            assert not left

    def _make_first_request(self):
        """Have a callback ask Airflow for something: its first response takes the DAG processor some seconds."""
        self._canary.write_text("")
        _, run_id = self._trigger("first_request")
        wait_for("the first request", lambda: self._called({run_id}), seconds=120)

    def _all_parsed(self):
        ((count,),) = self.cluster.query("SELECT count(*) FROM dag WHERE NOT is_stale")
        return count == self._dag_count

    def run(
        self, kind: str, *, disturb: Callable[[], None] | None = None
    ) -> tuple[set[tuple[str, str]], Measured]:
        """Let all DAGs of a kind fail with canaries among them, and deadlines be missed.

        :param disturb: is called when a third of the runs have failed; then nothing is measured, because Airflow may forget callbacks.
        :return: the DAG and run of each incident that there has to be, and what was measured.
        """
        fail_count, late_count = self._counts
        self._end_late_runs()
        self._canary.write_text("")
        measured = Measured()
        began_at = self._began_at = time.monotonic()
        wanted = [*failing(kind, fail_count)]
        for number, dag_id in enumerate(CANARIES, 1):
            wanted.insert(number * len(wanted) // len(CANARIES), dag_id)
        late_ids = late(kind, late_count)
        with ThreadPoolExecutor(1 if self._is_small else 3) as pool:
            runs = set(pool.map(self._trigger, [*late_ids, *wanted]))
        failed = {(dag_id, run_id) for dag_id, run_id in runs if not dag_id.startswith("late")}
        expected = {(dag_id, run_id) for dag_id, run_id in runs if dag_id not in CANARIES}
        ends_at = time.monotonic() + END_S
        if disturb:
            wait_for("a third of the runs", lambda: self._running() < len(failed) * 2 / 3, seconds=END_S)
            self.running_when_disturbed = self._running()
            disturb()
            wait_for("the end of the runs", lambda: not self._running(), seconds=END_S)
            return expected, measured
        while self._running():
            assert time.monotonic() < ends_at, "the runs did not end"
            self._sample_parses(measured)
            time.sleep(0.5)
        canaries = {run_id for dag_id, run_id in failed if dag_id in CANARIES}
        while not (called := self._called(canaries)):
            assert time.monotonic() < ends_at, "the callbacks of the canary were not called"
            self._sample_parses(measured)
            time.sleep(0.5)
        # Until the queue of the files is back at what it was.
        quiet_at = time.monotonic() + 15
        while time.monotonic() < quiet_at:
            self._sample_parses(measured)
            time.sleep(0.5)
        ended = self.cluster.query("SELECT run_id, end_date FROM dag_run WHERE dag_id LIKE 'canary%'")
        measured.canary_s = sorted(
            called[run_id] - as_epoch(end) for run_id, end in ended if run_id in canaries
        )
        measured.took_s = time.monotonic() - began_at
        return expected, measured

    def miss_deadlines(self) -> tuple[set[tuple[str, str]], float]:
        """Let deadlines be missed while a trigger measures how quickly it gets a name looked up, and a thread.

        The delivery DAG is away meanwhile, so that the triggerer delivers by itself.

        :return: the DAG and run of each incident that there has to be, and the slowest seconds.
        """
        probe = self._canary.with_name("canary.probe")
        probe.unlink(missing_ok=True)
        with self.cluster.without_delivery_dag():
            self._trigger("probe")
            with ThreadPoolExecutor(1 if self._is_small else 3) as pool:
                runs = set(pool.map(self._trigger, late("policy", self._counts[1])))
            wait_for("the probe", probe.exists, seconds=END_S)
        return runs, float(probe.read_text())

    def _end_late_runs(self):
        """End the runs that wait for their closed pool since the last storm, so that no storm makes the next one slower."""
        running = self.cluster.query(
            "SELECT dag_id, run_id FROM dag_run WHERE state IN ('running', 'queued') AND dag_id LIKE 'late%'"
        )
        for dag_id, run_id in running:
            self.cluster.api(
                "PATCH", f"/dags/{dag_id}/dagRuns/{quote(run_id, safe='')}", json={"state": "failed"}
            )

    def _trigger(self, dag_id):
        return dag_id, self.cluster.begin(dag_id)

    def _running(self):
        ((count,),) = self.cluster.query(
            "SELECT count(*) FROM dag_run WHERE state IN ('running', 'queued') AND dag_id NOT LIKE 'late%'"
            " AND dag_id <> 'bzctrl_delivery'"
        )
        return count

    def _sample_parses(self, measured):
        ((oldest,),) = self.cluster.query("SELECT min(last_parsed_time) FROM dag WHERE NOT is_stale")
        measured.oldest_parse_s = max(measured.oldest_parse_s, time.time() - as_epoch(oldest))

    def _called(self, run_ids):
        called = dict(line.split(" ", 1) for line in self._canary.read_text().splitlines())
        return {run_id: float(at) for run_id, at in called.items()} if called.keys() >= run_ids else None

    def requests(self):
        """Return how many todos were sent, and how many tokens were asked for."""
        paths = [request.path for request in self.sandbox.requests]
        logins = sum(path.endswith("/oauth/token") for path in paths)
        return len(paths) - logins, logins

    def deliveries(self):
        """Return how many runs of the delivery DAG have begun since the last storm began."""
        begun = self.cluster.query("SELECT start_date FROM dag_run WHERE dag_id = 'bzctrl_delivery'")
        since = time.time() - (time.monotonic() - self._began_at) - 60
        return sum(start is not None and as_epoch(start) > since for (start,) in begun)
