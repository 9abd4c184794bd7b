from __future__ import annotations

import asyncio
import logging
from dataclasses import replace
from enum import Enum
from types import SimpleNamespace

import pytest
from airflow.providers.common.compat.sdk import AirflowSkipException
from sqlalchemy import select
from support.bzctrl import KEY, sent_todos, set_connection
from support.contexts import TaskInstance, new_run_context, new_task_context

from bzctrl_provider.failure import FailedTask, Failure, LazyFailure
from bzctrl_provider.incidents.deployment import find_names
from bzctrl_provider.incidents.occurrence import Occurrence, read_checks
from bzctrl_provider.notifications.bzctrl import BzCtrlNotifier
from bzctrl_provider.operators.bzctrl import IncidentOnFailureOperator
from bzctrl_provider.store import schema

pytestmark = pytest.mark.usefixtures("connection")

FAILURE = Failure(kind="checks", tasks=(FailedTask(task_id="amounts"),), dag_id="customs", run_id="r")


@pytest.fixture
def write_routes(configure, tmp_path):
    """Return a function that writes the routes file of the deployment and sets further options."""

    def write(text, **options):
        path = tmp_path / "bzctrl_routes.toml"
        path.write_text(text)
        configure(routes_path=str(path), **options)
        return path

    return write


def run_of_type(run_type):
    return SimpleNamespace(run_type=run_type, run_id="r")


def raise_incident(dag_run=None, run_id="r", **fields):
    """Execute a roll-up after a failed check."""
    operator = IncidentOnFailureOperator(task_id="raise_incident", **{"order_id": "r", **fields})
    context = {
        **new_task_context(ti=TaskInstance(max_tries=0), run_id=run_id),
        "failure": LazyFailure({}, lambda _: replace(FAILURE, run_id=run_id)),
        "dag_run": dag_run,
    }
    return operator.execute(context)


RAISE_ONE = [raise_incident, lambda: BzCtrlNotifier()(new_task_context())]

TEAM = """
[[route]]
owners = ["team"]
domain_workspace = "EXA-CUS-TOM-SHQ"
assignee = "{{ dag.owner }}@example.com"
priority = "HIGH"
"""


def test_notifier_with_a_fitting_route_fills_what_the_dag_leaves_out(write_routes, bzctrl):
    """A field in the DAG beats the route, and the templates of the route have the context."""
    write_routes(TEAM)
    BzCtrlNotifier(priority="LOW")(new_task_context())
    (todo,) = sent_todos(bzctrl)
    assert (todo["domainWorkSpace"], todo["assignee"], todo["priority"]) == (
        "EXA-CUS-TOM-SHQ",
        "team@example.com",
        "LOW",
    )


def test_notifier_with_a_workspace_takes_no_part_of_another_place(write_routes, bzctrl):
    """Domain and workspace of a route would contradict the DAG's domain_workspace."""
    write_routes('[[route]]\ndomain = "EXA"\nworkspace = "CUS"\n')
    BzCtrlNotifier(domain_workspace="EXA-OWN")(new_task_context())
    assert sent_todos(bzctrl)[0]["domainWorkSpace"] == "EXA-OWN"


def test_notifier_without_routes_is_not_routed(write_routes, bzctrl):
    """A DAG can opt out."""
    write_routes(TEAM + "ignore = true\n")
    BzCtrlNotifier(routes=False)(new_task_context())
    assert sent_todos(bzctrl)[0]["domainWorkSpace"] == "EXA"


def test_notifier_for_a_deadline_is_routed(write_routes, bzctrl):
    """The context has only the ids, so only routes that need no more fit."""
    write_routes('[[route]]\nowners = "*"\npriority = "HIGH"\n[[route]]\ndags = "cus*"\npriority = "LOW"\n')
    context = {"dag_run": {"dag_id": "customs", "dag_run_id": "r"}, "deadline": {"deadline_time": "07:00"}}

    async def alert():
        await BzCtrlNotifier(context=context)

    asyncio.run(alert())
    assert sent_todos(bzctrl)[0]["priority"] == "LOW"


def test_notifier_route_beats_the_option_and_the_option_the_connection(write_routes, bzctrl):
    """In that order: the DAG, the routes, `[bzctrl]`, the connection."""
    write_routes(
        '[[route]]\npriority = "HIGH"\n',
        priority="LOW",
        domain_workspace="EXA-{{ run_id }}",
    )
    BzCtrlNotifier()(new_run_context())
    (todo,) = sent_todos(bzctrl)
    assert (todo["priority"], todo["domainWorkSpace"]) == ("HIGH", "EXA-r")


