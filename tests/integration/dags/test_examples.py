from __future__ import annotations

import datetime as dt
import re
import subprocess
import sys
from pathlib import Path

from support.airflow_versions import CALLBACKS_HAVE_THE_EXCEPTION
from support.store import STATES, add, read

from bzctrl_provider.outbox.runner import is_scheduled
from bzctrl_provider.store.database import database

DAGS_FOLDER = Path(__file__).parents[3] / "dags_examples"
EXAMPLES = sorted(DAGS_FOLDER.glob("*.py"))


def states(tis):
    return {task: [str(ti.state) for ti in of] for task, of in tis.items()}


def test_example_failed_check_is_one_incident_and_run_stays_failed(run, bzctrl_sandbox):
    """The data's own faults fail two of four checks; the incident has them, the amount, the run and their logs."""
    dag_run, tis = run(DAGS_FOLDER / "sea_ports_quality.py")
    assert str(dag_run.state) == "failed"
    assert states(tis) == {
        "load": ["success"],
        "check_code_unique": ["success"],
        "check_name_present": ["success"],
        "check_coordinates_present": ["failed"],
        "check_coordinates_in_europe": ["failed"],
        "publish": ["upstream_failed"],
        "raise_incident": ["success"],
    }
    (todo,) = bzctrl_sandbox.todos
    assert todo["todoType"] == "INCIDENT"
    assert todo["title"] == "Sea ports: 6 ports cannot be booked"
    assert todo["financialImpact"] == "7500"
    assert todo["orderID"] == dag_run.run_id
    description = todo["description"]
    assert description.startswith(
        "In the DAG sea_ports_quality, 2 of 4 checks failed.\n\n- check_coordinates_in_europe ("
    )
    assert (
        "- check_coordinates_present (SQLValueCheckOperator): failed\n  expected 0, actual 4\n    SELECT"
        in description
    )
    assert "\nDid not run: publish\n" in description
    failed = ("check_coordinates_in_europe", "check_coordinates_present")
    logs = re.findall(r"Log of \S+: (http\S+)", description)
    assert [name in log for name, log in zip(failed, logs, strict=True)] == [True, True]
    # Neither leads to the task that raised the incident.
    assert "raise_incident" not in description
    assert description.splitlines()[-1].startswith("Airflow: http")
    assert [(request.path.rpartition("/")[2], request.status) for request in bzctrl_sandbox.requests] == [
        ("token", 200),
        ("add-task", 200),
    ]


def test_example_data_without_faults_raises_nothing(run, bzctrl_sandbox, monkeypatch):
    """When every rule holds, the ports are published and no todo is created."""
    monkeypatch.setattr("csv.reader", clean_reader)
    dag_run, tis = run(DAGS_FOLDER / "sea_ports_quality.py")
    assert str(dag_run.state) == "success"
    assert states(tis)["publish"] == ["success"]
    assert states(tis)["raise_incident"] == ["skipped"]
    assert bzctrl_sandbox.requests == []


def clean_reader(file):
    """Read as csv does, but leave out the six ports with faults."""
    import _csv

    faulty = {"ESEBO", "GBEIL", "GBPDD", "GRKAP", "ANEUX", "ISESK"}
    return (row for row in _csv.reader(file) if row[0] not in faulty)


def test_example_faulty_orders_have_one_incident_each(run, bzctrl_sandbox):
    """Order and LRN come from the data; the links lead to the todo of the same order."""
    dag_run, tis = run(DAGS_FOLDER / "incident_per_order.py")
    assert str(dag_run.state) == "success"
    assert {(todo["orderID"], todo["lrn"]) for todo in bzctrl_sandbox.todos} == {
        ("ORDER 778", "26NL0000725463"),
        ("ORDER 780", "26NL0000725471"),
    }
    links = {todo["orderID"]: todo["taskLink"] for todo in bzctrl_sandbox.todos}
    pushed = [
        dag_run.get_task_instance("raise_incident", map_index=i).xcom_pull(
            task_ids="raise_incident", key="bzctrl_todo_link", map_indexes=i
        )
        for i in range(2)
    ]
    assert pushed == [links["ORDER 778"], links["ORDER 780"]]
    assert [ti.rendered_map_index for ti in tis["raise_incident"]] == ["ORDER 778", "ORDER 780"]


