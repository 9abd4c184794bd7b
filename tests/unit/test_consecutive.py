from __future__ import annotations

import datetime as dt
import json
import logging
from types import SimpleNamespace

import pytest
from airflow.providers.common.compat.sdk import AirflowSkipException
from support.bzctrl import sent_todos
from support.contexts import TaskInstance, new_task_context

from bzctrl_provider.consecutive import COUNTED_XCOM_KEY, find_wait
from bzctrl_provider.failure import FailedTask, Failure, LazyFailure
from bzctrl_provider.field_checks import find_number_errors
from bzctrl_provider.notifications.bzctrl import BzCtrlNotifier
from bzctrl_provider.operators.bzctrl import IncidentOnFailureOperator

NOW = dt.datetime(2026, 11, 21, 6, tzinfo=dt.UTC)
HOUR = dt.timedelta(hours=1)
SILENCES = '[{"until": "2999-01-01T00:00Z"}]'


def wait(run, *, after=0, required=3, succeeded=None, key="customs//load"):
    """Count a failure of a run some hours after the first."""
    return find_wait(
        required,
        key=key,
        occurrence=run,
        last_success=lambda **_: None if succeeded is None else NOW + succeeded * HOUR,
        now=lambda: NOW + after * HOUR,
    )


def test_find_wait_third_failure_in_a_row_waits_no_longer(variables):
    """The fourth raises one as well, unless a window covers it."""
    waits = [wait(str(run), after=run) for run in range(4)]
    assert waits == ["failure 1 of 3 in a row", "failure 2 of 3 in a row", None, None]


def test_find_wait_success_begins_the_count_again(variables):
    """Only failures without a success between them are in a row."""
    assert wait("a") == "failure 1 of 3 in a row"
    assert wait("b", after=2) == "failure 2 of 3 in a row"
    assert wait("c", after=4, succeeded=3) == "failure 1 of 3 in a row"
    assert wait("d", after=6, succeeded=3) == "failure 2 of 3 in a row"


def test_find_wait_same_run_counts_once(variables):
    """If it is cleared and fails again, or its callback is called twice, also after another run failed."""
    assert [wait(run) for run in ("a", "a", "b", "a")] == [
        "failure 1 of 3 in a row",
        "failure 1 of 3 in a row",
        "failure 2 of 3 in a row",
        "failure 2 of 3 in a row",
    ]


def test_find_wait_without_the_option_keeps_nothing(variables):
    """Each failure raises an incident, and there is no Variable."""
    assert wait("a", required=None) is None
    assert wait("a", required=1) is None
    assert not variables


def test_find_wait_keys_are_counted_for_themselves(variables):
    """Each has a bounded Variable with its time, for the command that removes old ones."""
    wait("a", key="x" * 10_000)
    wait("b", key="y")
    assert wait("c", key="x" * 10_000, after=1) == "failure 2 of 3 in a row"
    assert sorted(json.loads(text)["created_at"] for text in variables.values()) == [
        NOW.isoformat(),
        (NOW + HOUR).isoformat(),
    ]
    assert max(map(len, variables.values())) < 5000


def test_find_wait_without_variables_raises_the_incident(break_variables, caplog):
    """An incident too many is better than one too few."""
    assert wait("a") is None
    assert "Skipped the count of failures in a row, so the incident is raised: ConnectionError" in caplog.text


def test_find_number_errors_invalid_number_is_an_error_of_the_dag():
    """Of the notifier and of the operator, which also name the other invalid parameters."""
    for number in (0, 1001, True, "3", 2.0):
        assert find_number_errors(number)
        for build in (BzCtrlNotifier, lambda **given: IncidentOnFailureOperator(task_id="t", **given)):
            with pytest.raises(
                ValueError, match=r"consecutive_failures:? must be a whole number from 1 to 10"
            ):
                build(consecutive_failures=number, priority="HIGH")


def fail(notifier, run_id):
    notifier(new_task_context(run_id=run_id, ti=TaskInstance()))


