from __future__ import annotations

import datetime as dt
import inspect
import json
from types import SimpleNamespace

import pytest
import requests
from airflow.providers.common.compat.sdk import DAG, AirflowFailException, BaseOperator
from support.bzctrl import ACC, KEY, LINK, register_bzctrl
from support.contexts import TaskInstance

from bzctrl_provider.exceptions import BzCtrlServerError, BzCtrlTransportError
from bzctrl_provider.failure import FailedTask, Failure, LazyFailure
from bzctrl_provider.fields import TODO_FIELDS
from bzctrl_provider.operators.bzctrl import (
    CreateTodoOperator,
    CreateTodosOperator,
    IncidentOnFailureOperator,
)

pytestmark = pytest.mark.usefixtures("connection")


@pytest.fixture
def bzctrl(requests_mock):
    return register_bzctrl(requests_mock, create={"taskLink": LINK, "tags": ["run 5"]})


def execute(**fields):
    ti = TaskInstance()
    operator = CreateTodoOperator(task_id="raise_incident", **{"order_id": "run 5", **fields})
    return operator.execute({"ti": ti}), ti


def test_the_operator_creates_an_incident_and_returns_it(bzctrl):
    """The return value is plain JSON, and the link is pushed for the button."""
    returned, ti = execute(title="t", description="d")
    assert returned == {
        "key": KEY,
        "link": LINK,
        "title": "t",
        "todo_type": "INCIDENT",
        "description": "d",
        "tags": ["run 5"],
    }
    assert ti.pushed == [("bzctrl_todo_link", LINK)]
    assert bzctrl.request_history[1].json() == {
        "todoType": "INCIDENT",
        "domainWorkSpace": "EXA",
        "title": "t",
        "description": "d",
        "status": "IN PROGRESS",
        "assignee": "user@example.com",
        "reporter": "user@example.com",
        "orderID": "run 5",
    }


def test_without_a_link_nothing_is_pushed(bzctrl):
    """The todo exists and the task succeeds."""
    bzctrl.post(ACC.create_url, json={})
    returned, ti = execute(title="t", description="d")
    assert returned["link"] is None
    assert ti.pushed == []


@pytest.mark.parametrize(
    ("token", "create", "fields"),
    [
        ({}, {}, {"title": None}),
        ({}, {}, {"bzctrl_conn_id": "broken"}),
        ({"status_code": 401}, {}, {}),
        ({}, {"status_code": 401}, {}),
        ({}, {"status_code": 400}, {}),
        ({}, {"status_code": 302}, {}),
    ],
)
def test_execute_permanent_error_fails_without_a_retry(bzctrl, monkeypatch, token, create, fields):
    """An invalid todo or connection, rejected credentials and a rejected todo raise AirflowFailException."""
    monkeypatch.setenv("AIRFLOW_CONN_BROKEN", json.dumps({"conn_type": "bzctrl"}))
    if token:
        bzctrl.post(ACC.token_url, **token)
    if create:
        bzctrl.post(ACC.create_url, **create)
    with pytest.raises(AirflowFailException) as caught:
        execute(**{"title": "t", "description": "d", **fields})
    assert str(caught.value) == str(caught.value.__context__)
    assert caught.value.__suppress_context__  # the log says it once


@pytest.mark.parametrize(("status", "error"), [(500, BzCtrlServerError), (None, BzCtrlTransportError)])
def test_execute_temporary_error_lets_airflow_retry(bzctrl, status, error):
    """An unavailable or unreachable BzCtrl raises its own error, after which Airflow retries."""
    if status:
        bzctrl.post(ACC.create_url, status_code=status)
    else:
        bzctrl.post(ACC.create_url, exc=requests.exceptions.ReadTimeout)
    with pytest.raises(error) as caught:
        execute(title="t", description="d")
    # The log shows the way to the operator, and not the dozen frames from there to the request.
    assert caught.traceback[-1].name == "_create"


def test_execute_after_rendering_reuses_the_failure(bzctrl):
    """The failure of the rendering is that of the incident, so Airflow is asked once."""
    asked = []
    failed = Failure(kind="checks", checks=1, tasks=(FailedTask(task_id="a"),), dag_id="customs", run_id="r")
    lazy = LazyFailure({}, lambda context: asked.append(context) or failed)
    assert lazy.task_ids == ["a"]
    CreateTodoOperator(task_id="t", order_id="o").execute({"ti": TaskInstance(), "failure": lazy})
    assert bzctrl.request_history[1].json()["title"] == "customs: 1 of 1 check failed (a)"
    assert len(asked) == 1


