from __future__ import annotations

import datetime as dt
import time
from types import SimpleNamespace

import pytest
from airflow.providers.common.compat.sdk import (
    DAG,
    BaseOperator,
    TaskGroup,
    TaskInstanceState,
    chain,
    cross_downstream,
    mask_secret,
    task,
)
from support.bzctrl import sent_todos
from support.contexts import TaskInstance, new_task_context

from bzctrl_provider import policy
from bzctrl_provider.failure import remember_exception
from bzctrl_provider.failure.reasons import Reason, exception_text, find_reason, find_warnings, parse_reason
from bzctrl_provider.notifications.bzctrl import BzCtrlNotifier
from bzctrl_provider.operators.bzctrl import CreateTodoOperator, IncidentOnFailureOperator


def mine(context):
    """Replace a callback of the task's own."""


def new_task(task_id, **kwargs):
    return BaseOperator(task_id=task_id, **kwargs)


def new_roll_up(**kwargs):
    return IncidentOnFailureOperator(task_id="raise_incident", **kwargs)


def get_callbacks(dag, task_id):
    callbacks = dag.get_task(task_id).on_failure_callback or []
    return list(callbacks) if isinstance(callbacks, list | tuple) else [callbacks]


def connect_right(check, roll_up):
    check >> roll_up


def connect_left(check, roll_up):
    roll_up << check


def connect_list(check, roll_up):
    [check, new_task("other")] >> roll_up


def connect_set_upstream(check, roll_up):
    roll_up.set_upstream([check])


def connect_set_downstream(check, roll_up):
    check.set_downstream(roll_up)


def connect_chain(check, roll_up):
    chain([check, new_task("other")], roll_up)


def connect_cross_downstream(check, roll_up):
    cross_downstream([check, new_task("other")], [new_task("load"), roll_up])


@pytest.mark.parametrize(
    "connect",
    [
        connect_right,
        connect_left,
        connect_list,
        connect_set_upstream,
        connect_set_downstream,
        connect_chain,
        connect_cross_downstream,
    ],
)
@pytest.mark.parametrize("own", [None, mine, [mine]])
def test_roll_up_connected_remembers_once_before_own_callbacks(configure, connect, own):
    """However the tasks are connected, the check and the task before it keep their exceptions; the policy adds no second."""
    configure()
    with DAG("customs", schedule=None) as dag:
        check = new_task("check", on_failure_callback=own)
        new_task("extract") >> check
        roll_up = new_roll_up()
        connect(check, roll_up)
        check >> roll_up
    policy.dag_policy(dag)
    assert get_callbacks(dag, "check") == [remember_exception] + ([mine] if own else [])
    assert get_callbacks(dag, "extract") == [remember_exception]
    assert get_callbacks(dag, "raise_incident") == []


def test_roll_up_mapped_decorated_and_grouped_tasks_are_remembered(configure):
    """Of each kind of task, also a mapped one with a callback of its own."""
    configure()
    with DAG("customs", schedule=None) as dag:

        @task
        def decorated(number: int = 0):
            pass

        with TaskGroup("group") as group:
            new_task("first") >> new_task("second")
        mapped = decorated.override(task_id="mapped", on_failure_callback=mine).expand(number=[1, 2])
        [decorated(), mapped, group] >> new_roll_up()
    assert get_callbacks(dag, "decorated") == [remember_exception]
    assert get_callbacks(dag, "mapped") == [remember_exception, mine]
    assert get_callbacks(dag, "group.first") == get_callbacks(dag, "group.second") == [remember_exception]


def test_roll_up_after_many_tasks_visits_each_once(configure):
    """A DAG with a chain of 300 tasks, each connected with the operator, is parsed in linear time."""
    configure()
    visited = []

    class Counted(BaseOperator):
        @property
        def upstream_list(self):
            visited.append(self.task_id)
            return super().upstream_list

    with DAG("customs", schedule=None) as dag:
        tasks = [Counted(task_id=f"t{i}") for i in range(300)]
        chain(*tasks)
        roll_up = new_roll_up()
        for each in reversed(tasks):
            each >> roll_up
            roll_up << each
    assert sorted(visited) == sorted(dag.task_ids[:-1])


