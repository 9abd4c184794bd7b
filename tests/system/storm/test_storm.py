from __future__ import annotations

import json
import re
import statistics
import time
from dataclasses import dataclass, field

import pytest
from support.cluster import RUN, wait_for
from system.storm.dags import FAILING, LATE

CANARY_RUNS = 3
END_S = 420
"""The longest that a hundred and twenty runs may take on two cores."""


@dataclass
class Measured:
    """How long the rest of Airflow took during a storm, in seconds."""

    canary_s: list[float] = field(default_factory=list)
    oldest_parse_s: float = 0.0


def parse_time(text):
    from datetime import datetime

    return datetime.fromisoformat(text).timestamp()


def sample_parses(storm, measured):
    dags = storm.cluster.api("GET", "/dags?limit=200")["dags"]
    oldest = min(parse_time(dag["last_parsed_time"]) for dag in dags)
    measured.oldest_parse_s = max(measured.oldest_parse_s, time.time() - oldest)


def count_running(storm):
    return storm.cluster.api("GET", "/dags/~/dagRuns?state=running&state=queued&limit=1")["total_entries"]


def run_storm(storm):
    """Let all DAGs fail, with a canary among them; return their run ids by DAG, and what was measured."""
    cluster, measured = storm.cluster, Measured()
    wait_for(
        "every DAG is parsed",
        lambda: cluster.api("GET", "/dags?limit=1")["total_entries"] >= len(FAILING) + len(LATE) + 2,
        seconds=180,
    )
    storm.canary.write_text("")
    canaries = []
    runs = {}
    for number, dag_id in enumerate(FAILING):
        runs[dag_id] = cluster.trigger(dag_id)
        if number % (len(FAILING) // CANARY_RUNS) == len(FAILING) // CANARY_RUNS - 1:
            canaries.append(cluster.trigger("canary"))
    ends_at = time.monotonic() + END_S
    while count_running(storm):
        assert time.monotonic() < ends_at, "the runs did not end"
        sample_parses(storm, measured)
        time.sleep(2)
    called = wait_for("the canary's callbacks", lambda: read_canary(storm, canaries), seconds=END_S)
    for run_id in canaries:
        ended = cluster.api("GET", f"/dags/canary/dagRuns/{run_id}")["end_date"]
        measured.canary_s.append(called[run_id] - parse_time(ended))
    sample_parses(storm, measured)
    return runs, measured


def read_canary(storm, run_ids):
    called = dict(line.split(" ", 1) for line in storm.canary.read_text().splitlines())
    return {run_id: float(at) for run_id, at in called.items()} if called.keys() >= set(run_ids) else None


def entries(storm):
    """Return the entries of the spool that wait, and the tombstones of those that were delivered."""
    waiting = [path for path in storm.spool.glob("*.json") if path.is_file()]
    delivered = [json.loads(path.read_bytes()) for path in (storm.spool / "delivered").glob("*.json")]
    return waiting, delivered


def deliver(storm):
    """Run the delivery DAG once."""
    _, state = storm.cluster.run("bzctrl_delivery", seconds=300)
    assert state == "success"


def check_exactly_once(storm, order_ids):
    """Check that each failure is in exactly one todo: one of its own, or one summary."""
    waiting, delivered = entries(storm)
    assert not waiting
    todos = {todo["key"]: todo for todo in storm.sandbox.todos}
    by_order_id = {tombstone["order_id"]: tombstone["key"] for tombstone in delivered}
    assert by_order_id.keys() == set(order_ids)
    assert len(delivered) == len(order_ids)
    assert set(by_order_id.values()) == todos.keys()
    for key, todo in todos.items():
        covered = [order_id for order_id, of in by_order_id.items() if of == key]
        if len(covered) == 1:
            assert todo["orderID"] == covered[0]
        else:
            assert re.match(rf"{len(covered)} ", todo["title"]), todo["title"]
    assert not any("duplicate" in todo["description"] for todo in todos.values())


def report(name, measured):
    """Keep what was measured for people to look at."""
    line = f"{name}: canary's callbacks {[round(s, 1) for s in measured.canary_s]} s, oldest parse {measured.oldest_parse_s:.1f} s\n"
    with (RUN / "storm.txt").open("a") as file:
        file.write(line)


@pytest.fixture(scope="module")
def baseline(start_cluster):
    """Run the storm once with the policy off."""
    with start_cluster(policy=False) as storm:
        _, measured = run_storm(storm)
        assert storm.sandbox.requests == []
    report("policy off", measured)
    return measured


@pytest.fixture(scope="module")
def storm(baseline, start_cluster):
    with start_cluster(policy=True) as storm:
        yield storm


@pytest.mark.parametrize("mode", ["healthy", "slow", "silent", "comes back"])
def test_storm_of_failed_runs_is_delivered_exactly_once(storm, baseline, mode):
    """No failure of 120 at once is lost or doubled, and the rest of Airflow is as quick as without the policy."""
    storm.sandbox.reset()
    before = len(entries(storm)[1])
    storm.gate.mode = "refused" if mode == "comes back" else mode
    runs, measured = run_storm(storm)
    report(mode, measured)

    def all_written():
        waiting, delivered = entries(storm)
        return len(waiting) + len(delivered) - before == len(runs)

    wait_for("every incident is in the spool", all_written, seconds=120)
    storm.gate.mode = "healthy"
    storm.gate.drop_connections()
    deliver(storm)
    check_exactly_once(storm, runs.values())
    assert statistics.median(measured.canary_s) <= 1.25 * statistics.median(baseline.canary_s)
    assert measured.oldest_parse_s <= 1.25 * baseline.oldest_parse_s
