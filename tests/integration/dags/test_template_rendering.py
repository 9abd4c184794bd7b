from __future__ import annotations

import runpy
from pathlib import Path

import pytest
from support.airflow_versions import CALLBACKS_HAVE_THE_EXCEPTION

pytestmark = pytest.mark.security

FILE = Path(__file__).parent / "files" / "hostile.py"
TEMPLATE = runpy.run_path(str(FILE))["TEMPLATE"]


def test_template_in_data_is_rendered_nowhere(run, bzctrl_sandbox):
    """By a template, from a list, mapped, and from a function: what came out of XCom goes to BzCtrl as it was."""
    dag_run, tis = run(FILE, "hostile_templates")
    assert str(dag_run.state) == "success", {name: [str(ti.state) for ti in of] for name, of in tis.items()}
    assert len(bzctrl_sandbox.todos) == 10
    for todo in bzctrl_sandbox.todos:
        assert (todo["title"], todo["description"], todo["orderID"], todo["category"]) == (
            f"T {TEMPLATE}",
            TEMPLATE,
            TEMPLATE,
            [TEMPLATE],
        )


def test_template_of_dag_file_is_rendered_in_mapped_tasks(run, bzctrl_sandbox):
    """Beside data, too; and the default of the order id, which is one."""
    dag_run, _ = run(FILE, "mapped_templates")
    todos = {todo["title"]: todo for todo in bzctrl_sandbox.todos}
    assert todos.keys() == {TEMPLATE, "mapped_templates", "42"}
    assert todos[TEMPLATE]["description"] == todos["42"]["description"] == "mapped_templates"
    assert todos["mapped_templates"]["category"] == ["42"]
    assert {todo["orderID"] for todo in todos.values()} == {dag_run.run_id}


def test_template_in_data_native_rendering_renders_once(run, bzctrl_sandbox):
    """The result of a native template is not rendered again."""
    run(FILE, "hostile_native")
    assert [todo["description"] for todo in bzctrl_sandbox.todos] == [TEMPLATE] * 2


def test_template_in_exception_is_rendered_nowhere(run, bzctrl_sandbox):
    """The generated text of a callback's incident quotes the exception unchanged."""
    run(FILE, "hostile_exception")
    (todo,) = bzctrl_sandbox.todos
    assert todo["lrn"] == "fails"
    assert "49 " not in todo["description"]
    if CALLBACKS_HAVE_THE_EXCEPTION:
        assert f"ValueError: {TEMPLATE}" in todo["description"]


def test_create_todo_operator_control_characters_in_data_are_replaced(run, bzctrl_sandbox):
    """To BzCtrl as they were written, and made fit in what the task returns; the title is one line."""
    dag_run, _ = run(FILE, "hostile_characters")
    assert str(dag_run.state) == "success"
    second, first = sorted(bzctrl_sandbox.todos, key=lambda todo: todo["title"])
    assert first["description"] == "a\r\nb\x00c\x1b[31m\x85\u2028\u202ed"
    assert first["title"] == "T a b\x00c\x1b[31m \u202ed"
    assert second["title"] == "T <script>alert(1)</script>"
    returned, _ = dag_run.get_task_instance("create").xcom_pull(task_ids="create")
    assert returned["description"] == "a\r\nb\ufffdc\ufffd[31m\ufffd\u2028\u202ed"
    assert "\x00" not in returned["title"]


def test_create_todo_operator_megabytes_of_data_fail_and_send_nothing(run, bzctrl_sandbox):
    """No request is sent, so the todo certainly does not exist."""
    dag_run, tis = run(FILE, "hostile_size")
    assert str(dag_run.state) == "failed"
    assert str(tis["create"][0].state) == "failed"
    assert bzctrl_sandbox.requests == []