def test_roll_up_connected_in_other_ways_is_found_by_the_policy(configure):
    """A task connected later, a mapped roll-up, and a roll-up within a group that is connected as a whole."""
    configure()
    with DAG("later", schedule=None) as later:
        check = new_task("check")
        check >> new_roll_up()
        new_task("extract") >> check
    with DAG("mapped", schedule=None) as mapped:
        new_task("check") >> IncidentOnFailureOperator.partial(task_id="raise_incident").expand(
            domain_workspace=["A", "B"]
        )
    with DAG("grouped", schedule=None) as grouped:
        with TaskGroup("incidents") as group:
            new_roll_up()
        new_task("check") >> group
    for dag, task_id in ((later, "extract"), (mapped, "check"), (grouped, "check")):
        policy.dag_policy(dag)
        assert get_callbacks(dag, task_id) == [remember_exception], dag.dag_id


@pytest.mark.parametrize(
    ("option", "parameter", "remembers"),
    [
        (None, None, True),
        (None, False, False),
        ("False", None, False),
        ("False", True, True),
        ("True", False, False),
    ],
)
def test_roll_up_remember_exceptions_can_be_switched_off(configure, option, parameter, remembers):
    """By the option for a deployment, and by the parameter for one operator, which also works in a mapped one."""
    configure(**({"remember_exceptions": option} if option else {}))
    with DAG("customs", schedule=None) as dag:
        new_task("check") >> new_roll_up(remember_exceptions=parameter)
    with DAG("mapped", schedule=None) as mapped:
        roll_up = IncidentOnFailureOperator.partial(task_id="raise", remember_exceptions=parameter)
        new_task("check") >> roll_up.expand(domain_workspace=["A"])
    for each in (dag, mapped):
        policy.dag_policy(each)
        assert get_callbacks(each, "check") == ([remember_exception] if remembers else [])


def test_roll_up_task_that_takes_no_callback_is_connected_all_the_same(configure, monkeypatch, caplog):
    """A DAG file is parsed, whatever a later Airflow does with the callbacks."""
    configure()
    monkeypatch.setattr("bzctrl_provider.failure.reasons.keep_reasons", lambda *_, **__: 1 / 0)
    with DAG("customs", schedule=None) as dag:
        new_task("check") >> new_roll_up()
    assert dag.get_task("raise_incident").upstream_task_ids == {"check"}
    assert "keep no exceptions for the incident" in caplog.text


@pytest.mark.parametrize(
    ("options", "notifier", "remembers"),
    [
        ({}, None, False),
        ({}, "its own", True),
        ({"incident_on_failed_run": "True"}, None, True),
        ({"incident_on_failed_run": "True", "exclude_dags": "customs"}, None, False),
        ({"incident_on_failed_run": "True", "remember_exceptions": "False"}, None, False),
        ({"remember_exceptions": "False"}, "its own", False),
    ],
)
def test_policy_tasks_of_a_dag_with_a_notifier_are_remembered(configure, options, notifier, remembers):
    """The DAG's own notifier, or that of the policy, has the exceptions unless that is switched off."""
    configure(**options)
    with DAG("customs", schedule=None, on_failure_callback=BzCtrlNotifier() if notifier else None) as dag:
        check = new_task("check")
        CreateTodoOperator(task_id="create", title="t", description="d")
    policy.dag_policy(dag)
    policy.task_policy(check)
    assert get_callbacks(dag, "check") == ([remember_exception] if remembers else [])


def test_remember_exception_keeps_exception_and_name():
    """The XCom has the exception and the name of the mapped instance, without Airflow's secrets."""
    mask_secret("s3cret-in-name")
    ti = TaskInstance(map_index=1, rendered_map_index="DHL s3cret-in-name")
    remember_exception({"ti": ti, "exception": ValueError("why s3cret-in-name")})
    assert ti.pushed == [("bzctrl_exception", {"exception": "ValueError: why ***", "name": "DHL ***"})]


@pytest.mark.parametrize(
    ("version", "state", "exception"),
    [
        ((3, 0), None, None),
        ((2, 11), "failed", "{'DAG Id': 'killed', 'Task Id': 'check', 'Run Id': 'r', 'Hostname': 'vm'}"),
    ],
    ids=["Airflow 3", "Airflow 2.11"],
)
def test_remember_exception_process_that_ended_leaves_no_xcom(set_airflow_version, version, state, exception):
    """If Airflow lost the process, its callback has no exception, and the task stays one without a reason."""
    set_airflow_version(*version)
    context = {"ti": TaskInstance(state=state), "exception": exception, "dag_run": object()}
    remember_exception(context)
    assert context["ti"].pushed == []
    assert find_reason(context, log_lines=50) == Reason(lost=True)


