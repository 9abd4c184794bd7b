from __future__ import annotations

from pathlib import Path
from urllib.parse import quote

FILE = Path(__file__).parent / "files" / "many.py"


def titles(sandbox):
    return sorted(todo["title"] for todo in sandbox.todos)


def returned(dag_run, task_id, index=-1):
    ti = dag_run.get_task_instance(task_id, map_index=index)
    return ti.xcom_pull(task_ids=task_id, map_indexes=index if index >= 0 else None)


def test_create_todos_list_becomes_todos(run, bzctrl_sandbox):
    """In the order of the list, each with the operator's fields where it has none of its own."""
    dag_run, _ = run(FILE, "a_list")
    assert [todo["tags"] for todo in returned(dag_run, "create")] == [[f"ORDER {n}"] for n in range(5)]
    assert {todo["priority"] for todo in bzctrl_sandbox.todos} == {"HIGH"}
    (description,) = {todo["description"] for todo in bzctrl_sandbox.todos}
    assert description.startswith(f"run {dag_run.run_id}\n\nRun: http")
    assert description.endswith(quote(dag_run.run_id))
    assert len([request for request in bzctrl_sandbox.requests if request.path.endswith("token")]) == 1


def test_create_todos_empty_list_is_skipped(run, bzctrl_sandbox):
    """There is nothing to do, and that is no failure."""
    _, tis = run(FILE, "an_empty_list")
    assert str(tis["create"][0].state) == "skipped"
    assert bzctrl_sandbox.requests == []


def test_create_todos_invalid_one_leaves_the_others_created(run, bzctrl_sandbox):
    """The task fails after all were tried, and for good: a retry would create the others again."""
    _, tis = run(FILE, "partly_faulty")
    assert str(tis["create"][0].state) == "failed"
    assert tis["create"][0].try_number == 1
    assert titles(bzctrl_sandbox) == ["good", "partly_faulty"]


def test_create_todos_no_list_of_mappings_fails(run, bzctrl_sandbox):
    """A text that a template made, and a mapping on its own."""
    _, tis = run(FILE, "no_list")
    assert {str(of[0].state) for of in tis.values()} == {"failed"}
    assert bzctrl_sandbox.requests == []


def test_task_decorator_returned_mappings_become_todos(run, bzctrl_sandbox):
    """One, several, none; mapped, with an override, and with the decorator imported by name."""
    dag_run, tis = run(FILE, "decorated")
    assert titles(bzctrl_sandbox) == [
        "a of decorated",
        "b of decorated",
        "c of decorated",
        "imported",
        "one",
        "several 0",
        "several 1",
    ]
    assert str(tis["nothing"][0].state) == "skipped"
    by_title = {todo["title"]: todo for todo in bzctrl_sandbox.todos}
    assert by_title["one"]["category"] == ["Customs"]
    assert by_title["one"]["orderID"] == dag_run.run_id
    assert by_title["c of decorated"]["priority"] == "LOW"
    assert by_title["imported"]["description"].startswith("decorated\n\nRun: http")
    assert returned(dag_run, "one")["key"] == by_title["one"]["key"]
    assert [todo["key"] for todo in returned(dag_run, "several")] == [
        by_title[f"several {n}"]["key"] for n in range(2)
    ]
    assert returned(dag_run, "each", 1)["title"] == "b of decorated"
