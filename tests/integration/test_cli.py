"""The commands as processes of their own, as a user and a monitoring system start them."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from sqlalchemy import delete, insert
from support.airflow_versions import VERSION
from support.store import add, read

from bzctrl_provider.airflow_compat import read_dag_facts
from bzctrl_provider.cli.verify import STATEMENTS
from bzctrl_provider.sandbox.app import PASSWORD, make_connection_json
from bzctrl_provider.store.database import database

BIN = Path(sys.executable).parent
WAYS = [["bzctrl"], *([["airflow", "bzctrl"]] if VERSION >= (3, 2) else [])]
ROUTES = """\
[[route]]
tags = ["example"]
priority = "HIGH"

[[route]]
domain_workspace = "EXA-CON-BUS-WOR"
"""


@pytest.fixture
def run(bzctrl_sandbox, _database):
    """Return a function that runs a command, by default with a valid connection, and returns code, output and errors."""

    def start(*argv, command=("bzctrl",), **options):
        environment = {
            **os.environ,
            "AIRFLOW_CONN_BZCTRL_DEFAULT": make_connection_json(bzctrl_sandbox.url),
            "PYTHONWARNINGS": "ignore",
            **options,
        }
        result = subprocess.run(
            [BIN / command[0], *command[1:], *argv],
            check=False,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            env=environment,
            timeout=300,
        )
        assert PASSWORD not in result.stdout + result.stderr
        return result.returncode, result.stdout, result.stderr

    return start


@pytest.fixture
def queued(bzctrl_sandbox):
    """Put two incidents of two hours ago into the outbox, and return the store."""
    store = database()
    for index in range(2):
        add(store, f"i{index}", age_s=7200, title=f"T{index}", reason="down")
    return store


@pytest.mark.parametrize("command", WAYS, ids=" ".join)
def test_check_of_a_sound_deployment_prints_one_json_object(run, command, bzctrl_sandbox):
    """Standard output has the report only, the exit code is 0, and the only request is that for a token."""
    code, output, errors = run("check", "--json", command=command)
    assert code == 0, output + errors
    assert {one["status"] for one in json.loads(output)["checks"]} == {"ok"}
    assert [request.path for request in bzctrl_sandbox.requests] == ["/bzctrl-core-api/oauth/token"]
    assert bzctrl_sandbox.todos == []


@pytest.mark.parametrize("command", WAYS, ids=" ".join)
def test_check_of_a_faulty_deployment_names_every_fault(run, command, queued, bzctrl_sandbox):
    """Connection, options, silences and outbox are faults at once, each with its remedy; nothing is sent."""
    code, output, errors = run(
        "check",
        command=command,
        AIRFLOW_CONN_BZCTRL_DEFAULT=json.dumps({"conn_type": "bzctrl", "password": PASSWORD}),
        AIRFLOW_VAR_BZCTRL_SILENCES="[{",
        AIRFLOW__BZCTRL__PRIORITY="urgent",
    )
    assert code == 1, output + errors
    status = {line.split()[1]: line.split()[0] for line in output.splitlines() if line[0] != " "}
    assert status == {
        "database": "ok",
        "airflow": "ok",
        "options": "fault",
        "connection": "fault",
        "token": "skipped",
        "routes": "ok",
        "silences": "fault",
        "outbox": "fault",
        "delivery": "ok",
        "failed_runs": "ok",
    }
    for part in (
        "- login: is missing",
        "- extra.environment: is missing",
        "- The Variable is not valid JSON",
        "- priority must be HIGH, MEDIUM or LOW",
        "2 waiting (the oldest for 2 h)",
        "2 wait since 2",
    ):
        assert part in output
    assert bzctrl_sandbox.requests == []


def test_check_reads_connection_and_variable_from_the_database(run, bzctrl_sandbox):
    """As the components do, the command finds what the UI has stored."""
    from airflow.models.connection import Connection
    from airflow.models.variable import Variable
    from airflow.utils.session import create_session

    stored = json.loads(make_connection_json(bzctrl_sandbox.url))
    with create_session() as session:
        session.add(
            Connection(
                conn_id="bzctrl_in_database",
                conn_type="bzctrl",
                host=stored["host"],
                login=stored["login"],
                password=stored["password"],
                extra=json.dumps(stored["extra"]),
            )
        )
        session.add(Variable(key="bzctrl_silences", val='[{"until": "2999-01-01T00:00Z"}]'))
    try:
        code, output, errors = run("check", "--conn-id", "bzctrl_in_database", "--json")
    finally:
        with create_session() as session:
            session.query(Connection).filter_by(conn_id="bzctrl_in_database").delete()
            session.query(Variable).filter_by(key="bzctrl_silences").delete()
    assert code == 0, output + errors
    found = {one["check"]: one for one in json.loads(output)["checks"]}
    assert found["token"]["status"] == "ok"
    assert "1 active, 0 ended" in found["silences"]["message"]


@pytest.mark.parametrize("command", WAYS, ids=" ".join)
def test_commands_without_airflows_database_say_so_in_one_line(run, command, tmp_path, bzctrl_sandbox):
    """An empty database is named with the remedy before anything that it may have, and the log has no trace."""
    home = {
        "AIRFLOW__DATABASE__SQL_ALCHEMY_CONN": f"sqlite:///{tmp_path}/airflow.db",
        "AIRFLOW_CONN_BZCTRL_DEFAULT": "",
    }
    code, output, errors = run("check", command=command, **home)
    assert code == 1
    assert output.startswith(
        "fault    database    Airflow's database cannot be read: sqlite3.OperationalError: no such"
    )
    assert "Run `airflow db migrate`" in output.splitlines()[0]
    status = {line.split()[1]: line.split()[0] for line in output.splitlines()}
    assert [name for name in status if status[name] == "skipped"] == ["connection", "token", "silences"]
    assert "Traceback" not in errors
    for argv in (("check", "--explain", "customs"), ("outbox", "deliver")):
        _, output, errors = run(*argv, command=command, **home)
        assert (output + errors).count("Run `airflow db migrate`") == 1
        assert "Traceback" not in errors
    assert bzctrl_sandbox.requests == []


def test_check_and_explain_use_the_routes_file(run, tmp_path):
    """A valid file is explained, and a faulty one is a fault with route and key."""
    path = tmp_path / "bzctrl_routes.toml"
    path.write_text(ROUTES)
    arguments = ("check", "--explain", "customs", "--tag", "example", "--json")
    code, output, errors = run(*arguments, AIRFLOW__BZCTRL__ROUTES_PATH=str(path))
    assert code == 0, output + errors
    report = json.loads(output)
    assert report["decision"].startswith(
        "If it failed now, nothing that is known here would raise an incident."
    )
    assert {name: given["source"] for name, given in report["fields"].items()} == {
        "priority": "route 1",
        "domain_workspace": "route 2",
        "bzctrl_conn_id": "[bzctrl]",
        "consecutive_failures": "[bzctrl]",
        "todo_type": "the default",
        "title": "the failure",
        "description": "the failure",
        "reporter": "the connection bzctrl_default",
        "assignee": "the connection bzctrl_default",
    }
    path.write_text(ROUTES.replace("HIGH", "URGENT"))
    code, output, errors = run("check", AIRFLOW__BZCTRL__ROUTES_PATH=str(path))
    assert code == 1, output + errors
    assert "fault    routes" in output
    assert "- route 1, priority: must be" in output


def test_outbox_is_listed_and_delivered_once(run, queued, bzctrl_sandbox):
    """A delivery creates each incident once, and leaves nothing for the next list."""
    code, output, errors = run("outbox", "list")
    assert code == 0, output + errors
    assert [line.split()[:2] for line in output.splitlines()] == [["waiting", "i0"], ["waiting", "i1"]]
    code, output, errors = run("outbox", "deliver", "--json")
    assert code == 0, output + errors
    assert sorted(todo["title"] for todo in bzctrl_sandbox.todos) == ["T0", "T1"]
    keys = {todo["key"] for todo in json.loads(output)["created"]}
    assert keys == {todo["key"] for todo in bzctrl_sandbox.todos}
    assert {incident.key for incident in read(queued, "delivered")} == keys
    assert "is empty" in run("outbox", "list")[1]


@pytest.mark.parametrize("command", WAYS, ids=" ".join)
def test_outbox_delivery_that_fails_ends_with_code_1(run, command, queued, bzctrl_sandbox):
    """While BzCtrl is down, the incidents stay with the reason; what is discarded is not created later."""
    away = make_connection_json("http://127.0.0.1:1")
    code, output, errors = run("outbox", "deliver", command=command, AIRFLOW_CONN_BZCTRL_DEFAULT=away)
    assert code == 1, output + errors
    assert output.splitlines()[-1] == "0 created, 2 kept, 0 rejected"
    assert len(read(queued)) == 2
    code, output, errors = run("outbox", "discard", "i0", command=command)
    assert (code, output) == (0, "discarded i0\n"), errors
    assert run("outbox", "deliver", command=command)[0] == 0
    assert [todo["title"] for todo in bzctrl_sandbox.todos] == ["T1"]


@pytest.mark.parametrize("message_format", ["add-task", "predefined"])
@pytest.mark.parametrize("command", WAYS, ids=" ".join)
def test_verify_of_the_sandbox_holds_for_each_statement(run, command, message_format, bzctrl_sandbox):
    """The sandbox is as the page on the contract, in both message formats; only an incident and a task are created."""
    connection = json.loads(make_connection_json(bzctrl_sandbox.url))
    connection["extra"]["message_format"] = message_format
    variable = {"AIRFLOW_CONN_BZCTRL_DEFAULT": json.dumps(connection)}
    code, output, errors = run("verify", command=command, **variable)
    assert (code, bzctrl_sandbox.requests) == (1, []), errors
    assert "There is no terminal to ask at: add --yes." in output
    code, output, errors = run("verify", "--yes", command=command, **variable)
    assert code == 0, output + errors
    assert [line.split()[:2] for line in output.splitlines()[: len(STATEMENTS)]] == [
        ["held", name] for name in STATEMENTS
    ]
    assert [todo["todoType"] for todo in bzctrl_sandbox.todos] == ["INCIDENT", "TASK"]
    assert [one.status for one in bzctrl_sandbox.requests] == [200, 200, 200, 400, 401]


def test_check_with_components_on_two_hosts_is_a_fault(run, queued):
    """Airflow's database has the hosts of the running components; one that has ended, or whose heart stopped, does not count."""
    from airflow.jobs.job import Job
    from airflow.utils.session import create_session

    now = datetime.now(UTC)
    rows = [
        ("host-a", "running", now),
        ("host-b", "running", now),
        ("host-c", "success", now),
        ("host-d", "running", now - timedelta(minutes=5)),
    ]
    with create_session() as session:
        for hostname, state, at in rows:
            values = {"job_type": "SchedulerJob", "latest_heartbeat": at, "start_date": at}
            session.execute(insert(Job.__table__).values(hostname=hostname, state=state, **values))
    try:
        code, output, errors = run("check", "--json")
    finally:
        with create_session() as session:
            session.execute(delete(Job.__table__))
    assert code == 1, output + errors
    (found,) = [one for one in json.loads(output)["checks"] if one["check"] == "outbox"]
    assert (
        f"The store is the file {queued}, and Airflow's components run on 2 hosts (host-a, host-b)"
        in found["details"][-1]
    )


