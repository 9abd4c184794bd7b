from __future__ import annotations

import contextlib
import datetime as dt
import inspect
import itertools
import json
import logging
import traceback
from dataclasses import replace
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
from support.contexts import TaskInstance, new_dag
from support.hostile import FORGED, RaisingInComparisons, Secretive, find_one
from support.store import STATES, read

from bzctrl_provider.client import auth
from bzctrl_provider.decorators.bzctrl import BzCtrlTodoDecoratedOperator
from bzctrl_provider.exceptions import BzCtrlServerError, BzCtrlTransportError
from bzctrl_provider.failure import FailedTask, Failure, LazyFailure
from bzctrl_provider.fields import TODO_FIELDS
from bzctrl_provider.operators.bzctrl import (
    CreateTodoOperator,
    CreateTodosOperator,
    IncidentOnFailureOperator,
)
from bzctrl_provider.outbox import deliver

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


def test_execute_response_without_link_or_a_text_none_succeeds(bzctrl, caplog):
    """The todo exists; the text 'None' is what Jinja makes of nothing, and is sent as it is, with a warning."""
    bzctrl.post(ACC.create_url, json={"title": "t"})
    returned, ti = execute(title="t", description="None")
    assert returned["link"] is None
    assert ti.pushed == []
    assert any("'None' in: description" in record.message for record in caplog.records)


def test_execute_permanent_error_fails_without_a_retry(bzctrl, monkeypatch):
    """An invalid todo or connection, rejected credentials and a rejected todo raise AirflowFailException."""
    monkeypatch.setenv("AIRFLOW_CONN_BROKEN", json.dumps({"conn_type": "bzctrl"}))
    for token_status, create_status, fields in [
        (200, 200, {"title": None}),
        (200, 200, {"todo_type": None}),
        (200, 200, {"bzctrl_conn_id": "broken"}),
        (401, 200, {}),
        *((200, status, {}) for status in (401, 400, 302)),
    ]:
        auth._sources.clear()
        bzctrl.post(ACC.token_url, status_code=token_status, json={"access_token": TOKEN})
        bzctrl.post(ACC.create_url, status_code=create_status)
        with pytest.raises(AirflowFailException) as caught:
            execute(**{"title": "t", "description": "d", **fields})
        assert str(caught.value) == str(caught.value.__context__)
        assert caught.value.__suppress_context__  # the log says it once


def test_execute_temporary_error_lets_airflow_retry(bzctrl):
    """An unavailable or unreachable BzCtrl raises its own error, whose frames lead to the request and show no secret."""
    for error, answer in [
        (BzCtrlServerError, {"status_code": 500}),
        (BzCtrlTransportError, {"exc": requests.exceptions.ReadTimeout}),
    ]:
        bzctrl.post(ACC.create_url, **answer)
        with pytest.raises(error) as caught:
            execute(title="t", description="d")
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
    assert bzctrl.request_history[1].json()["title"] == "customs: a failed"
    assert len(asked) == 1


def test_template_fields_are_all_fields_of_a_todo():
    """The names are those of the contract, and each is a parameter of the operator."""
    assert set(CreateTodoOperator.template_fields) == {*TODO_FIELDS, "bzctrl_conn_id", "dedup_key"}
    parameters = inspect.signature(CreateTodoOperator.__init__).parameters
    assert set(CreateTodoOperator.template_fields) < set(parameters)
    assert CreateTodoOperator(task_id="t").order_id == "{{ run_id }}"


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


def test_create_todos_no_list_of_mappings_fails_without_a_retry():
    """A retry would get the same."""
    for todos in ([None, {}], [{}, "abc"], "abc", 5):
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


def test_operator_invalid_literals_are_one_error_at_parse():
    """The error names every invalid parameter with its allowed values, mapped or not."""
    fields = {"impact": "urgent", "reminder_date": "soon", "assignee": "nobody"}
    others = {"dedup_window": 3600, "on_unknown_outcome": "ignore"}
    of_list = {"todos": [], "max_workers": 0, "dedup_window": dt.timedelta(1), "priority": "urgent"}
    for make, name, given in [
        (CreateTodoOperator, "CreateTodoOperator", {**fields, **others}),
        (CreateTodoOperator.partial, "CreateTodoOperator", {**fields, **others}),
        (IncidentOnFailureOperator, "IncidentOnFailureOperator", {**fields, **others}),
        (IncidentOnFailureOperator.partial, "IncidentOnFailureOperator", {**fields, **others}),
        (CreateTodosOperator, "CreateTodosOperator", of_list),
    ]:
        with pytest.raises(ValueError, match=name) as caught:
            make(task_id="t", **given)
        lines = {line.partition(":")[0] for line in str(caught.value).splitlines()[1:]}
        assert lines == {f"- {parameter}" for parameter in given.keys() - {"todos"}}
        assert "HIGH, MEDIUM or LOW" in str(caught.value)


