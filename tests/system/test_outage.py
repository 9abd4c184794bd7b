from __future__ import annotations

import time

from support.cluster import wait_for

DOWN_S = 30


def test_outage_of_bzctrl_delays_every_todo_and_loses_none(cluster, bzctrl, todos):
    """Tasks are retried until it is available; the incident of a callback waits in the spool, and is delivered."""
    todos()
    bzctrl.stop()
    went_down_at = time.monotonic()
    try:
        mapped = cluster.trigger("through_an_outage")
        policed, state = cluster.run("under_the_policy_in_an_outage")
        assert state == "failed"
        wait_for("the spool", cluster.waiting, seconds=60)
        time.sleep(max(0, DOWN_S - (time.monotonic() - went_down_at)))
    finally:
        bzctrl.start()

    assert cluster.wait_for_run("through_an_outage", mapped, seconds=300) == "success"
    tries = [tries for _, tries in cluster.tries("through_an_outage", mapped).values()]
    assert max(tries) > 1, "the outage was felt"
    # The delivery DAG runs each minute, and by itself.
    wait_for("an empty spool", lambda: not cluster.waiting(), seconds=180)
    expected = {policed, *(f"ORDER {number}" for number in range(10))}
    assert sorted(todo["orderID"] for todo in todos()) == sorted(expected)
    assert not any("duplicate" in todo["description"] for todo in todos())
    (incident,) = [todo for todo in todos() if todo["orderID"] == policed]
    assert "the totals differ by 7" in incident["description"]
