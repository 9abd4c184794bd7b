"""Failures at the same moment on a cluster: exactly one incident of one key, and none that waits although BzCtrl is there.

``BZCTRL_WAKE_ROUNDS`` is how often a number of failures is delivered without the delivery DAG.
"""

from __future__ import annotations

import contextlib
import os
import time

import psutil
import pytest
from sqlalchemy import select
from support.cluster import RUN, wait_for

from bzctrl_provider.store import schema

ROUNDS = int(os.environ.get("BZCTRL_WAKE_ROUNDS", "1"))
ARRIVE_S = 30


def find_problem(cluster, name):
    """Return a problem of the store by the end of its name; None if there is none."""
    problem = schema.problem.c
    with cluster.store.transaction() as tx:
        query = select(problem.count, problem.in_a_row).where(problem.name.like(f"%{name}"))
        return tx.connection.execute(query).first()


@contextlib.contextmanager
def held(process):
    """Stop a process with its children for the block, so that all its work comes at once afterwards."""
    processes = [process, *process.children(recursive=True)]
    for one in processes:
        with contextlib.suppress(psutil.NoSuchProcess):
            one.suspend()
    try:
        yield
    finally:
        for one in processes:
            with contextlib.suppress(psutil.NoSuchProcess):
                one.resume()


@pytest.mark.parametrize(
    ("dag_ids", "key"),
    [
        (["race_runs"] * 50, "race of runs"),
        ([f"race_dag_{number:02}" for number in range(50)], "race of DAGs"),
    ],
)
def test_runs_of_one_key_that_fail_at_once_are_one_incident(cluster, todos, dag_ids, key):
    """Fifty runs of one DAG, and of fifty DAGs, raise one incident that counts all of them, by one delivery or by several."""
    for dag_id in set(dag_ids):
        cluster.wait_for_dag(dag_id)
    runs = cluster.trigger_all(dag_ids)
    cluster.wait_for_runs(runs)
    cluster.deliver()
    assert cluster.undecided() == []
    assert find_problem(cluster, key)[0] == 50
    assert len(todos()) == 1


def test_tasks_of_one_key_that_fail_at_once_are_all_counted(cluster, todos):
    """Thirty tasks that fail at once with consecutive_failures = 3 count 30 in a row, and are one incident that represents 28."""
    (cluster.shared / "go").unlink(missing_ok=True)
    cluster.start_worker("racers", queue="race", slots=10)
    cluster.wait_for_worker("racers")
    runs = cluster.trigger_all(["race_tasks"] * 30)
    wait_for("the tasks", lambda: len(list(cluster.shared.glob("here-*"))) >= 10, seconds=120)
    (cluster.shared / "go").touch()
    cluster.wait_for_runs(runs)
    assert find_problem(cluster, "race of tasks") == (28, 30)
    cluster.deliver()
    assert len(todos()) == 1

    runs = cluster.trigger_all(["race_roll_ups"] * 30)
    cluster.wait_for_runs(runs)
    assert find_problem(cluster, "race of roll-ups")[0] == 30
    assert len(todos()) == 2, "the roll-ups raised one"


@pytest.mark.parametrize("delay_s", [0, 2])
@pytest.mark.parametrize("number", [2, 4, 20])
def test_failures_at_once_arrive_without_the_delivery_dag(cluster, bzctrl, number, delay_s):
    """Each failure is a todo within 30 s of the last callback, although nobody delivers but the callbacks themselves."""
    slowest_s = 0.0
    with cluster.without_delivery_dag():
        for _ in range(ROUNDS):
            bzctrl.reset()
            if delay_s:
                bzctrl.fail_randomly(1, faults=["slow"], delay_s=delay_s)
            with held(cluster.component("dag-processor")):
                runs = cluster.trigger_all([f"wake_dag_{one:02}" for one in range(number)])
                cluster.wait_for_runs(runs)
            wait_for("every todo", lambda: len(bzctrl.todos) >= number, seconds=180)
            arrived_at = time.time()
            wait_for("the notes", lambda: not cluster.waiting(), seconds=30)
            assert len(bzctrl.todos) == number
            # A callback that comes while its file is parsed is called by Airflow only with the next parse.
            failed = [
                one for one in cluster.incidents("delivered") if one.facts["run_id"] in dict(runs).values()
            ]
            assert len(failed) == number
            slowest_s = max(slowest_s, arrived_at - max(one.written_at for one in failed))
    bzctrl.reset()
    with (RUN / "wakes.txt").open("a") as file:
        file.write(
            f"{number} at once, {delay_s} s a todo: the slowest of {ROUNDS} rounds came {slowest_s:.1f} s after the last callback\n"
        )
    assert slowest_s < ARRIVE_S
