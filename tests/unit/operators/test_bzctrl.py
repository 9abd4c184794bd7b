from __future__ import annotations

import datetime as dt
import inspect
import json
import logging
import traceback
from types import SimpleNamespace

import pytest
import requests
from airflow.providers.common.compat.sdk import (
    DAG,
    AirflowFailException,
    AirflowSkipException,
    BaseOperator,
    TaskGroup,
    mask_secret,
)
from support import hostile
from support.airflow_versions import VERSION
from support.bzctrl import ACC, KEY, LINK, PASSWORD, TOKEN, register_bzctrl, sent_todos
from support.contexts import TaskInstance
from support.hostile import FORGED, RaisingInComparisons, Secretive, find_one

from bzctrl_provider.decorators.bzctrl import BzCtrlTodoDecoratedOperator
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


def test_execute_valid_fields_creates_an_incident_and_returns_it(bzctrl):
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


def test_execute_response_without_link_pushes_nothing(bzctrl):
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
    # The frames show the way to the request, and no secret with their variables.
    names = [entry.name for entry in caught.traceback]
    assert names.index("_create") < names.index("create_todo") < len(names) - 1
    frames = traceback.TracebackException.from_exception(caught.value, capture_locals=True)
    shown = "".join(frames.format())
    assert PASSWORD not in shown
    assert TOKEN not in shown


def test_execute_after_rendering_reuses_the_failure(bzctrl):
    """The failure of the rendering is that of the incident, so Airflow is asked once."""
    asked = []
    failed = Failure(kind="checks", checks=1, tasks=(FailedTask(task_id="a"),), dag_id="customs", run_id="r")
    lazy = LazyFailure({}, lambda context: asked.append(context) or failed)
    assert lazy.task_ids == ["a"]
    CreateTodoOperator(task_id="t", order_id="o").execute({"ti": TaskInstance(), "failure": lazy})
    assert bzctrl.request_history[1].json()["title"] == "customs: 1 of 1 check failed (a)"
    assert len(asked) == 1


def test_execute_text_none_is_warned_about(bzctrl, caplog):
    """The text 'None' is what Jinja makes of nothing; it is sent as it is, with a warning."""
    execute(title="t", description="None")
    assert any("'None' in: description" in record.message for record in caplog.records)


def test_template_fields_are_all_fields_of_a_todo():
    """The names are those of the contract, and each is a parameter of the operator."""
    assert set(CreateTodoOperator.template_fields) == {*TODO_FIELDS, "bzctrl_conn_id", "dedup_key"}
    parameters = inspect.signature(CreateTodoOperator.__init__).parameters
    assert set(CreateTodoOperator.template_fields) < set(parameters)
    assert set(CreateTodoOperator.template_fields_renderers) < set(CreateTodoOperator.template_fields)


def test_execute_todo_type_none_fails(bzctrl):
    """The default replaces a missing value, but not an empty one."""
    with pytest.raises(AirflowFailException, match="todo_type: is mandatory"):
        execute(title="t", description="d", todo_type=None)


def test_order_id_by_default_is_the_run_id():
    """BzCtrl's tag is the id of the DAG run unless the user says otherwise."""
    assert CreateTodoOperator(task_id="t").order_id == "{{ run_id }}"


def test_operator_templates_of_fixed_values_are_valid_at_parse():
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
    with pytest.raises(ValueError, match="from 1 to 64"):
        CreateTodosOperator(task_id="t", todos=[], max_workers=-1)
    with pytest.raises(ValueError, match="dedup_window"):
        CreateTodosOperator(task_id="t", todos=[], dedup_window=dt.timedelta(days=1))


def test_create_todos_field_left_out_comes_from_the_operator(bzctrl):
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
def test_create_todos_no_list_of_mappings_fails_without_a_retry(todos):
    """A retry would get the same."""
    with pytest.raises(AirflowFailException, match="list of mappings"):
        CreateTodosOperator(task_id="t", todos=todos).execute({"ti": TaskInstance()})