def test_example_task_has_a_reminder(run, bzctrl_sandbox):
    """The TASK goes to its assignee, with the day a week after the run."""
    dag_run, _ = run(DAGS_FOLDER / "task_with_reminder.py")
    assert str(dag_run.state) == "success"
    (todo,) = bzctrl_sandbox.todos
    assert todo["todoType"] == "TASK"
    assert todo["status"] == "TODO"
    assert todo["assignee"] == "tariffs@example.com"
    in_a_week = dt.datetime.now(dt.UTC).date() + dt.timedelta(days=7)
    assert abs(dt.date.fromisoformat(todo["reminderDate"]) - in_a_week) <= dt.timedelta(days=1)


def test_example_many_failed_checks_are_one_incident(run, bzctrl_sandbox):
    """The incident has both feeds with their exceptions, and the amount is that of the failed checks."""
    dag_run, tis = run(DAGS_FOLDER / "roll_up_of_checks.py")
    assert str(dag_run.state) == "failed"
    assert states(tis)["close_the_hour"] == ["upstream_failed"]
    (todo,) = bzctrl_sandbox.todos
    failed = "matches_the_ledger[invoices, shipments]"
    assert todo["title"] == f"roll_up_of_checks: {failed} failed"
    assert "2 of 4 mapped failed (invoices, shipments)" in todo["description"]
    if CALLBACKS_HAVE_THE_EXCEPTION:
        assert (
            "[invoices] ValueError: the feed invoices differs from the ledger by EUR 1250"
            in todo["description"]
        )
    assert todo["financialImpact"] == "2000"


def test_example_failed_run_is_one_incident_by_callback(run, bzctrl_sandbox):
    """Without an operator in the DAG."""
    dag_run, _ = run(DAGS_FOLDER / "incident_by_callback.py")
    assert str(dag_run.state) == "failed"
    (todo,) = bzctrl_sandbox.todos
    assert todo["title"].startswith("incident_by_callback: ")
    assert todo["category"] == ["Operations"]


def test_example_decorated_function_creates_its_todos(run, bzctrl_sandbox):
    """One for each invoice that is overdue."""
    run(DAGS_FOLDER / "todos_from_a_function.py")
    assert sorted(todo["orderID"] for todo in bzctrl_sandbox.todos) == ["2026-0117", "2026-0130"]
    assert {todo["todoType"] for todo in bzctrl_sandbox.todos} == {"TASK"}


PARSE = """
import runpy, socket, sys
import airflow.providers.common.compat.sdk as sdk
sdk.DAG, sdk.task, sdk.BaseOperator
def refuse(*args, **kwargs):
    raise AssertionError("a DAG file must not use the network while it is parsed")
socket.socket.connect = socket.create_connection = socket.getaddrinfo = refuse
rules = {"bzctrl_provider.client", "bzctrl_provider.client.todo"}  # of literals; they import the standard library
for example in sys.argv[1:]:
    values = runpy.run_path(example).values()
    assert len([value for value in values if isinstance(value, sdk.DAG)]) == 1, example
    loaded = {m for m in sys.modules if m.startswith(("bzctrl_provider.client", "bzctrl_provider.hooks"))} - rules
    assert not loaded, (example, loaded)
"""


def test_examples_parsed_without_connection_import_no_heavy_module():
    """A DAG file is parsed again and again: it looks nothing up, and what it loads of ours is next to nothing."""
    subprocess.run([sys.executable, "-W", "ignore", "-c", PARSE, *EXAMPLES], check=True)


def test_examples_have_a_docstring_that_the_ui_shows():
    """Each file begins with a docstring of more than 8 lines, and passes it to Airflow's UI."""
    for example in EXAMPLES:
        source = example.read_text()
        assert source.startswith('"""')
        assert len(source.split('"""')[1].splitlines()) > 8, example
        assert "doc_md=__doc__" in source, example


def test_delivery_dag_creates_what_waits(run, bzctrl_sandbox):
    """A run of the DAG empties the outbox, and notes that it delivers; a run without work is skipped."""
    for number in range(2):
        add(database(), f"i{number}", title=f"T{number}", reason="BzCtrl could not be reached")
    dag_run, tis = run(DAGS_FOLDER / "bzctrl_delivery.py")
    assert (str(dag_run.state), states(tis)) == ("success", {"deliver": ["success"]})
    assert sorted(todo["title"] for todo in bzctrl_sandbox.todos) == ["T0", "T1"]
    assert [incident.state for incident in read(database(), *STATES)] == ["delivered"] * 2
    assert is_scheduled()
    _, tis = run(DAGS_FOLDER / "bzctrl_delivery.py")
    assert states(tis) == {"deliver": ["skipped"]}
    assert len(bzctrl_sandbox.todos) == 2
