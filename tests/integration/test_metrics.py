from __future__ import annotations

import os
import socket
import subprocess
import sys

import pytest

SCRIPT = """
import importlib.util

# As Airflow 3.2 does where a task starts; earlier versions do it by themselves.
if importlib.util.find_spec("airflow.sdk") and importlib.util.find_spec("airflow.sdk.observability"):
    from airflow.sdk.observability import stats
    from airflow.sdk.observability.metrics import stats_utils
    try:
        stats.initialize(factory=stats_utils.get_stats_factory(), export_legacy_names=True)
    except AttributeError:  # Airflow 3.2
        stats.Stats.initialize(factory=stats_utils.get_stats_factory(stats.Stats))
from bzctrl_provider.metrics import count_todos, gauge_outbox, time_create

for outcome in ("created", "failed", "deduplicated", "silenced", "ignored", "queued", "grouped"):
    count_todos(outcome, todo_type="INCIDENT", number=2)
with time_create(todo_type="TASK", clock=iter([1.0, 2.5]).__next__):
    pass
gauge_outbox(waiting=3, oldest_s=61.4)
"""


@pytest.fixture
def listener():
    """Return a socket that gets what Airflow sends to StatsD."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as listener:
        listener.bind(("127.0.0.1", 0))
        listener.settimeout(10)
        yield listener


@pytest.mark.parametrize(
    ("tags", "counter", "timer"),
    [
        ("True", "bzctrl.todos.{},todo_type=INCIDENT:2|c", "bzctrl.create,todo_type=TASK:1500.000000|ms"),
        ("False", "bzctrl.todos.{}:2|c", "bzctrl.create:1500.000000|ms"),
    ],
    ids=["with-tags", "without-tags"],
)
def test_metrics_reach_a_statsd_listener(listener, tags, counter, timer):
    """Each metric is one datagram of StatsD, with the prefix of the deployment and the tag if it has tags."""
    env = os.environ | {
        "AIRFLOW__METRICS__STATSD_ON": "True",
        "AIRFLOW__METRICS__STATSD_HOST": "127.0.0.1",
        "AIRFLOW__METRICS__STATSD_PORT": str(listener.getsockname()[1]),
        "AIRFLOW__METRICS__STATSD_PREFIX": "prod",
        "AIRFLOW__METRICS__STATSD_INFLUXDB_ENABLED": tags,
    }
    subprocess.run([sys.executable, "-W", "ignore", "-c", SCRIPT], env=env, check=True, timeout=120)
    received = []
    while len(received) < 10:
        text = listener.recv(65536).decode()
        if "bzctrl" in text:
            received.append(text)
    outcomes = ("created", "failed", "deduplicated", "silenced", "ignored", "queued", "grouped")
    assert received == [
        *(f"prod.{counter.format(outcome)}" for outcome in outcomes),
        f"prod.{timer}",
        "prod.bzctrl.outbox.waiting:3|g",
        "prod.bzctrl.outbox.oldest_s:61|g",
    ]
