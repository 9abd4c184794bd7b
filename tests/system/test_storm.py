"""Many failures at once, on a cluster of its own, while BzCtrl is well, slow, silent or away.

``BZCTRL_STORM_RUNS`` and ``BZCTRL_STORM_DEADLINES`` are the numbers of failing runs and of missed deadlines.
"""

from __future__ import annotations

import os
import statistics
from collections import Counter
from urllib.parse import quote

import pytest
from support.cluster import RUN, wait_for
from support.storm_run import Storm

RUNS = int(os.environ.get("BZCTRL_STORM_RUNS", "30"))
DEADLINES = int(os.environ.get("BZCTRL_STORM_DEADLINES", "10"))

CANARY_MAX_S = 60
"""Before incidents were written first, the callback of another DAG came up to 336 s late."""
OLDEST_PARSE_MAX_S = 150
"""Before, DAG files were not parsed for up to 355 s; without a storm, each is parsed every 30 s."""

LISTED_MAX = 100
"""A summary names this many of its incidents, and the number of all."""

TRIGGER_MAX_S = 10
"""Before, look-ups of names waited up to 147 s in the triggerer."""


def report(line):
    """Keep a line for people to look at."""
    with (RUN / "storm.txt").open("a") as file:
        file.write(f"{line}\n")


@pytest.fixture(scope="module")
def storm(tmp_path_factory):
    RUN.mkdir(parents=True, exist_ok=True)
    storm = Storm(
        tmp_path_factory.mktemp("storm"),
        RUN / "storm",
        fail_count=RUNS,
        late_count=DEADLINES,
        has_delivery_dag=True,
    )
    with storm.running():
        yield storm


@pytest.fixture(params=["healthy", "slow", "silent", "refused"])
def during(request, storm):
    """Run one storm under a state of BzCtrl, after which it is well again, and just before it the same one without ours.

    :return: the DAG and run of each incident that there has to be, what was measured, the same of the storms without a
        callback and with one that does nothing, and the tombstones before.
    """
    storm.sandbox.reset()
    without = {kind: storm.run(kind)[1] for kind in ("plain", "light")}
    assert storm.sandbox.requests == []
    before = storm.tombstones()
    storm.gate.mode = request.param
    expected, measured = storm.run("policy")

    def all_written():
        return len(storm.waiting_entries()) + len(storm.tombstones()) - len(before) == len(expected)

    wait_for("every incident is written", all_written, seconds=120)
    storm.gate.mode = "healthy"
    if request.param == "silent":
        storm.gate.drop_connections()
    for kind, what in {**without, request.param: measured}.items():
        report(f"{RUNS} runs and {DEADLINES} deadlines, {kind}: {what}")
    return expected, measured, without, before


def test_storm_loses_nothing_and_holds_up_nothing(storm, during):
    """After one delivery each failure is in exactly one todo; meanwhile callbacks of others come, and DAG files are parsed."""
    expected, measured, without, before = during
    storm.cluster.airflow("bzctrl", "spool", "deliver")

    assert storm.waiting_entries() == []
    known = {name for name, _ in before}
    tombstones = [tombstone for name, tombstone in storm.tombstones() if name not in known]
    facts = [tombstone["facts"] for tombstone in tombstones]
    assert sorted((fact["dag_id"], fact["run_id"]) for fact in facts) == sorted(expected)
    todos = storm.sandbox.todos
    covered = Counter(tombstone["key"] for tombstone in tombstones)
    assert covered.keys() == {todo["key"] for todo in todos}
    for todo in todos:
        addresses = [
            address
            for dag_id, run_id in expected
            if (address := f"/dags/{dag_id}/runs/{quote(run_id)}") in todo["description"]
        ]
        assert len(addresses) == min(covered[todo["key"]], LISTED_MAX)
        if len(addresses) > 1:
            assert todo["title"].startswith(f"{covered[todo['key']]} ")
    assert not any("may be a duplicate" in todo["description"] for todo in todos)

    creations, logins = storm.requests()
    assert creations == len(todos)
    assert logins <= storm.deliveries() + 1, "one for each run of the delivery DAG, and for the command"

    assert max(measured.canary_s) < CANARY_MAX_S
    assert measured.oldest_parse_s < OLDEST_PARSE_MAX_S
    report(f"  {len(expected)} incidents, {creations} todos, {logins} logins")
    for kind, off in without.items():
        callback = statistics.median(measured.canary_s) / statistics.median(off.canary_s)
        oldest = measured.oldest_parse_s / off.oldest_parse_s
        report(f"  beside {kind}: callback x {callback:.2f}, oldest parse x {oldest:.2f}")


def test_missed_deadlines_while_bzctrl_is_silent_hold_up_no_other_trigger(storm):
    """Names are looked up and threads begin in the triggerer as ever; each deadline is in the spool."""
    before = len(storm.waiting_entries()) + len(storm.tombstones())
    storm.gate.mode = "silent"
    try:
        expected, slowest_s = storm.miss_deadlines()
        wait_for(
            "every incident is written",
            lambda: len(storm.waiting_entries()) + len(storm.tombstones()) - before == len(expected),
            seconds=120,
        )
    finally:
        storm.gate.mode = "healthy"
        storm.gate.drop_connections()
    report(
        f"{DEADLINES} deadlines, silent: a look-up of a name and a thread took another trigger {slowest_s:.2f} s"
    )
    assert slowest_s < TRIGGER_MAX_S