@pytest.mark.usefixtures("connection")
def test_notifier_with_a_window_raises_one_for_the_third_and_the_fourth(bzctrl, variables):
    """The window begins with the incident, and not with the failures that were counted before it."""
    notifier = BzCtrlNotifier(consecutive_failures=3, dedup_window=dt.timedelta(days=1))
    for run_id in "abcd":
        fail(notifier, run_id)
    assert [todo["orderID"] for todo in sent_todos(bzctrl)] == ["c"]


@pytest.mark.usefixtures("connection")
def test_notifier_silenced_failure_is_not_counted(bzctrl, variables, monkeypatch):
    """It neither counts nor begins the count again; the first incident afterwards says that there was one."""
    notifier = BzCtrlNotifier(consecutive_failures=2)
    fail(notifier, "a")
    monkeypatch.setitem(variables, "bzctrl_silences", SILENCES)
    fail(notifier, "b")
    monkeypatch.setitem(variables, "bzctrl_silences", "[]")
    assert not sent_todos(bzctrl)
    fail(notifier, "c")
    (todo,) = sent_todos(bzctrl)
    assert todo["orderID"] == "c"
    assert "This failure was silenced once" in todo["description"]


@pytest.mark.usefixtures("connection")
def test_roll_up_before_the_third_is_skipped_and_marked(bzctrl, variables):
    """The mark keeps the policy from raising an incident for the same failure."""
    results = []
    for run_id in ("a", "b", "c"):
        failure = Failure(kind="checks", tasks=(FailedTask(task_id="sum"),), dag_id="customs", run_id=run_id)
        ti = TaskInstance(task_id="raise_incident", max_tries=0)
        operator = IncidentOnFailureOperator(
            task_id="raise_incident", consecutive_failures=3, order_id=run_id
        )
        try:
            operator.execute(new_task_context(ti=ti, failure=LazyFailure({}, lambda _, f=failure: f)))
            results.append("raised")
        except AirflowSkipException as exc:
            results.append(str(exc))
            assert [key for key, _ in ti.pushed] == [COUNTED_XCOM_KEY]
    assert results == [
        "No incident is raised yet: failure 1 of 3 in a row.",
        "No incident is raised yet: failure 2 of 3 in a row.",
        "raised",
    ]
    assert [todo["orderID"] for todo in sent_todos(bzctrl)] == ["c"]


@pytest.mark.usefixtures("connection")
def test_notifier_of_the_policy_after_a_skipped_roll_up_raises_unless_it_counts(bzctrl, set_airflow_version):
    """A roll-up that was skipped by a timeout of the run did not see the failure."""
    set_airflow_version(3, 1)
    states = {"check": "failed", "raise": "skipped"}
    marks = iter(["failure 1 of 3 in a row", None])

    def pull(*, task_ids, key, map_indexes):
        return next(marks) if (task_ids, key, map_indexes) == ("raise", COUNTED_XCOM_KEY, None) else None

    ti = TaskInstance(
        get_task_states=lambda *, task_ids, **_: {"r": {task: states[task] for task in task_ids}},
        xcom_pull=pull,
    )
    context = new_task_context(ti=ti, reason="task_failure")
    context["dag"].task_ids = ["check", "raise"]
    context["dag"].get_task = lambda _: SimpleNamespace(task_type="@task", upstream_task_ids=set())
    notifier = BzCtrlNotifier()
    notifier.roll_ups = {"raise": frozenset({"check"})}
    for incidents in (0, 1):
        notifier(context)
        assert len(sent_todos(bzctrl)) == incidents


@pytest.mark.usefixtures("connection")
def test_notifier_that_waits_is_counted_as_ignored(bzctrl, variables, monkeypatch, caplog):
    """And its log says how many failures there were."""
    counted = []
    monkeypatch.setattr(
        "bzctrl_provider.notifications.callback.count_todos", lambda outcome, **_: counted.append(outcome)
    )
    with caplog.at_level(logging.INFO):
        fail(BzCtrlNotifier(consecutive_failures=3), "a")
    assert counted == ["ignored"]
    assert "No incident is raised yet: failure 1 of 3 in a row." in caplog.text