def test_execute_missing_connection_remembers_no_attempt(bzctrl):
    """No attempt is remembered where none was made."""
    kept = {}
    store = SimpleNamespace(get=kept.get, set=kept.__setitem__)
    operator = CreateTodoOperator(task_id="t", title="t", description="d", bzctrl_conn_id="not_there")
    with pytest.raises(Exception, match="not_there"):
        operator.execute({"ti": TaskInstance(), "task_state_store": store})
    assert kept == {}


def test_incident_operator_task_after_it_raises_with_the_remedy():
    """Whichever side says so, the error says what to write instead."""
    with DAG("d", schedule=None):
        incident = IncidentOnFailureOperator(task_id="raise_incident")
        load = BaseOperator(task_id="load")
        with pytest.raises(ValueError, match=r"checks >> \[raise_incident, load\]"):
            incident >> load
        with pytest.raises(ValueError, match="no task can follow it"):
            load << incident
        with pytest.raises(ValueError, match="no task can follow it"):
            incident.set_downstream([load])
        load >> incident
    assert incident.upstream_task_ids == {"load"}


# --- parameters, while the DAG is parsed -----------------------------------------------------------------------------


@pytest.mark.parametrize("operator", [CreateTodoOperator, IncidentOnFailureOperator])
@pytest.mark.parametrize("build", ["init", "partial"])
def test_operator_invalid_literals_are_one_error_at_parse(operator, build):
    """The error names every invalid parameter with its allowed values, mapped or not."""
    make = operator if build == "init" else operator.partial
    with pytest.raises(ValueError, match=operator.__name__) as caught:
        make(
            task_id="t",
            impact="urgent",
            reminder_date="soon",
            assignee="nobody",
            dedup_window=3600,
            on_unknown_outcome="ignore",
        )
    lines = str(caught.value).splitlines()[1:]
    assert {line.partition(":")[0] for line in lines} == {
        "- impact",
        "- reminder_date",
        "- assignee",
        "- dedup_window",
        "- on_unknown_outcome",
    }
    assert "HIGH, MEDIUM or LOW" in str(caught.value)


def test_create_todos_invalid_literals_are_one_error_at_parse():
    """The number of workers and the window belong to the same error."""
    with pytest.raises(ValueError, match="CreateTodosOperator") as caught:
        CreateTodosOperator(
            task_id="t", todos=[], max_workers=0, dedup_window=dt.timedelta(1), priority="urgent"
        )
    assert {line.partition(":")[0] for line in str(caught.value).splitlines()[1:]} == {
        "- max_workers",
        "- dedup_window",
        "- priority",
    }


def test_operator_templates_and_mapped_values_are_not_checked_at_parse():
    """Templates, results of tasks, and values whose counterpart comes from `expand` are valid in a DAG file."""
    with DAG("d", schedule=None):
        found = BaseOperator(task_id="find")
        CreateTodoOperator(task_id="a", impact="{{ 'urgent' }}", category=["{{ x }}"], priority=found.output)
        CreateTodoOperator.partial(task_id="b", domain="EXA", result="x").expand(
            workspace=["A"], todo_type=["TASK"]
        )
        CreateTodosOperator(task_id="c", todos=[{"todo_type": "TASK"}], result="for tasks")


def test_mapped_instance_with_invalid_data_is_built():
    """Data is checked after rendering: an instance of a mapped task must be built, or its incident would be lost."""
    with DAG("d", schedule=None):
        mapped = IncidentOnFailureOperator.partial(task_id="t").expand(priority=["urgent"])
    assert (
        mapped.operator_class(task_id="t", priority="urgent", _airflow_from_mapped=True).priority == "urgent"
    )


# --- the incident of failed checks -----------------------------------------------------------------------------------

FAILURE = Failure(
    kind="checks", checks=1, tasks=(FailedTask(task_id="a"),), dag_id="customs", run_id="the run"
)


