from __future__ import annotations

import psutil
import pytest
from support.cluster import wait_for

ANSWER_S = 30
"""Seconds until BzCtrl responds to the request during which a process is killed."""


def kill_the_task(worker, pool, task):
    task.kill()


def kill_the_pool_process(worker, pool, task):
    """Kill the parent of the task's process, which continues as an orphan."""
    pool.kill()


def kill_the_worker(worker, pool, task):
    """Kill all processes of the worker, as a power failure does."""
    for process in [worker, *worker.children(recursive=True)]:
        process.kill()


@pytest.mark.parametrize(("policy", "promised"), [("retry", 2), ("fail", 1)])
@pytest.mark.parametrize("kill", [kill_the_task, kill_the_pool_process, kill_the_worker])
def test_create_with_sigkill_leaves_the_documented_todos(cluster, bzctrl, todos, kill, policy, promised):
    """The number of todos is that of docs/reliability.md, and a second one says that it may be a duplicate."""
    bzctrl.fail_next("slow", delay_s=ANSWER_S)
    dag_id = f"killed_{policy}"
    run_id = cluster.trigger(dag_id)
    wait_for("the request", todos, seconds=120)
    wait_for("the end of a delivery", lambda: len(cluster.task_processes()) == 1, seconds=20)
    ((name, pool, task),) = cluster.task_processes()
    kill(cluster.component(name), pool, task)

    state = cluster.wait_for_run(dag_id, run_id)
    wait_for("the orphan's end", lambda: not task.is_running() or not in_use(task), seconds=2 * ANSWER_S)
    assert len(todos()) == promised
    assert all("may be a duplicate" in todo["description"] for todo in todos()[1:])
    assert "may be a duplicate" not in todos()[0]["description"]
    assert state == ("success" if policy == "retry" else "failed")
    ((_, tries),) = cluster.tries(dag_id, run_id).values()
    assert tries == 2
    wait_for("both workers are there again", lambda: has_two_workers(cluster), seconds=60)


def in_use(process):
    return process.status() != psutil.STATUS_ZOMBIE


def has_two_workers(cluster):
    return all(
        (cluster.logs / f"{name}.log").exists() and is_alive(cluster, name)
        for name in ("worker-1", "worker-2")
    )


def is_alive(cluster, name):
    try:
        return bool(cluster.component(name).children())
    except psutil.NoSuchProcess:
        return False
