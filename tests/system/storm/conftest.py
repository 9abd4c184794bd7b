from __future__ import annotations

import contextlib
import json
from types import SimpleNamespace

import pytest
from support.cluster import PASSWORD, RUN, USERNAME, Cluster
from support.gate import Gate
from system.storm.dags import write_dags

from bzctrl_provider.sandbox import Sandbox


@pytest.fixture(scope="session")
def start_cluster(tmp_path_factory):
    """Return a function that starts a cluster whose DAGs fail, with the policy on or off, and BzCtrl behind a gate."""
    dags = tmp_path_factory.mktemp("dags")
    write_dags(dags)

    @contextlib.contextmanager
    def start(*, policy):
        folder = tmp_path_factory.mktemp("storm")
        with Sandbox(username=USERNAME, password=PASSWORD) as sandbox, Gate(*address(sandbox.url)) as gate:
            connection = {
                "conn_type": "bzctrl",
                "host": gate.url,
                "login": USERNAME,
                "password": PASSWORD,
                "extra": {"domain_workspace": "EXA-CON-BUS-WOR", "timeout_s": 10},
            }
            cluster = Cluster(
                logs=RUN / f"storm-{'on' if policy else 'off'}",
                bundles={"storm": dags},
                settings={
                    "AIRFLOW__BZCTRL__INCIDENT_ON_FAILED_RUN": str(policy),
                    "AIRFLOW__BZCTRL__INCLUDE_TAGS": "policy",
                    "AIRFLOW__BZCTRL__SPOOL_PATH": str(folder / "spool"),
                    "AIRFLOW_CONN_BZCTRL_DEFAULT": json.dumps(connection),
                    "BZCTRL_TESTS_CANARY": str(folder / "canary"),
                    # With fewer, 160 runs would wait for each other.
                    "AIRFLOW__CORE__PARALLELISM": "64",
                },
            )
            try:
                cluster.start()
                yield SimpleNamespace(
                    cluster=cluster,
                    sandbox=sandbox,
                    gate=gate,
                    spool=folder / "spool",
                    canary=folder / "canary",
                )
            finally:
                gate.drop_connections()
                left = cluster.stop()
        assert not left

    return start


def address(url):
    host, _, port = url.removeprefix("http://").partition(":")
    return host, int(port)