def raise_incident(*, try_number=1, max_tries=0, failure=FAILURE, render=(), **fields):
    """Execute a roll-up; `render` are the values that templates made."""
    operator = IncidentOnFailureOperator(task_id="raise_incident", **{"order_id": "o", **fields})
    for name, value in dict(render).items():
        setattr(operator, name, value)
    ti = TaskInstance()
    ti.try_number, ti.max_tries = try_number, max_tries
    context = {"ti": ti, "failure": LazyFailure({}, lambda _: failure)}
    return operator.execute(context)


def test_incident_invalid_option_of_the_deployment_is_noted(bzctrl, configure):
    """People who read incidents see what the deployment's configuration has lost, as in those of callbacks."""
    configure(dedup_window_s="1d", spool_path="off")
    raise_incident()
    todo = bzctrl.request_history[1].json()
    assert "Invalid options in [bzctrl]" in todo["description"]
    assert "dedup_window_s must be a whole number of seconds" in todo["description"]


def test_incident_invalid_rendered_fields_are_left_out_with_note(bzctrl, caplog):
    """The incident is raised, and description and log name the fields that it lacks."""
    raise_incident(
        render={
            "priority": "urgent",
            "financial_impact": "a lot",
            "order_id": 3j,
            "todo_type": "",
            "lrn": "L",
        }
    )
    todo = bzctrl.request_history[1].json()
    assert (todo["todoType"], todo["orderID"], todo["lrn"]) == ("INCIDENT", "the run", "L")
    assert "priority" not in todo
    assert "financialImpact" not in todo
    note = todo["description"].splitlines()[-1]
    assert note.startswith("Left out, because the value is invalid: ")
    for name in ("priority (", "financial_impact (", "order_id ("):
        assert name in note
        assert name in caplog.text


def test_create_todo_invalid_rendered_field_fails_the_task(bzctrl):
    """Used by itself, CreateTodoOperator sends no todo that differs from what the DAG asks for."""
    operator = CreateTodoOperator(task_id="t", title="t", description="d", order_id="o")
    operator.priority = "urgent"
    with pytest.raises(AirflowFailException, match="priority: must be"):
        operator.execute({"ti": TaskInstance()})
    assert bzctrl.request_history == []


@pytest.mark.parametrize("name", ["title", "description", "lrn", "category"])
def test_operator_native_failure_and_exception_become_text(bzctrl, name):
    """With native rendering a template like `{{ failure }}` gives an object, which is sent as its text."""
    for value, text in [
        (LazyFailure({}, lambda _: FAILURE), "customs: 1 of 1 check failed (a)"),
        (OSError("disk full"), "OSError: disk full"),
        (FAILURE.tasks[0], "a"),
    ]:
        fields = {"title": "t", "description": "d", "order_id": "o"}
        operator = CreateTodoOperator(task_id="t", **fields)
        setattr(operator, name, [value] if name == "category" else value)
        operator.execute({"ti": TaskInstance()})
        sent = bzctrl.request_history[-1].json()[name]
        assert sent == ([text] if name == "category" else text)


def get_retries(task):
    return task.retries, task.retry_delay, bool(task.retry_exponential_backoff)


THREE = (3, dt.timedelta(minutes=1), True)


def test_incident_operator_default_retries_are_three_with_backoff():
    """Plain and mapped; a plain CreateTodoOperator keeps Airflow's default."""
    with DAG("d", schedule=None):
        assert get_retries(IncidentOnFailureOperator(task_id="a")) == THREE
        mapped = IncidentOnFailureOperator.partial(task_id="b").expand(lrn=["1"])
        assert get_retries(mapped) == THREE
        assert CreateTodoOperator(task_id="c").retries == 0