def test_operator_templates_and_mapped_values_are_not_checked_at_parse():
    """Templates, results of tasks, and values whose counterpart comes from `expand` are valid in a DAG file."""
    with DAG("d", schedule=None):
        found = BaseOperator(task_id="find")
        CreateTodoOperator(task_id="a", impact="{{ 'urgent' }}", category=["{{ x }}"], priority=found.output)
        mapped = CreateTodoOperator.partial(task_id="b", domain="EXA", result="x").expand(
            workspace=["A"], todo_type=["TASK"]
        )
        CreateTodosOperator(task_id="c", todos=[{"todo_type": "TASK"}], result="for tasks")
    assert mapped.operator_class is CreateTodoOperator


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


def raise_incident(*, try_number=1, max_tries=0, run_id="r", render=(), **fields):
    """Execute a roll-up; `render` are the values that templates made."""
    operator = IncidentOnFailureOperator(task_id="raise_incident", **{"order_id": "o", **fields})
    for name, value in dict(render).items():
        setattr(operator, name, value)
    ti = TaskInstance()
    ti.try_number, ti.max_tries = try_number, max_tries
    context = {
        "ti": ti,
        "dag": new_dag(),
        "run_id": run_id,
        "failure": LazyFailure({}, lambda _: replace(FAILURE, run_id=run_id)),
    }
    return operator.execute(context)


def test_incident_invalid_option_of_the_deployment_is_noted(bzctrl, configure):
    """People who read incidents see what the deployment's configuration has lost, as in those of callbacks."""
    configure(dedup_window_s="1d")
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
    assert (todo["todoType"], todo["orderID"], todo["lrn"]) == ("INCIDENT", "r", "L")
    assert "priority" not in todo
    assert "financialImpact" not in todo
    note = todo["description"].splitlines()[-1]
    assert note.startswith("Left out, because the template raises or the value is invalid: ")
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


def test_operator_native_failure_and_exception_become_text(bzctrl):
    """With native rendering a template like `{{ failure }}` gives an object, which is sent as its text."""
    for name, (value, text) in itertools.product(
        ("title", "description", "lrn", "category"),
        [
            (LazyFailure({}, lambda _: FAILURE), "customs: a failed"),
            (OSError("disk full"), "OSError: disk full"),
            (FAILURE.tasks[0], "a"),
        ],
    ):
        operator = CreateTodoOperator(task_id="t", title="t", description="d", order_id="o")
        setattr(operator, name, [value] if name == "category" else value)
        operator.execute({"ti": TaskInstance()})
        sent = bzctrl.request_history[-1].json()[name]
        assert sent == ([text] if name == "category" else text)


def get_retries(task):
    return task.retries, task.retry_delay, bool(task.retry_exponential_backoff)


def test_incident_operator_default_retries_are_three_with_backoff():
    """Plain and mapped, with the delay of the DAG if it has one; a plain CreateTodoOperator keeps Airflow's default."""
    for delay in (dt.timedelta(minutes=1), dt.timedelta(seconds=7)):
        default_args = {} if delay == dt.timedelta(minutes=1) else {"retry_delay": delay}
        with DAG("d", schedule=None, default_args=default_args):
            assert get_retries(IncidentOnFailureOperator(task_id="a")) == (3, delay, True)
            mapped = IncidentOnFailureOperator.partial(task_id="b").expand(lrn=["1"])
            assert get_retries(mapped) == (3, delay, True)
            assert CreateTodoOperator(task_id="c").retries == 0


def test_incident_operator_retries_of_the_dag_file_stay():
    """Retries on the task, or in any default_args around it, are used as they are."""
    own = {"retries": 1}
    defaults = {"default_args": own}
    for of_dag, of_group, of_task in [
        ({}, {}, own),
        ({}, {}, defaults),
        (defaults, {}, {}),
        ({}, defaults, {}),
    ]:
        with DAG("d", schedule=None, **of_dag), TaskGroup("g", **of_group):
            plain = IncidentOnFailureOperator(task_id="a", **of_task)
            mapped = IncidentOnFailureOperator.partial(task_id="b", **of_task).expand(lrn=["1"])
        assert get_retries(plain)[::2] == get_retries(mapped)[::2] == (1, False)


