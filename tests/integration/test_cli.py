"""The commands as processes of their own, as a user and a monitoring system start them."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from support.airflow_versions import VERSION

from bzctrl_provider._airflow_internals import (
    delete_stored_variable,
    list_stored_variables,
    read_dag_facts,
)
from bzctrl_provider.memory import variable_name
from bzctrl_provider.sandbox.connection import PASSWORD, make_connection_json
from bzctrl_provider.settings import settings
from bzctrl_provider.spool import spool_todo

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
def run(bzctrl_sandbox, tmp_path, _database):
    """Return a function that runs a command, by default with a valid connection, and returns code, output and errors."""

    def start(*argv, command=("bzctrl",), **options):
        environment = {
            **os.environ,
            "AIRFLOW_CONN_BZCTRL_DEFAULT": make_connection_json(bzctrl_sandbox.url),
            "AIRFLOW__BZCTRL__SPOOL_PATH": str(tmp_path / "spool"),
            "PYTHONWARNINGS": "ignore",
            **options,
        }
        result = subprocess.run(
            [BIN / command[0], *command[1:], *argv],
            check=False,
            capture_output=True,
            text=True,
            env=environment,
            timeout=300,
        )
        assert PASSWORD not in result.stdout + result.stderr
        return result.returncode, result.stdout, result.stderr

    return start


@pytest.fixture
def spooled(tmp_path, monkeypatch):
    """Write two entries of two hours ago into the spool."""
    monkeypatch.setenv("AIRFLOW__BZCTRL__SPOOL_PATH", str(tmp_path / "spool"))
    settings.cache_clear()
    for index in range(2):
        spool_todo(
            {"todo_type": "INCIDENT", "title": f"T{index}", "description": "D", "order_id": f"{index}"},
            bzctrl_conn_id="bzctrl_default",
            reason="down",
            now=datetime.now(UTC) - timedelta(hours=2),
        )
    return tmp_path / "spool"


@pytest.mark.parametrize("command", WAYS, ids=" ".join)
def test_check_of_a_sound_deployment_prints_one_json_object(run, command, bzctrl_sandbox):
    """Standard output has the report only, the exit code is 0, and the only request is that for a token."""
    code, output, errors = run("check", "--json", command=command)
    assert code == 0, output + errors
    assert {one["status"] for one in json.loads(output)["checks"]} == {"ok"}
    assert [request.path for request in bzctrl_sandbox.requests] == ["/bzctrl-core-api/oauth/token"]
    assert bzctrl_sandbox.todos == []


@pytest.mark.parametrize("command", WAYS, ids=" ".join)
def test_check_of_a_faulty_deployment_names_every_fault(run, command, spooled, bzctrl_sandbox):
    """Connection, options, silences and spool are faults at once, each with its remedy; nothing is sent."""
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
        "airflow": "ok",
        "options": "fault",
        "connection": "fault",
        "token": "skipped",
        "routes": "ok",
        "silences": "fault",
        "spool": "fault",
        "delivery": "ok",
    }
    for part in (
        "- login: is missing",
        "- extra.environment: is missing",
        "- The Variable is not valid JSON",
        "- priority must be HIGH, MEDIUM or LOW",
        "2 waiting (the oldest for 2 h)",
        "bzctrl spool deliver",
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
    assert found["silences"]["facts"] == {"active": 1, "ended": 0}


def test_check_and_explain_use_the_routes_file(run, tmp_path):
    """A valid file is explained, and a faulty one is a fault with route and key."""
    path = tmp_path / "bzctrl_routes.toml"
    path.write_text(ROUTES)
    arguments = ("check", "--explain", "customs", "--tag", "example", "--json")
    code, output, errors = run(*arguments, AIRFLOW__BZCTRL__ROUTES_PATH=str(path))
    assert code == 0, output + errors
    assert json.loads(output)["fields"] == {
        "priority": {"value": "HIGH", "route": 1},
        "domain_workspace": {"value": "EXA-CON-BUS-WOR", "route": 2},
    }
    path.write_text(ROUTES.replace("HIGH", "URGENT"))
    code, output, errors = run("check", AIRFLOW__BZCTRL__ROUTES_PATH=str(path))
    assert code == 1, output + errors
    assert "fault    routes" in output
    assert "- route 1, priority: must be" in output


def test_spool_is_listed_and_delivered_once(run, spooled, bzctrl_sandbox):
    """A delivery creates each entry once, and leaves nothing for the next list."""
    code, output, errors = run("spool", "list")
    assert code == 0, output + errors
    assert [line.split()[0] for line in output.splitlines()] == ["waiting", "waiting"]
    code, output, errors = run("spool", "deliver", "--json")
    assert code == 0, output + errors
    assert sorted(todo["title"] for todo in bzctrl_sandbox.todos) == ["T0", "T1"]
    keys = {todo["key"] for todo in json.loads(output)["created"]}
    assert keys == {todo["key"] for todo in bzctrl_sandbox.todos}
    assert "is empty" in run("spool", "list")[1]


def test_spool_delivery_that_fails_ends_with_code_1(run, spooled, bzctrl_sandbox):
    """While BzCtrl is down, the entries stay with the reason."""
    code, output, errors = run(
        "spool", "deliver", AIRFLOW_CONN_BZCTRL_DEFAULT=make_connection_json("http://127.0.0.1:1")
    )
    assert code == 1, output + errors
    assert output.splitlines()[-1] == "0 created, 2 kept, 0 rejected"
    assert len(list(spooled.glob("[!.]*.json"))) == 2


@pytest.fixture
def stored(_database):
    """Return a function that stores a Variable in Airflow's database, and one that returns the names that are left."""
    from airflow.models.variable import Variable
    from airflow.utils.session import create_session

    def clear():
        with create_session() as session:
            session.query(Variable).delete()

    def store(name, value):
        with create_session() as session:
            session.add(Variable(key=name, val=value))

    def names():
        with create_session() as session:
            return {key for (key,) in session.query(Variable.key)}

    clear()  # DAGs of other tests have left some
    yield store, names
    clear()


