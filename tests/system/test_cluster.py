from __future__ import annotations

import pytest
from support.cluster import WORKERS, wait_for

pytestmark = pytest.mark.usefixtures("cluster")


def test_forty_mapped_incidents_over_two_workers_are_forty_todos(cluster, todos):
    """Each order has exactly one todo, and both workers made some."""
    run_id, state = cluster.run("forty", seconds=300)
    assert state == "success"
    assert sorted(todo["orderID"] for todo in todos()) == sorted(f"ORDER {number}" for number in range(40))
    assert {todo["lrn"] for todo in todos()} == set(WORKERS)
    assert {tries for _, tries in cluster.tries("forty", run_id).values()} == {1}


def test_failed_checks_are_one_incident_and_the_run_stays_failed(cluster, todos):
    """The operator behind the checks tells all that failed, with the reasons that the deployment remembers."""
    run_id, state = cluster.run("covered_task_ids")
    assert state == "failed"
    (todo,) = todos()
    assert todo["orderID"] == run_id
    assert todo["priority"] == "HIGH"
    assert "fails" in todo["description"]
    assert "the totals differ by 7" in todo["description"]
    assert "odd (@task): 2 of 4 mapped failed (1, 3)" in todo["description"]
    assert "3 is odd" in todo["description"]
    assert f"{cluster.url}/dags/covered_task_ids/runs/" in todo["description"]


def test_a_dag_under_the_policy_raises_one_incident(cluster, todos):
    """A DAG that knows nothing of BzCtrl is told by the DAG processor, with the exception of the task."""
    run_id, state = cluster.run("under_the_policy")
    assert state == "failed"
    wait_for("the callback of the DAG", todos, seconds=60)
    (todo,) = todos()
    assert todo["orderID"] == run_id
    assert "the totals differ by 7" in todo["description"]


def test_a_missed_deadline_raises_an_incident_while_the_run_goes_on(cluster, todos):
    """The triggerer raises it."""
    run_id = cluster.trigger("late")
    wait_for("the deadline", todos, seconds=60)
    assert cluster.api("GET", f"/dags/late/dagRuns/{run_id}")["state"] == "running"
    assert cluster.wait_for_run("late", run_id) == "success"
    assert [(todo["title"], todo["description"]) for todo in todos()] == [("late is late", run_id)]