def test_incident_operator_failure_that_can_be_cured_waits_in_the_outbox(bzctrl, store, caplog):
    """On the last try, the task succeeds with `queued`, and a delivery creates the incident once; a refused one is logged."""
    for number, (response, try_number, is_queued, is_unknown) in enumerate(
        [
            ({"status_code": 503}, 1, False, False),  # a retry follows
            ({"status_code": 503}, 2, True, False),
            ({"status_code": 401}, 1, True, False),  # the credentials are refused
            ({"status_code": 500}, 2, True, True),
            ({"status_code": 400}, 2, False, False),  # the incident is refused
        ]
    ):
        before = len(read(store))
        bzctrl.post(ACC.create_url, **response)
        incident = {"try_number": try_number, "max_tries": 1, "priority": "HIGH", "order_id": str(number)}
        if not is_queued:
            with pytest.raises((BzCtrlServerError, AirflowFailException)):
                raise_incident(run_id=str(number), **incident)
            assert len(read(store)) == before
            continue
        result = raise_incident(run_id=str(number), **incident)
        description = result.pop("description")
        assert result == {
            "key": None,
            "link": None,
            "title": "customs: a failed",
            "todo_type": "INCIDENT",
            "tags": [],
            "queued": True,
        }
        waiting = read(store)[-1]
        assert waiting.fields["description"] == description
        assert waiting.facts == {"what": "task", "dag_id": "customs", "run_id": str(number)}
        assert str(response["status_code"]) in waiting.reason
        assert f"waits in the outbox as {waiting.identity} and is created from there" in caplog.text
        assert len(waiting.unanswered) == is_unknown
    assert '"order_id": "4"' in find_one(caplog.records, "It would have been")
    bzctrl.reset_mock()
    bzctrl.post(ACC.create_url, json={"taskLink": LINK})
    assert len(deliver().created) == 3
    todos = {todo["orderID"]: todo for todo in sent_todos(bzctrl)}
    assert sorted(todos) == ["1", "2", "3"]  # several are sent at a time
    notes = ["may be a duplicate" in todos[number]["description"] for number in "123"]
    assert notes == [False, False, True]
    assert {todo["priority"] for todo in todos.values()} == {"HIGH"}


def test_incident_operator_policy_fail_without_response_is_not_queued(bzctrl, store, caplog):
    """Nothing may be sent again after an attempt without a response, also not from the outbox."""
    bzctrl.post(ACC.create_url, exc=requests.exceptions.ReadTimeout)
    with pytest.raises(AirflowFailException, match="on_unknown_outcome is 'fail'"):
        raise_incident(try_number=2, max_tries=1, on_unknown_outcome="fail")
    assert read(store, *STATES) == []
    assert find_one(caplog.records, "It would have been")


def test_incident_operator_without_a_store_logs_the_redacted_payload(bzctrl, caplog):
    """Every field on one line, and no secret that Airflow masks; the task fails with the error of BzCtrl, not with that of the store."""
    mask_secret("hunter2-and-more")
    for status in (400, 401):
        caplog.clear()
        bzctrl.post(ACC.create_url, status_code=status)
        with pytest.raises(AirflowFailException, match=str(status)):
            raise_incident(lrn="26NL", description="the password is hunter2-and-more")
        line = find_one(caplog.records, "It would have been")
        assert '"lrn": "26NL"' in line
        assert "customs: a failed" in line
        assert "hunter2" not in caplog.text
    assert "Skipped the outbox for the incident: " in caplog.text
    assert "The store /dev/null/bzctrl.db cannot be used" in caplog.text


# --- failures that repeat --------------------------------------------------------------------------------------------

DAY = dt.timedelta(days=1)


def create_todo(run_id, **fields):
    """Execute a task that creates a todo of its own."""
    values = {"title": "t", "description": "d", "order_id": "o", "dedup_window": DAY, **fields}
    failure = Failure(kind="checks", dag_id="customs", run_id=run_id)
    context = {"ti": TaskInstance(), "dag": new_dag(), "run_id": run_id}
    return CreateTodoOperator(task_id="create", **values).execute(
        {**context, "failure": LazyFailure({}, lambda _: failure)}
    )