def test_notifier_failing_template_of_an_option_is_left_out(write_routes, bzctrl):
    """The incident goes to the workspace of the connection, with a note."""
    write_routes(
        '[[route]]\npriority = "HIGH"\n',
        domain_workspace="{{ no_such_thing.at_all }}",
    )
    BzCtrlNotifier()(new_run_context())
    (todo,) = sent_todos(bzctrl)
    assert todo["domainWorkSpace"] == "EXA"
    assert "domain_workspace of [bzctrl] (" in todo["description"]


def test_notifier_without_a_file_raises_one_for_a_backfill(bzctrl):
    """Only the policy ignores backfills by default: here the DAG itself asks for the incident."""
    BzCtrlNotifier()(new_task_context(dag_run=run_of_type("backfill")))
    assert len(sent_todos(bzctrl)) == 1


def test_notifier_ignoring_route_raises_nothing_and_is_named(write_routes, bzctrl, caplog):
    """A run type of Airflow 2 fits the name that Airflow 3 has for it."""
    path = write_routes('[[route]]\nrun_types = ["asset_triggered"]\nignore = true\n')
    with caplog.at_level(logging.INFO):
        BzCtrlNotifier()(new_task_context(dag_run=run_of_type("dataset_triggered")))
    assert bzctrl.request_history == []
    assert f"No incident: ignore = true in route 1 of {path}." in caplog.text


def test_operator_ignoring_route_skips_and_is_named(write_routes, bzctrl):
    """The run stays failed, because the check has failed."""
    write_routes('[[route]]\nrun_types = ["backfill"]\nignore = true\n')
    with pytest.raises(AirflowSkipException, match=r"ignore = true in route 1"):
        raise_incident(run_of_type("backfill"))
    assert bzctrl.request_history == []


def test_operator_with_a_fitting_route_fills_what_the_dag_leaves_out(write_routes, bzctrl):
    """The tasks that failed are among the facts; a default counts as left out."""
    write_routes(
        '[[route]]\ntasks = ["am*"]\nlrn = "{{ failure.task_ids | join }}"\npriority = "HIGH"\n'
        'order_id = "O"\ntodo_type = "TASK"\n'
    )
    raise_incident(priority="LOW")
    (todo,) = sent_todos(bzctrl)
    assert [todo[name] for name in ("lrn", "priority", "orderID", "todoType")] == [
        "amounts",
        "LOW",
        "O",
        "TASK",
    ]


def test_operator_without_routes_is_not_routed(write_routes, bzctrl):
    """A DAG can opt out."""
    write_routes("[[route]]\nignore = true\n")
    raise_incident(routes=False)
    assert len(sent_todos(bzctrl)) == 1


@pytest.mark.parametrize("raise_one", RAISE_ONE)
def test_failing_template_of_a_route_leaves_its_field_out(write_routes, bzctrl, caplog, raise_one):
    """The incident is raised, with a note that names the field and the route."""
    write_routes('[[route]]\npriority = "HIGH"\nassignee = "{{ no_such_thing.at_all }}"\n')
    raise_one()
    (todo,) = sent_todos(bzctrl)
    assert (todo["priority"], todo["assignee"]) == ("HIGH", "user@example.com")
    assert "the template raises or the value is invalid: assignee of route 1 (" in todo["description"]
    assert "The template of assignee in route 1 cannot be rendered" in caplog.text


@pytest.mark.parametrize("raise_one", RAISE_ONE)
def test_faulty_file_costs_no_incident(write_routes, bzctrl, caplog, raise_one):
    """One ERROR for the version names route and key, the last good version applies, and the description has a note."""
    path = write_routes('[[route]]\nlrn = "L"\n')
    raise_one()
    path.write_text('[[route]]\nlrn = "L"\npriorty = "HIGH"\n')
    raise_one()
    raise_one()
    todos = sent_todos(bzctrl)
    assert [todo["lrn"] for todo in todos] == ["L", "L", "L"]
    assert ["bzctrl_routes.toml has a fault" in todo["description"] for todo in todos] == [False, True, True]
    errors = [record.getMessage() for record in caplog.records if record.levelname == "ERROR"]
    assert len([text for text in errors if "route 1, priorty: is unknown" in text]) == 1


