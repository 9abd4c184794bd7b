from __future__ import annotations

from pathlib import Path

import pytest

FILE = Path(__file__).parent / "files" / "tries.py"
NOTE = "had no response, so this may be a duplicate."


def get_state(tis):
    return [str(ti.state) for ti in tis["create"]]


def test_create_todo_retry_reuses_the_todo_of_the_first_try(run, bzctrl_sandbox):
    """One todo, which the second try returns and links."""
    dag_run, tis = run(FILE, "reuses")
    assert get_state(tis) == ["success"]
    assert tis["create"][0].try_number == 2
    (todo,) = bzctrl_sandbox.todos
    ti = dag_run.get_task_instance("create")
    assert ti.xcom_pull(task_ids="create")["key"] == todo["key"]
    assert ti.xcom_pull(task_ids="create", key="bzctrl_todo_link") == todo["taskLink"]


def test_create_todo_mapped_instances_have_separate_memories(run, bzctrl_sandbox):
    """Two instances and four tries are two todos."""
    _, tis = run(FILE, "mapped_reuses")
    assert get_state(tis) == ["success", "success"]
    assert sorted(todo["orderID"] for todo in bzctrl_sandbox.todos) == ["1", "2"]


@pytest.mark.parametrize("name", ["no_answer", "no_answer_and_no_retry"])
def test_attempt_without_response_is_repeated_with_a_note(run, bzctrl_sandbox, name):
    """Airflow's retry, or a second attempt on the last try, creates a todo that says that it may be a duplicate."""
    bzctrl_sandbox.fail_next("reset_after")
    _, tis = run(FILE, name)
    assert get_state(tis) == ["success"]
    first, second = bzctrl_sandbox.todos
    assert first["description"] == "d"
    assert second["description"].endswith(NOTE)


def test_create_todo_policy_fail_without_response_is_not_repeated(run, bzctrl_sandbox):
    """With `fail` there is no second request, although a retry was left."""
    bzctrl_sandbox.fail_next("reset_after")
    _, tis = run(FILE, "no_answer_fails")
    assert get_state(tis) == ["failed"]
    assert tis["create"][0].try_number == 1
    assert len(bzctrl_sandbox.todos) == 1


def test_create_todos_retry_creates_only_missing_ones(run, bzctrl_sandbox):
    """Six todos, of which two had no answer or were not taken: in the end all are there, in order, one with a note."""
    for fault in ("reset_after", 500):
        bzctrl_sandbox.fail_next(fault)
    dag_run, tis = run(FILE, "many")
    assert get_state(tis) == ["success"]
    returned = dag_run.get_task_instance("create").xcom_pull(task_ids="create")
    assert [todo["title"] for todo in returned] == [f"t{n}" for n in range(6)]
    titles = [todo["title"] for todo in bzctrl_sandbox.todos]
    assert sorted(titles) == ["t0", "t0", "t1", "t2", "t3", "t4", "t5"]
    assert sorted(todo["title"] for todo in bzctrl_sandbox.todos if NOTE in todo["description"]) == [
        "t0",
        "t1",
    ]


def test_create_todo_repeated_failure_is_one_todo(run, bzctrl_sandbox):
    """Across runs: the second one returns and links the first one's."""
    first, _ = run(FILE, "repeated")
    second, _ = run(FILE, "repeated")
    assert len(bzctrl_sandbox.todos) == 1
    returned = [
        dag_run.get_task_instance("create").xcom_pull(task_ids="create") for dag_run in (first, second)
    ]
    assert [todo["deduplicated"] for todo in returned] == [False, True]
    assert returned[0]["link"] == returned[1]["link"]


def test_create_todo_own_dedup_key_is_used(run, bzctrl_sandbox):
    """It is a template."""
    run(FILE, "own_key")
    run(FILE, "own_key")
    assert len(bzctrl_sandbox.todos) == 1