@pytest.mark.skipif(VERSION < (3, 2), reason="Airflow reads the commands of providers from 3.2 on")
def test_airflow_help_has_commands_and_arguments(run):
    """`airflow bzctrl --help` names the commands, and that of a command its arguments."""
    for argv, part in (
        (["--help"], "outbox deliver"),
        (["check", "--help"], "--explain DAG_ID"),
        (["check", "--help"], "usage: airflow bzctrl check"),
    ):
        code, output, errors = run(*argv, command=("airflow", "bzctrl"))
        assert code == 0, output + errors
        assert part in output


@pytest.mark.usefixtures("_database")
@pytest.mark.parametrize("owner", ["customs-nl, finance", None])
def test_explain_reads_the_facts_of_a_dag_from_the_database(owner):
    """Tags and owners are those that Airflow has stored; an unknown DAG has none."""
    from airflow.models.dag import DagModel, DagTag
    from airflow.utils.session import create_session

    bundle = {"bundle_name": "tests"} if VERSION >= (3, 0) else {}
    with create_session() as session:
        add_bundle(session)
        session.add(
            DagModel(dag_id="cli_facts", owners=owner, tags=[DagTag(name="b"), DagTag(name="a")], **bundle)
        )
    try:
        facts = read_dag_facts("cli_facts")
    finally:
        with create_session() as session:
            session.delete(session.get(DagModel, "cli_facts"))
    assert facts == {
        "tags": ["a", "b"],
        "owner": owner,
        "team": None,
        "roll_ups": {},
        "has_notifier": False,
    }
    assert read_dag_facts("cli_facts") is None


def add_bundle(session):
    if VERSION >= (3, 0):
        from airflow.models.dagbundle import DagBundleModel

        session.merge(DagBundleModel(name="tests"))
        session.flush()