def test_a_template_that_found_nothing_is_noticed(bzctrl, caplog):
    """The text 'None' is what Jinja makes of nothing; it is sent as it is, with a warning."""
    execute(title="t", description="None")
    assert any("'None' in: description" in record.message for record in caplog.records)


def test_every_field_of_a_todo_is_a_template_field():
    """The names are those of the contract, and each is a parameter of the operator."""
    assert set(CreateTodoOperator.template_fields) == {*TODO_FIELDS, "bzctrl_conn_id", "dedup_key"}
    parameters = inspect.signature(CreateTodoOperator.__init__).parameters
    assert set(CreateTodoOperator.template_fields) < set(parameters)
    assert set(CreateTodoOperator.template_fields_renderers) < set(CreateTodoOperator.template_fields)


def test_no_type_at_all_is_still_a_fault(bzctrl):
    """The default replaces a missing value, but not an empty one."""
    with pytest.raises(AirflowFailException, match="todo_type: is mandatory"):
        execute(title="t", description="d", todo_type=None)


def test_the_order_id_leads_back_to_the_run():
    """BzCtrl's tag is the id of the DAG run unless the user says otherwise."""
    assert CreateTodoOperator(task_id="t").order_id == "{{ run_id }}"


def test_a_faulty_template_field_is_no_error_at_parse_time():
    """Fields are not validated before rendering: a DAG with templates and mapped arguments can be built."""
    with DAG("d", schedule=None):
        CreateTodoOperator(
            task_id="a", impact="{{ params.impact }}", financial_impact="{{ ti.xcom_pull('x') }}"
        )
        mapped = CreateTodoOperator.partial(task_id="b", title="t").expand(order_id=["1", "2"])
    assert mapped.operator_class is CreateTodoOperator


def test_operator_invalid_option_raises_when_the_dag_is_built():
    """An unknown policy, or a window for several todos, is an error of the DAG file."""
    with pytest.raises(ValueError, match="on_unknown_outcome"):
        CreateTodoOperator(task_id="t", on_unknown_outcome="ignore")
    with pytest.raises(ValueError, match="1 to 64"):
        CreateTodosOperator(task_id="t", todos=[], max_workers=-1)
    with pytest.raises(ValueError, match="dedup_window"):
        CreateTodosOperator(task_id="t", todos=[], dedup_window=dt.timedelta(days=1))


def test_what_a_mapping_leaves_out_comes_from_the_operator(bzctrl):
    """None leaves out as well, and a domain of its own takes the place of the operator's workspace."""
    operator = CreateTodosOperator(
        task_id="t",
        todos=[{"title": "a", "order_id": None}, {"title": "b", "domain": "EXA", "workspace": "TWO"}],
        description="d",
        order_id="run 5",
        domain_workspace="EXA-ONE",
        max_workers=1,
    )
    operator.execute({"ti": TaskInstance()})
    first, second = (request.json() for request in bzctrl.request_history[1:])
    assert (first["orderID"], first["domainWorkSpace"]) == ("run 5", "EXA-ONE")
    assert second["domainWorkSpace"] == "EXA-TWO"


@pytest.mark.parametrize("todos", [[None, {}], [{}, "abc"], "abc", 5])
def test_what_is_no_list_of_mappings_fails_for_good(todos):
    """A retry would get the same."""
    with pytest.raises(AirflowFailException, match="list of mappings"):
        CreateTodosOperator(task_id="t", todos=todos).execute({"ti": TaskInstance()})


def test_a_connection_that_is_not_there_leaves_no_doubt(bzctrl):
    """No attempt is remembered where none was made."""
    kept = {}
    store = SimpleNamespace(get=kept.get, set=kept.__setitem__)
    operator = CreateTodoOperator(task_id="t", title="t", description="d", bzctrl_conn_id="not_there")
    with pytest.raises(Exception, match="not_there"):
        operator.execute({"ti": TaskInstance(), "task_state_store": store})
    assert kept == {}


def test_nothing_can_stand_behind_the_roll_up():
    """Whichever side says so, the error says what to write instead."""
    with DAG("d", schedule=None):
        incident = IncidentOnFailureOperator(task_id="raise_incident")
        load = BaseOperator(task_id="load")
        with pytest.raises(ValueError, match=r"checks >> \[raise_incident, load\]"):
            incident >> load
        with pytest.raises(ValueError, match="nothing can stand behind it"):
            load << incident
        with pytest.raises(ValueError, match="nothing can stand behind it"):
            incident.set_downstream([load])
        load >> incident
    assert incident.upstream_task_ids == {"load"}