@pytest.mark.parametrize("where", ["task", "task's default_args", "DAG", "group"])
def test_incident_operator_retries_of_the_dag_file_stay(where):
    """Retries on the task, or in any default_args around it, are used as they are."""
    own = {"retries": 1}
    dag_args = {"default_args": own} if where == "DAG" else {}
    group_args = {"default_args": own} if where == "group" else {}
    args = {"task": own, "task's default_args": {"default_args": own}}.get(where, {})
    with DAG("d", schedule=None, **dag_args), TaskGroup("g", **group_args):
        plain = IncidentOnFailureOperator(task_id="a", **args)
        mapped = IncidentOnFailureOperator.partial(task_id="b", **args).expand(lrn=["1"])
    assert get_retries(plain)[::2] == get_retries(mapped)[::2] == (1, False)


def test_incident_operator_retry_delay_of_the_dag_stays():
    """A DAG that sets only the delay gets the three retries with that delay."""
    delay = dt.timedelta(seconds=7)
    with DAG("d", schedule=None, default_args={"retry_delay": delay}):
        assert get_retries(IncidentOnFailureOperator(task_id="a")) == (3, delay, True)
        mapped = IncidentOnFailureOperator.partial(task_id="b").expand(lrn=["1"])
        assert get_retries(mapped) == (3, delay, True)


@pytest.fixture
def spool(tmp_path, configure):
    """Configure a spool, and return its folder."""
    configure(spool_path=f"file://{tmp_path}")
    return tmp_path


def spooled(folder):
    return [json.loads(file.read_text()) for file in folder.glob("**/[!.]*.json")]


@pytest.mark.parametrize(
    ("answer", "try_number", "count"),
    [
        ({"status_code": 503}, 1, 0),
        ({"status_code": 503}, 2, 1),
        ({"status_code": 401}, 1, 1),
        ({"status_code": 400}, 2, 0),
    ],
    ids=["a retry follows", "last try", "credentials refused", "incident refused"],
)
def test_incident_operator_failure_that_can_be_cured_goes_into_spool(
    bzctrl, spool, monkeypatch, answer, try_number, count
):
    """On the last try, with all of its fields; the task fails in any case."""
    monkeypatch.setattr("time.sleep", lambda _: None)
    bzctrl.post(ACC.create_url, **answer)
    with pytest.raises((BzCtrlServerError, AirflowFailException)):
        raise_incident(try_number=try_number, max_tries=1, priority="HIGH")
    entries = spooled(spool)
    assert len(entries) == count
    for entry in entries:
        assert "customs: 1 of 1 check failed (a)" in json.dumps(entry)


def test_incident_operator_policy_fail_without_response_is_not_spooled(bzctrl, spool):
    """Nothing may be sent again after an attempt without a response, also not by the spool."""
    bzctrl.post(ACC.create_url, exc=requests.exceptions.ReadTimeout)
    with pytest.raises(AirflowFailException, match="on_unknown_outcome is 'fail'"):
        raise_incident(try_number=2, max_tries=1, on_unknown_outcome="fail")
    assert spooled(spool) == []


def test_incident_operator_without_spool_logs_the_redacted_payload(bzctrl, configure, caplog):
    """The log has every field on one line, and no secret that Airflow masks."""
    configure(spool_path="off")
    mask_secret("hunter2-and-more")
    bzctrl.post(ACC.create_url, status_code=400)
    with pytest.raises(AirflowFailException):
        raise_incident(lrn="26NL", description="the password is hunter2-and-more")
    (line,) = [
        record.getMessage() for record in caplog.records if "It would have been" in record.getMessage()
    ]
    assert '"lrn": "26NL"' in line
    assert "customs: 1 of 1 check failed (a)" in line
    assert "hunter2" not in caplog.text


def test_incident_operator_broken_spool_logs_the_payload(bzctrl, configure, caplog, tmp_path):
    """A spool that cannot be written hides neither the incident nor its error."""
    (tmp_path / "file").write_text("")
    configure(spool_path=f"file://{tmp_path}/file")
    bzctrl.post(ACC.create_url, status_code=401)
    with pytest.raises(AirflowFailException, match="401"):
        raise_incident()
    assert "could not be spooled" in caplog.text
    assert "It would have been" in caplog.text


