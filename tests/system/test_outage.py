from __future__ import annotations

import time
from collections import Counter

from support.cluster import COMPONENTS, wait_for

DOWN_S = 30


def test_outage_of_bzctrl_delays_every_todo_and_loses_none(cluster, bzctrl, todos):
    """Tasks are retried until it is available; the incident of a callback waits in the outbox, and is delivered."""
    todos()
    bzctrl.stop()
    went_down_at = time.monotonic()
    try:
        mapped = cluster.trigger("through_an_outage")
        policed, state = cluster.run("under_the_policy_in_an_outage")
        assert state == "failed"
        wait_for("the outbox", cluster.waiting, seconds=120)
        time.sleep(max(0, DOWN_S - (time.monotonic() - went_down_at)))
    finally:
        bzctrl.start()

    assert cluster.wait_for_run("through_an_outage", mapped, seconds=300) == "success"
    tries = [tries for _, tries in cluster.tries("through_an_outage", mapped).values()]
    assert max(tries) > 1, "the outage was felt"
    # The delivery DAG runs each minute, and by itself.
    wait_for("an empty outbox", lambda: not cluster.waiting(), seconds=180)
    expected = {policed, *(f"ORDER {number}" for number in range(10))}
    assert sorted(todo["orderID"] for todo in todos()) == sorted(expected)
    assert not any("duplicate" in todo["description"] for todo in todos())
    (incident,) = [todo for todo in todos() if todo["orderID"] == policed]
    assert "the totals differ by 7" in incident["description"]


def test_outage_with_every_component_and_disk_lost_loses_nothing(cluster, bzctrl, todos):
    """Each of 23 failures during an outage is one todo after one delivery, although every component was killed and its disk lost.

    They are 10 runs of the policy, 5 tasks with a notifier, 5 operators on their last try with the policy beside them, and
    3 deadlines.
    """
    todos()
    with cluster.without_delivery_dag():
        bzctrl.stop()
        try:
            runs = cluster.trigger_all(
                ["late"] * 3
                + ["checked_in_an_outage"] * 5
                + ["notified_in_an_outage"] * 5
                + ["under_the_policy_in_an_outage"] * 10
            )
            cluster.wait_for_runs(runs)

            def find_stored():
                noted = {(run.dag_id, run.run_id) for run in cluster.undecided()}
                return noted | {(one.facts["dag_id"], one.facts["run_id"]) for one in cluster.waiting()}

            # Airflow hands a callback out once: nobody can call those again that are lost before they are called.
            wait_for("every failure is in the store", lambda: find_stored() == set(runs), seconds=180)
            cluster.kill_components()
            assert find_stored() == set(runs)
            assert not [name for name in COMPONENTS if (cluster.disk(name) / "bzctrl.db").exists()]
        finally:
            bzctrl.start()
        result = cluster.deliver()
    assert len(result["created"]) == len(runs) == 23
    assert cluster.waiting() == []
    assert Counter(todo["orderID"] for todo in todos()) == Counter(run_id for _, run_id in runs)
    assert not any("duplicate" in todo["description"] for todo in todos())
    queued = [todo for todo in todos() if "checked_in_an_outage" in todo["description"]]
    assert not any("raise_incident" in todo["title"] + todo["description"] for todo in queued)


def test_pod_for_each_task_loses_nothing(cluster, bzctrl, todos):
    """Tasks whose disk is deleted with them leave nothing on it: what BzCtrl did not take waits in the store."""
    todos()
    with cluster.without_delivery_dag():
        bzctrl.stop()
        try:
            runs = cluster.trigger_all(["in_pods"] * 5)
            cluster.wait_for_runs(runs)
            wait_for("both of each run", lambda: len(cluster.waiting()) == 10, seconds=120)
            wait_for("the end of the pods", lambda: not list(cluster.shared.glob("pod-*")), seconds=60)
        finally:
            bzctrl.start()
        result = cluster.deliver()
    assert len(result["created"]) == 10
    assert Counter(todo["orderID"] for todo in todos()) == Counter({run_id: 2 for _, run_id in runs})