def test_create_todo_repeated_failure_returns_the_first_todo(bzctrl, store):
    """Within the window one todo is created, and each result says whether it is that of an earlier failure."""
    first, second = create_todo("1"), create_todo("2", title="another title")
    assert (first.pop("deduplicated"), second.pop("deduplicated")) == (False, True)
    assert {name: second[name] for name in ("key", "link", "title")} == {
        "key": KEY,
        "link": LINK,
        "title": "t",
    }
    assert [todo["title"] for todo in sent_todos(bzctrl)] == ["t"]
    (delivered,) = read(store, *STATES)
    assert (delivered.state, delivered.key) == ("delivered", KEY)


def test_create_todo_beside_one_that_is_being_created_creates_none(bzctrl, store):
    """A task announces its todo first: the same failure at the same moment is represented by it, with no key yet."""
    results = []

    def answer(request, context):
        results.append(create_todo("2"))
        return {"taskLink": LINK}

    bzctrl.post(ACC.create_url, json=answer)
    assert create_todo("1")["key"] == KEY
    assert [(result["key"], result["deduplicated"]) for result in results] == [(None, True)]
    assert len(sent_todos(bzctrl)) == 1


def test_create_todo_that_fails_releases_its_window(bzctrl, store):
    """A todo that was not created represents no other failure: its own next try, and the next failure, create one."""
    for operation, run_ids in ((create_todo, ("1", "1", "2")), (raise_incident, ("3", "4"))):
        results = []
        bzctrl.reset_mock()
        for number, run_id in enumerate(run_ids, 1):
            is_last = number == len(run_ids)
            bzctrl.post(ACC.create_url, status_code=200 if is_last else 400, json={"taskLink": LINK})
            try:
                results.append(operation(run_id=run_id, dedup_window=DAY)["deduplicated"])
            except AirflowFailException:
                results.append("failed")
        assert results == ["failed"] * (len(run_ids) - 1) + [False]
        assert len(sent_todos(bzctrl)) == len(run_ids)


def test_incident_that_waits_represents_further_failures(bzctrl, store):
    """The window of an incident in the outbox begins when it was put there, and its delivery ends nothing."""
    bzctrl.post(ACC.create_url, status_code=503)
    assert raise_incident(run_id="1", dedup_window=DAY)["queued"] is True
    second = raise_incident(run_id="2", dedup_window=DAY)
    assert (second["key"], second["deduplicated"]) == (None, True)
    bzctrl.reset_mock()
    bzctrl.post(ACC.create_url, json={"taskLink": LINK})
    assert len(deliver(ignore_pauses=True).created) == 1
    assert raise_incident(run_id="3", dedup_window=DAY)["key"] == KEY
    assert len(sent_todos(bzctrl)) == 1


def test_window_without_a_store_creates_each_todo(bzctrl, caplog):
    """A store that cannot be used costs no todo: one too many is better than one too few."""
    assert [create_todo(run_id)["deduplicated"] for run_id in "12"] == [False, False]
    assert len(sent_todos(bzctrl)) == 2
    assert "Skipped the memory of failures, so a todo is created: " in caplog.text


def test_create_todo_of_its_own_asks_airflow_for_nothing(bzctrl):
    """A todo with a title and a description needs no states of other tasks."""
    context = {"ti": TaskInstance(), "dag": new_dag(), "run_id": "r"}
    context["failure"] = LazyFailure({}, lambda _: 1 / 0)
    CreateTodoOperator(task_id="t", title="t", description="d", order_id="o").execute(context)
    assert len(sent_todos(bzctrl)) == 1


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


def test_description_has_the_address_of_the_run_as_chosen(bzctrl):
    """Each of several todos leads back to the run, also that of a function; a single text of the user's own is unchanged."""
    todos = [{"title": "one", "description": "d"}]

    def make_list(**given):
        return CreateTodosOperator(task_id="t", todos=todos, order_id="o", **given)

    def make_function(**given):
        function = {"python_callable": lambda: todos, "op_args": [], "op_kwargs": {}}
        return BzCtrlTodoDecoratedOperator(task_id="t", order_id="o", **function, **given)

    def make_one(**given):
        return CreateTodoOperator(task_id="t", title="t", description="d", order_id="o", **given)

    for make, given, linked in [
        (make_list, {}, True),
        (make_list, {"link_to_run": False}, False),
        (make_function, {}, True),
        (make_function, {"link_to_run": False}, False),
        (make_one, {}, False),
        (make_one, {"link_to_run": True}, True),
    ]:
        make(**given).execute(run_context())
        *_, last = bzctrl.request_history[-1].json()["description"].splitlines()
        assert (last == "d") is not linked
        assert (last.startswith("Run: http") and "r%201" in last) is linked


