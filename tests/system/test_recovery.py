"""Failures that repeat, and backfills, under a real scheduler."""

from __future__ import annotations

import time
from datetime import UTC, datetime
from pathlib import Path

import pytest
from support.cluster import as_epoch, wait_for

OUTCOMES = ("failed", "failed", "success", "failed", "failed", "failed")
INCIDENTS = [1, 1, 1, 2, 2, 2]
"""After each of these runs: a success ends the window of the failure before it."""


def deliver(cluster):
    """Create what waits, without waiting for the next run of the delivery DAG."""
    if cluster.waiting():
        cluster.deliver()


@pytest.fixture(scope="module")
def workers_of_other_times(cluster):
    """Start a worker whose clock is 90 s ahead, and one whose clock is 90 s behind."""
    library = next(Path("/usr/lib").glob("*/faketime/libfaketimeMT.so.1"))
    shifted = {"LD_PRELOAD": str(library), "FAKETIME_DONT_FAKE_MONOTONIC": "1"}
    for queue, shift in {"ahead": "+90", "behind": "-90"}.items():
        cluster.start_worker(queue, queue=queue, env={**shifted, "FAKETIME": shift})
    for queue in ("ahead", "behind"):
        cluster.wait_for_worker(queue)


@pytest.mark.parametrize("dag_id", ["recovers_run", "recovers_task", "recovers_checks"])
def test_success_between_failures_of_one_window_ends_it(cluster, todos, dag_id):
    """Two failures are one incident, and after a success the next failures are a second one: by callback and by roll-up."""
    run_outcomes(cluster, todos, dag_id)


@pytest.mark.usefixtures("workers_of_other_times")
@pytest.mark.parametrize("queue", ["ahead", "behind"])
@pytest.mark.parametrize("kind", ["recovers", "recovers_checks"])
def test_success_ends_the_window_on_a_worker_with_another_time(cluster, todos, kind, queue):
    """The same, if the clock of the worker is 90 s ahead or behind, as the start of its tasks shows."""
    dag_id = f"{kind}_{queue}"
    run_outcomes(cluster, todos, dag_id)
    ((start,),) = cluster.query(
        "SELECT max(start_date) FROM task_instance WHERE dag_id = :dag_id AND task_id = 'check'",
        dag_id=dag_id,
    )
    shift_s = as_epoch(start) - time.time()
    assert shift_s > 30 if queue == "ahead" else shift_s < -90


def run_outcomes(cluster, todos, dag_id):
    called = cluster.shared / f"called_{dag_id}"
    cluster.wait_for_dag(dag_id)
    cluster.api("PATCH", f"/dags/{dag_id}", json={"is_paused": False})
    seen = []
    for outcome in OUTCOMES:
        run = {"logical_date": datetime.now(UTC).isoformat(), "conf": {"ends": outcome}}
        run_id = cluster.api("POST", f"/dags/{dag_id}/dagRuns", json=run)["dag_run_id"]
        assert cluster.wait_for_run(dag_id, run_id) == outcome
        if outcome == "failed":
            wait_for(
                "the callbacks of the run",
                lambda run_id=run_id: called.exists() and run_id in called.read_text(),
                seconds=120,
            )
            deliver(cluster)
        seen.append(len(todos()))
    assert seen == INCIDENTS


def test_backfill_raises_incidents_only_if_a_route_says_so(cluster, todos):
    """Twenty failed runs of a backfill raise none, but the scheduled run does; a route lets each of the other DAG's raise one."""

    def incidents(dag_id):
        return [todo for todo in todos() if f"/dags/{dag_id}/" in todo["description"]]

    for dag_id, runs in {"backfilled_orders": 20, "backfilled_declarations": 5}.items():
        cluster.wait_for_dag(dag_id)
        cluster.api("PATCH", f"/dags/{dag_id}", json={"is_paused": False})
        asked = {
            "dag_id": dag_id,
            "from_date": "2000-01-01T00:00:00Z",
            "to_date": f"{1999 + runs}-01-01T00:00:00Z",
            "max_active_runs": 5,
        }
        cluster.api("POST", "/backfills", json=asked)

        def ended(dag_id=dag_id, runs=runs):
            found = cluster.api("GET", f"/dags/{dag_id}/dagRuns?limit=100")["dag_runs"]
            return len(found) == runs + 1 and all(run["state"] == "failed" for run in found) and found

        found = wait_for(f"the backfill of {dag_id}", ended, seconds=300)
        assert sorted(run["run_type"] for run in found) == ["backfill"] * runs + ["scheduled"]

    # Both DAGs are in one file, whose callbacks Airflow calls one after the other.
    def all_raised():
        deliver(cluster)
        return len(incidents("backfilled_declarations")) == 6

    wait_for("the incidents", all_raised, seconds=120)
    (incident,) = incidents("backfilled_orders")
    assert "/runs/scheduled__" in incident["description"]
    assert len(todos()) == 7