BY_TRIGGER = "Its trigger ended the task as failed, without an exception."


@pytest.mark.parametrize(
    ("version", "state", "more", "exception", "is_pushed"),
    [
        # Of Airflow 3, only the callback after a trigger's event has no run.
        ((3, 3), None, {}, BY_TRIGGER, False),
        ((3, 0), None, {"exception": None}, BY_TRIGGER, False),
        ((3, 3), "running", {}, None, True),
        ((3, 3), "failed", {}, None, True),
        ((2, 11), "failed", {"exception": None}, BY_TRIGGER, True),
        ((2, 11), TaskInstanceState.UP_FOR_RETRY, {}, BY_TRIGGER, True),
        ((2, 11), "success", {}, None, True),
        ((2, 11), "running", {}, None, True),
        (
            (2, 11),
            "failed",
            {"exception": "The executor reported that it failed"},
            "The executor reported that it failed",
            True,
        ),
    ],
)
def test_find_reason_trigger_that_ended_the_task_is_named(
    set_airflow_version, version, state, more, exception, is_pushed
):
    """Nobody knows why a trigger ended a deferred task, but its process was not killed; Airflow 3 can push no XCom there."""
    set_airflow_version(*version)
    ti = TaskInstance(state=state)
    context = {"ti": ti, **more}
    assert find_reason(context, log_lines=50) == Reason(exception=exception)
    remember_exception(context)
    assert ti.pushed == (
        [("bzctrl_exception", {"exception": exception} if exception else {})] if is_pushed else []
    )


@pytest.mark.parametrize(
    ("context", "warnings"),
    [
        ({}, ()),
        ({"test_names": None, "test_results": None}, ()),
        ({"test_names": [], "test_results": ["Got 1 result"]}, ()),
        (
            {"test_names": ["a", "b"], "test_results": ["Got 1 result", None]},
            (("a", "Got 1 result"), ("b", "")),
        ),
        ({"test_names": ("a",), "test_results": (None, "other")}, (("a", ""),)),
        ({"test_names": ["a\nb"], "test_results": ["no s3cret-of-dbt\n2"]}, (("a b", "no *** 2"),)),
        ({"test_names": ["x" * 1000], "test_results": [None]}, (("x" * 299 + "…", ""),)),
    ],
    ids=range(7),
)
def test_find_warnings_of_cosmos_are_bounded_lines(context, warnings):
    """Each test has its result if there is one, in one line without Airflow's secrets."""
    mask_secret("s3cret-of-dbt")
    assert find_warnings(context) == warnings


def test_remember_exception_text_of_the_executor_is_the_reason():
    """Airflow 2.11 gives a text if the executor knows why a task ended."""
    ti = TaskInstance()
    remember_exception({"ti": ti, "exception": "The executor reported that it failed"})
    assert ti.pushed == [("bzctrl_exception", {"exception": "The executor reported that it failed"})]


def test_remember_exception_without_exception_shows_that_the_callback_ran(set_airflow_version):
    """Airflow 3.0 to 3.2 give the callback no exception under `dag.test()`; the process did not end because of it."""
    set_airflow_version(3, 0)
    ti = TaskInstance()
    remember_exception({"ti": ti, "exception": None})
    assert ti.pushed == [("bzctrl_exception", {})]


@pytest.mark.security
@pytest.mark.parametrize(
    "value",
    [{"exception": 5, "name": ["x"], "checks": "x"}, {"checks": [5, {}, {"check": None}]}, [1], 7, {}],
    ids=str,
)
def test_parse_reason_foreign_value_is_ignored(value):
    """Others can write the XCom; what has not the form is no reason and no error."""
    assert parse_reason(value, log_lines=50) == Reason()