@pytest.mark.parametrize("command", WAYS, ids=" ".join)
def test_variables_are_listed_and_pruned_in_the_database(run, command, stored):
    """Only the old ones of the provider are removed, and not that of a secrets backend or the environment."""
    store, names = stored
    old, new = variable_name("memory", "old_dag", "t"), variable_name("dedup", "new_dag")
    unreadable = variable_name("silenced", "dag")
    kept = {new, unreadable, "bzctrl_silences", "bzctrlXXmemory", "mine"}
    store(old, '{"r 0": {"written_at": "2001-01-01T00:00:00+00:00"}}')
    store(new, json.dumps({"created_at": datetime.now(UTC).isoformat()}))
    for name in kept - {new}:
        store(name, "[]")
    code, output, errors = run("variables", "list", command=command)
    assert code == 0, output + errors
    assert [line.split()[0] for line in output.splitlines()[:-1]] == ["unused", "used", "unreadable"]
    code, output, errors = run("variables", "prune", "--dry-run", "--json", command=command)
    assert (code, json.loads(output)["counts"]) == (0, {"unused": 1, "used": 1, "unreadable": 1}), errors
    assert names() == kept | {old}
    code, output, errors = run("variables", "prune", command=command)
    assert code == 0, output + errors
    assert output.splitlines()[-1] == "1 removed, 1 used, 1 unreadable."
    assert names() == kept


def test_variable_that_was_changed_since_it_was_listed_stays(stored):
    """The command compares and removes in one statement, so it does not lose what a task has written meanwhile."""
    store, names = stored
    store(variable_name("dedup", "a"), "{}")
    [listed] = list_stored_variables("bzctrl__")
    assert not delete_stored_variable(listed._replace(stored="before"))
    assert names() == {listed.name}
    assert delete_stored_variable(listed)
    assert names() == set()


@pytest.mark.skipif(VERSION < (3, 2), reason="Airflow reads the commands of providers from 3.2 on")
def test_airflow_help_has_commands_and_arguments(run):
    """`airflow bzctrl --help` names the commands, and that of a command its arguments."""
    for argv, part in (
        (["--help"], "spool deliver"),
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
    assert facts == {"tags": ["a", "b"], "owner": owner, "team": None}
    assert read_dag_facts("cli_facts") is None


def add_bundle(session):
    if VERSION >= (3, 0):
        from airflow.models.dagbundle import DagBundleModel

        session.merge(DagBundleModel(name="tests"))
        session.flush()