# --- many ------------------------------------------------------------------------------------------------------------


def test_decorator_generator_that_raises_creates_nothing(bzctrl):
    """All todos of a function are known before the first one is created, so an error leaves no half-created list."""

    def find():
        yield from ({"title": f"t{number}"} for number in range(20))
        raise OSError("the database is gone")

    operator = BzCtrlTodoDecoratedOperator(
        task_id="t", python_callable=find, op_args=[], op_kwargs={}, description="d", order_id="o"
    )
    with pytest.raises(OSError, match="the database is gone"):
        operator.execute({"ti": TaskInstance()})
    assert bzctrl.request_history == []


def run_context():
    dag = SimpleNamespace(dag_id="customs", owner="team")
    return {"dag": dag, "run_id": "r 1", "ti": TaskInstance(state="running"), "task": None}


@pytest.mark.parametrize(("link_to_run", "linked"), [({}, True), ({"link_to_run": False}, False)])
def test_create_todos_each_description_ends_with_the_run(bzctrl, link_to_run, linked):
    """Each todo leads back to the run, also that of a function, unless it is switched off."""
    todos = [{"title": "one", "description": "d"}]
    operators = [
        CreateTodosOperator(task_id="t", todos=todos, order_id="o", **link_to_run),
        BzCtrlTodoDecoratedOperator(
            task_id="t", python_callable=lambda: todos, op_args=[], op_kwargs={}, order_id="o", **link_to_run
        ),
    ]
    for operator in operators:
        operator.execute(run_context())
        *_, last = bzctrl.request_history[-1].json()["description"].splitlines()
        assert (last == "d") is not linked
        assert (last.startswith("Run: http") and "r%201" in last) is linked


@pytest.mark.parametrize("count", [1, 3, 12])
def test_create_todos_links_lead_to_the_first_ten(bzctrl, count):
    """Airflow 3 stores one XCom for each of them and no empty one; Airflow 2 has one link, to the log if there are several."""
    todos = [{"title": f"t{n}", "description": "d", "order_id": "o"} for n in range(count)]
    operator = CreateTodosOperator(task_id="t", todos=todos)
    context = run_context()
    operator.execute(context)
    shown = [link.get_link(operator, ti_key=None) for link in operator.operator_extra_links]
    assert len(CreateTodosOperator.operator_extra_links) == (10 if VERSION >= (3, 0) else 1)
    if VERSION >= (3, 0):
        assert shown == [LINK] * min(count, 10)
        assert context["ti"].pushed == []
    else:
        assert shown == [LINK if count == 1 else "https://airflow.example.com/log"]
        assert context["ti"].pushed == [("bzctrl_todo_link", shown[0])]


def test_create_todos_that_creates_none_stores_no_link(bzctrl):
    """A skipped task has no XCom with an empty link."""
    operator = CreateTodosOperator(task_id="t", todos=[])
    with pytest.raises(AirflowSkipException):
        operator.execute(run_context())
    assert [link.get_link(operator, ti_key=None) for link in operator.operator_extra_links] == (
        [] if VERSION >= (3, 0) else [""]
    )


@pytest.mark.parametrize(("link_to_run", "linked"), [({}, False), ({"link_to_run": True}, True)])
def test_create_todo_own_description_is_unchanged_by_default(bzctrl, link_to_run, linked):
    """A text of the user's own is sent as it was written, and has the address of the run if that is switched on."""
    operator = CreateTodoOperator(task_id="t", title="t", description="d", order_id="o", **link_to_run)
    operator.execute(run_context())
    assert ("Run: http" in bzctrl.request_history[-1].json()["description"]) is linked


def test_create_todo_invalid_link_to_run_is_an_error_of_the_dag_file():
    """A text is neither true nor false."""
    with pytest.raises(ValueError, match="link_to_run: must be True or False, not 'no'"):
        CreateTodoOperator(task_id="t", link_to_run="no")