def test_create_todos_links_lead_to_the_first_ten(bzctrl):
    """Airflow 3 stores one XCom for each of them and no empty one; Airflow 2 has one link, to the log if there are several."""
    assert len(CreateTodosOperator.operator_extra_links) == (10 if VERSION >= (3, 0) else 1)
    for count in (0, 1, 3, 12):
        todos = [{"title": f"t{n}", "description": "d", "order_id": "o"} for n in range(count)]
        operator = CreateTodosOperator(task_id="t", todos=todos)
        context = run_context()
        with contextlib.suppress(AirflowSkipException):
            operator.execute(context)
        shown = [link.get_link(operator, ti_key=None) for link in operator.operator_extra_links]
        if VERSION >= (3, 0):
            assert shown == [LINK] * min(count, 10)
            assert context["ti"].pushed == []
        else:
            assert shown == ["" if not count else LINK if count == 1 else "https://airflow.example.com/log"]
            assert context["ti"].pushed == [("bzctrl_todo_link", shown[0])][:count]


class Poisoned:
    """A memory that another user has changed."""

    def __init__(self, created):
        self._created = created

    def get(self, key):
        return {"todo": self._created} if key == "bzctrl.0.0" else None

    def set(self, _key, _value):
        raise AssertionError("nothing is created again")


@pytest.mark.security
def test_execute_object_in_field_fails_with_the_field_name(bzctrl):
    """Native rendering may put any object into a field, a connection too: it is neither asked nor sent."""
    values = [Secretive(), RaisingInComparisons(), [RaisingInComparisons()], {"password": "hunter2"}]
    names = ("title", "description", "category", "financial_impact", "lrn")
    for name, value in itertools.product(names, values):
        operator = CreateTodoOperator(task_id="raise_incident", title="t", description="d", order_id="o")
        setattr(operator, name, value)
        with pytest.raises(AirflowFailException, match=f"- {name}: ") as caught:
            operator.execute({"ti": SimpleNamespace()})
        assert "hunter2" not in str(caught.value)
    assert bzctrl.request_history == []


@pytest.mark.security
def test_create_todos_hostile_one_leaves_the_others_created(bzctrl, caplog):
    """It is named in the table of the log, on a line of its own that it cannot forge and that contains no secret."""
    for number, faulty in enumerate(
        [
            {"title": Secretive()},
            {"title": RaisingInComparisons()},
            {5: "x", "title": "t"},
            {None: 1, ("a",): 2},
            {"title": {1: "a", "b": 2}},
            {f"title{FORGED}": "x"},
            {"title": f"t{FORGED}", "impact": f"urgent{FORGED}"},
        ],
        1,
    ):
        caplog.clear()
        todos = [faulty, {"title": "good"}]
        operator = CreateTodosOperator(task_id="t", todos=todos, description="d", order_id="o")
        with pytest.raises(AirflowFailException, match="1 of 2 todos"), caplog.at_level(logging.ERROR):
            operator.execute({"ti": TaskInstance(max_tries=0)})
        assert [todo["title"] for todo in sent_todos(bzctrl)] == ["good"] * number
        table = find_one(caplog.records, "todos were not created")
        assert "hunter2" not in table
        lines = table.split("\n")
        assert all(line.isprintable() for line in lines)
        assert not any(line.startswith("[2026") for line in lines)
        assert any(line.startswith("1. ") for line in lines)
        assert lines[-1] == f"2. good: created, {KEY} {LINK}"


@pytest.mark.security
def test_create_todos_hostile_list_is_named_by_its_type():
    """The message has its type, and is short."""
    for todos in ([Secretive()], [RaisingInComparisons()], RaisingInComparisons(), "<script>" * 10_000):
        with pytest.raises(AirflowFailException, match="list of mappings") as caught:
            CreateTodosOperator(task_id="t", todos=todos).execute({"ti": SimpleNamespace()})
        assert "hunter2" not in str(caught.value)
        assert len(str(caught.value)) < 500


@pytest.mark.security
def test_execute_poisoned_memory_gives_no_link(bzctrl, caplog):
    """A user with write access to Variables cannot put a script into the link of a task."""
    for link in hostile.LINKS:
        caplog.clear()
        store = Poisoned({"key": f"EXA{FORGED}", "link": link})
        ti = TaskInstance()
        operator = CreateTodoOperator(task_id="raise_incident", title="t", description="d", order_id="o")
        with caplog.at_level(logging.INFO):
            operator.execute({"ti": ti, "task_state_store": store})
        assert operator.todo_link == ""
        assert ti.pushed == []
        assert find_one(caplog.records, "An earlier try").isprintable()
