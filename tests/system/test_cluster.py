from __future__ import annotations

import pytest
from support.cluster import WORKERS, wait_for

pytestmark = pytest.mark.usefixtures("cluster")


def test_mapped_operator_on_two_workers_creates_one_todo_each(cluster, todos):
    """Each of 40 orders has one todo, and both workers created some."""
    run_id, state = cluster.run("forty", seconds=300)
    assert state == "success"
    assert sorted(todo["orderID"] for todo in todos()) == sorted(f"ORDER {number}" for number in range(40))
    assert {todo["lrn"] for todo in todos()} == set(WORKERS)
    assert {tries for _, tries in cluster.tries("forty", run_id).values()} == {1}


def test_operator_after_failed_checks_raises_one_incident(cluster, todos):
    """The incident lists all failed checks with their exceptions, and the run stays failed."""
    run_id, state = cluster.run("failed_checks")
    assert state == "failed"
    (todo,) = todos()
    assert todo["orderID"] == run_id
    assert todo["priority"] == "HIGH"
    assert "fails" in todo["description"]
    assert "the totals differ by 7" in todo["description"]
    assert "odd (@task): 2 of 4 mapped failed (1, 3)" in todo["description"]
    assert "3 is odd" in todo["description"]
    assert f"{cluster.url}/dags/failed_checks/runs/" in todo["description"]


def test_policy_for_a_failed_run_raises_one_incident(cluster, todos):
    """The scheduler notes it for a DAG without BzCtrl in its file, and the delivery raises it with the exception of the task."""
    run_id, state = cluster.run("under_the_policy")
    assert state == "failed"
    wait_for("the delivery", todos, seconds=120)
    (todo,) = todos()
    assert todo["orderID"] == run_id
    assert "the totals differ by 7" in todo["description"]


def test_deadline_missed_raises_an_incident_during_the_run(cluster, todos):
    """The triggerer writes the incident while the run is still running; the delivery DAG creates it."""
    run_id = cluster.trigger("late")
    wait_for("the deadline", lambda: cluster.waiting() or todos(), seconds=60)
    assert cluster.api("GET", f"/dags/late/dagRuns/{run_id}")["state"] == "running"
    assert cluster.wait_for_run("late", run_id) == "success"
    wait_for("the delivery", todos, seconds=120)
    assert [(todo["title"], todo["description"]) for todo in todos()] == [("late is late", run_id)]