@pytest.mark.security
def test_parse_reason_unbounded_texts_are_cut():
    """Each text has a limit, also in an XCom that another program wrote."""
    reason = parse_reason(
        {
            "exception": "x" * 10**6 + "\nlast",
            "name": "n\n" * 1000,
            "checks": [{"check": "c" * 10_000, "actual": "1\n2"}] * 1000,
            "log": "a line\n\n" * 1_000_000 + "l" * 10_000 + "\x00\nlast",
        },
        log_lines=7,
    )
    assert len(reason.exception) == 2000
    assert reason.exception.endswith("\nlast")
    assert len(reason.name) <= 200
    assert "\n" not in reason.name
    assert len(reason.checks) == 20
    assert len(reason.checks[0].check) == 200
    assert reason.checks[0].actual == "1 2"
    assert len(reason.log) == 2000
    assert reason.log.startswith("…lll")
    assert reason.log.endswith("l\ufffd\nlast")


@pytest.mark.security
def test_find_reason_failed_checks_replace_the_rest_of_the_exception(configure):
    """The exception of a SQL check has whole rows: only its first line is kept, unless values are switched on."""
    result = SimpleNamespace(success=False, name="totals", actual="(0, 'Jan Jansen')", expected="all truthy")
    context = {
        "ti": TaskInstance(),
        "task": SimpleNamespace(check_results=[result]),
        "exception": ValueError("Test failed.\nResults:\n(0, 'Jan Jansen')"),
    }
    configure()
    reason = find_reason(context, log_lines=50)
    assert reason.exception == "ValueError: Test failed."
    assert "Jansen" not in str(reason)
    configure(include_check_values="True")
    reason = find_reason(context, log_lines=50)
    assert reason.exception.endswith("(0, 'Jan Jansen')")
    assert reason.checks[0].actual == "(0, 'Jan Jansen')"


def test_find_reason_executed_copy_of_the_task_has_the_checks():
    """Airflow 3.0 executes a copy, which is the task of the task instance but not that of the context."""
    executed = SimpleNamespace(check_results=[SimpleNamespace(success=False, name="totals")])
    context = {"ti": TaskInstance(task=executed), "task": SimpleNamespace(check_results=[])}
    assert [check.check for check in find_reason(context, log_lines=50).checks] == ["totals"]


def test_find_reason_check_results_that_raise_cost_no_exception():
    """An operator whose results cannot be read still has its exception."""

    class Hostile:
        @property
        def check_results(self):
            raise RuntimeError

    assert (
        find_reason({"task": Hostile(), "exception": OSError("why")}, log_lines=50).exception
        == "OSError: why"
    )


@pytest.mark.security
@pytest.mark.parametrize("text", ["x" * 10_000_000, "x\n" * 2_000_000, "\x00" * 1_000_000, "{{" * 1_000_000])
def test_remember_exception_unbounded_size_is_cut_in_bounded_time(bzctrl, connection, text):
    """2,000 characters of it, in the incident and in the XCom that remembers it."""
    began = time.monotonic()
    pushed = []
    context = new_task_context(exception=ValueError(text))
    context["ti"].xcom_push = lambda **xcom: pushed.append(xcom["value"])
    remember_exception(context)
    BzCtrlNotifier()(context)
    assert all(len(kept) <= 2000 for kept in pushed)
    assert len(sent_todos(bzctrl)[0]["description"]) < 5000
    assert time.monotonic() - began < 10


@pytest.mark.security
def test_exception_text_secret_at_the_cut_is_masked():
    """A secret in the middle of what is cut out is gone as well."""
    mask_secret("s3cret-of-a-task")
    text = exception_text(ValueError("x" * 1990 + "s3cret-of-a-task" + "y" * 5000))
    assert "s3cret" not in text


class AirflowTaskTimeout(BaseException):
    """Replace Airflow's, of the same name."""


def test_find_reason_of_a_timeout_names_the_limit():
    """Airflow's message has only the number of the process."""
    context = {
        "ti": TaskInstance(),
        "task": new_task("t", execution_timeout=dt.timedelta(minutes=5)),
        "exception": AirflowTaskTimeout("Timeout, PID: 42"),
    }
    *_, last = find_reason(context, log_lines=50).exception.splitlines()
    assert last == "The task ran longer than its execution_timeout of 0:05:00."
    context["exception"] = ValueError("Timeout, PID: 42")
    assert find_reason(context, log_lines=50).exception == "ValueError: Timeout, PID: 42"
