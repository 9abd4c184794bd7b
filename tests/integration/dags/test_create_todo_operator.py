from __future__ import annotations

from pathlib import Path

from bzctrl_provider.client.todo import FIELDS
from bzctrl_provider.links.bzctrl import BzCtrlTodoLink

FILE = Path(__file__).parent / "files" / "create_todo.py"


def test_create_todo_operator_templates_of_all_fields_are_rendered(run, bzctrl_sandbox):
    """Templates work in all fields, the lists' items and the connection's id included."""
    dag_run, _ = run(FILE, "rendered")
    (todo,) = bzctrl_sandbox.todos
    for name in ("key", "taskLink", "tags", "createdAt"):
        del todo[name]
    assert todo.keys() == {
        field.wire_key for field in FIELDS.values() if field.wire_key and field.only_for != "TASK"
    }
    assert todo == {
        "todoType": "INCIDENT",
        "domainWorkSpace": "EXA-CON-WOR",
        "title": "rendered",
        "description": f"run {dag_run.run_id}",
        "financialImpact": "1234.5",
        "impact": "HIGH",
        "likelihood": "HIGH",
        "priority": "HIGH",
        "status": "TODO",
        "assignee": "a@example.com",
        "reporter": "r@example.com",
        "category": ["Customs", "IT"],
        "subCategory": ["IT"],
        "orderID": dag_run.run_id,
        "lrn": "42",
        "reminderDate": "2026-11-21",
    }


def test_create_todo_operator_native_rendering_sends_the_same_message(run, bzctrl_sandbox):
    """Numbers, lists and dates that native rendering makes of templates go out as the contract wants them."""
    run(FILE, "native")
    (todo,) = bzctrl_sandbox.todos
    assert (todo["title"], todo["description"], todo["orderID"]) == ("2026", "12.5", "725462")
    assert todo["financialImpact"] == "10000000000000000"
    assert todo["category"] == ["Customs", "IT"]
    assert todo["reminderDate"] == "2026-11-21"
    assert "lrn" not in todo


def test_native_rendering_text_stays_text_in_every_kind_of_task(run, bzctrl_sandbox):
    """Plain, mapped over data and over literals, as a roll-up and in a callback; the arguments of a function are as the DAG says."""
    run(FILE, "native_text")
    todos = [(todo["title"], todo["orderID"], todo["lrn"]) for todo in bzctrl_sandbox.todos]
    assert sorted(todos) == sorted(
        (title, order_id, "2026_0117")
        for title, order_id in [
            ("2026_0117", "2026.10"),
            ("expand", "0x1F"),
            ("literals", "1E5"),
            ("1E5", "10,5"),
            ("2026_0117", "2026.10"),
            ("int", "2026.10"),
            ("notifier", "725462J"),
            ("roll-up", "2026.10"),
        ]
    )
    assert {todo["description"] for todo in bzctrl_sandbox.todos if todo["title"] == "literals"} == {"True"}


def test_create_todo_operator_mapped_creates_one_per_instance(run, bzctrl_sandbox):
    """`expand` over what a task returned: one todo for each, each with its own return value and link."""
    dag_run, tis = run(FILE, "mapped")
    assert [str(ti.state) for ti in tis["create"]] == ["success"] * 3
    assert sorted(todo["orderID"] for todo in bzctrl_sandbox.todos) == ["ORDER 1", "ORDER 2", "ORDER 3"]
    returned = [
        dag_run.get_task_instance("create", map_index=i).xcom_pull(task_ids="create", map_indexes=i)
        for i in range(3)
    ]
    assert [todo["tags"] for todo in returned] == [["ORDER 1"], ["ORDER 2"], ["ORDER 3"]]
    assert len([request for request in bzctrl_sandbox.requests if request.path.endswith("token")]) == 1


def test_create_todo_operator_invalid_todo_fails_and_sends_nothing(run, bzctrl_sandbox):
    """Faults show after rendering: the task fails and BzCtrl hears nothing."""
    _dag_run, tis = run(FILE, "faulty")
    assert {task: str(of[0].state) for task, of in tis.items()} == dict.fromkeys(
        ["level", "title", "connection"], "failed"
    )
    assert bzctrl_sandbox.requests == []


def test_create_todo_operator_link_leads_to_the_todo(run, bzctrl_sandbox):
    """`get_link` finds what `execute` pushed."""
    _dag_run, tis = run(FILE, "plain")
    (todo,) = bzctrl_sandbox.todos
    assert tis["create"][0].xcom_pull(task_ids="create", key=BzCtrlTodoLink.xcom_key) == todo["taskLink"]


def test_create_todo_operator_busy_bzctrl_succeeds_after_a_wait(run, bzctrl_sandbox):
    """The client retries after a 429 and a 401 within the task."""
    bzctrl_sandbox.fail_next(429, retry_after_s=0)
    bzctrl_sandbox.fail_next(401)
    dag_run, _ = run(FILE, "plain")
    assert str(dag_run.state) == "success"
    assert len(bzctrl_sandbox.todos) == 1
    assert [request.status for request in bzctrl_sandbox.requests] == [200, 429, 401, 200, 200]