def test_routes_that_raise_cost_no_incident(write_routes, bzctrl, monkeypatch):
    """The description has a note instead."""
    write_routes(TEAM)
    monkeypatch.setattr("bzctrl_provider.incidents.deployment.find_names", lambda *_: 1 / 0)
    BzCtrlNotifier()(new_task_context())
    assert "The routes could not be applied." in sent_todos(bzctrl)[0]["description"]


def test_notifier_with_a_routed_connection_sends_with_it(write_routes, bzctrl, monkeypatch):
    """A team may have its own API user."""
    set_connection(monkeypatch, "bzctrl_customs", extra={"domain_workspace": "EXA-OF-CUSTOMS"})
    write_routes('[[route]]\nbzctrl_conn_id = "bzctrl_{{ dag.dag_id }}"\n')
    BzCtrlNotifier()(new_task_context())
    assert sent_todos(bzctrl)[0]["domainWorkSpace"] == "EXA-OF-CUSTOMS"


def test_routed_window_and_key_make_one_incident_across_dags(write_routes, bzctrl, store):
    """One broken warehouse is one incident for each workspace, and 0 in the DAG switches the window off."""
    write_routes(
        '[[route]]\nowners = "team"\ndedup_window_s = 3600\ndedup_key = "warehouse"\n'
        '[[route]]\ndags = "b"\ndomain_workspace = "EXA-B"\n'
    )
    for dag_id in ("a", "a2", "b", "b"):
        dag = SimpleNamespace(dag_id=dag_id, owner="team", render_template_as_native_obj=False)
        BzCtrlNotifier()(new_task_context(dag=dag, run_id=f"of {dag_id} {len(sent_todos(bzctrl))}"))
    assert [todo.get("domainWorkSpace") for todo in sent_todos(bzctrl)] == ["EXA", "EXA-B"]
    with store.transaction() as tx:
        names = set(tx.connection.execute(select(schema.problem.c.name)).scalars())
    windows = {name for name in names if not name.startswith("last success")}
    assert windows == {"bzctrl_default::warehouse", "bzctrl_default:EXA-B:warehouse"}


def test_operator_with_a_routed_window_creates_one(write_routes, bzctrl, store):
    """The second failure within the window returns the first todo."""
    write_routes("[[route]]\ndedup_window_s = 3600\n")
    assert [raise_incident(run_id=run_id)["key"] for run_id in "12"] == [KEY, KEY]
    assert len(sent_todos(bzctrl)) == 1


def test_names_have_the_team_of_airflow_3_3():
    """Airflow attaches it to a task instance for its metrics; another Airflow has none."""
    ti = TaskInstance(stats_tags={"team_name": "customs"})
    for instance, teams in ((ti, ("customs",)), (TaskInstance(), None)):
        assert find_names(read_checks({"ti": instance}, FAILURE, task_id="t"))["teams"] == teams


class DagRunType(str, Enum):  # noqa: UP042 - as in Airflow
    DATASET_TRIGGERED = "dataset_triggered"


@pytest.mark.parametrize("run_type", ["asset_triggered", "dataset_triggered", DagRunType.DATASET_TRIGGERED])
def test_names_are_those_that_routes_are_written_for(run_type):
    """Joined owners are several, and a run type has its name of Airflow 3, also as an enumeration whose ``str`` is not its value."""
    failure = replace(FAILURE, owner="customs-team, finance")
    assert find_names(Occurrence(failure=failure, tags=["eu"], run_type=run_type)) == {
        "dags": ("customs",),
        "tags": ("eu",),
        "owners": ("customs-team", "finance"),
        "tasks": ("amounts",),
        "run_types": ("asset_triggered",),
        "teams": None,
        "files": None,
    }


def test_consecutive_failures_of_a_route_wait_for_the_third_run(write_routes, bzctrl, store, caplog):
    """A route counts for the notifier and for the operator, and the parameter in a DAG beats it."""
    write_routes("[[route]]\nconsecutive_failures = 3\n")
    with caplog.at_level(logging.INFO):
        for run_id in ("a", "b", "c"):
            BzCtrlNotifier()(new_task_context(run_id=run_id))
    assert [todo["orderID"] for todo in sent_todos(bzctrl)] == ["c"]
    assert "No incident: failure 2 of 3 in a row." in caplog.text
    BzCtrlNotifier(consecutive_failures=1)(new_task_context(run_id="d", ti=TaskInstance(task_id="other")))
    assert sent_todos(bzctrl)[-1]["orderID"] == "d"
    with pytest.raises(AirflowSkipException, match="failure 1 of 3 in a row"):
        raise_incident()