class Poisoned:
    """A memory that another user has changed."""

    def __init__(self, created):
        self._created = created

    def get(self, key):
        return {"page": 0, "todos": {"todo": {"created": self._created}}} if key == "todo.0" else {}

    def set(self, _key, _value):
        raise AssertionError("nothing is created again")


@pytest.mark.security
@pytest.mark.parametrize(
    "value", [Secretive(), RaisingInComparisons(), [RaisingInComparisons()], {"password": "hunter2"}]
)
@pytest.mark.parametrize("name", ["title", "description", "category", "financial_impact", "lrn"])
def test_execute_object_in_field_fails_with_the_field_name(bzctrl, name, value):
    """Native rendering may put any object into a field, a connection too: it is neither asked nor sent."""
    operator = CreateTodoOperator(task_id="raise_incident", title="t", description="d", order_id="o")
    setattr(operator, name, value)
    with pytest.raises(AirflowFailException, match=f"- {name}: ") as caught:
        operator.execute({"ti": SimpleNamespace()})
    assert "hunter2" not in str(caught.value)
    assert bzctrl.request_history == []


@pytest.mark.security
@pytest.mark.parametrize(
    "faulty",
    [
        {"title": Secretive()},
        {"title": RaisingInComparisons()},
        {5: "x", "title": "t"},
        {None: 1, ("a",): 2},
        {"title": {1: "a", "b": 2}},
        {f"title{FORGED}": "x"},
        {"title": f"t{FORGED}", "impact": f"urgent{FORGED}"},
    ],
    ids=range(7),
)
def test_create_todos_hostile_one_leaves_the_others_created(bzctrl, caplog, faulty):
    """It is named in the table of the log, on a line of its own that it cannot forge and that contains no secret."""
    operator = CreateTodosOperator(
        task_id="t", todos=[faulty, {"title": "good"}], description="d", order_id="o"
    )
    with pytest.raises(AirflowFailException, match="1 of 2 todos"), caplog.at_level(logging.ERROR):
        operator.execute({"ti": TaskInstance(max_tries=0)})
    assert [todo["title"] for todo in sent_todos(bzctrl)] == ["good"]
    table = find_one(caplog.records, "todos were not created")
    assert "hunter2" not in table
    lines = table.split("\n")
    assert all(line.isprintable() for line in lines)
    assert not any(line.startswith("[2026") for line in lines)
    assert any(line.startswith("1. ") for line in lines)
    assert lines[-1] == f"2. good: created, {KEY} {LINK}"


@pytest.mark.security
@pytest.mark.parametrize(
    "todos", [[Secretive()], [RaisingInComparisons()], RaisingInComparisons(), "<script>" * 10_000]
)
def test_create_todos_hostile_list_is_named_by_its_type(bzctrl, todos):
    """The message has its type, and is short."""
    operator = CreateTodosOperator(task_id="t", todos=todos)
    with pytest.raises(AirflowFailException, match="list of mappings") as caught:
        operator.execute({"ti": SimpleNamespace()})
    assert "hunter2" not in str(caught.value)
    assert len(str(caught.value)) < 400


@pytest.mark.security
@pytest.mark.parametrize("link", hostile.LINKS, ids=lambda link: f"{link!r:.20}")
def test_execute_poisoned_memory_gives_no_link(bzctrl, monkeypatch, caplog, link):
    """A user with write access to Variables cannot put a script into the link of a task."""
    monkeypatch.setattr(
        "bzctrl_provider.memory.open_memory",
        lambda _: Poisoned({"key": f"EXA{FORGED}", "link": link}),
    )
    pushed = []
    ti = SimpleNamespace(xcom_push=lambda **xcom: pushed.append(xcom))
    operator = CreateTodoOperator(task_id="raise_incident", title="t", description="d", order_id="o")
    with caplog.at_level(logging.INFO):
        operator.execute({"ti": ti})
    assert operator.todo_link == ""
    assert pushed == []
    assert find_one(caplog.records, "An earlier try").isprintable()
