from __future__ import annotations

import asyncio
import contextlib
import json
from datetime import UTC, datetime, timedelta
from types import SimpleNamespace

import pytest
from airflow.providers.common.compat.sdk import AirflowSkipException
from support.bzctrl import ACC
from support.contexts import TaskInstance, new_task_context

from bzctrl_provider.exceptions import BzCtrlRejectedError
from bzctrl_provider.failure import FailedTask, Failure, LazyFailure
from bzctrl_provider.hooks.bzctrl import BzCtrlHook
from bzctrl_provider.notifications.bzctrl import BzCtrlNotifier
from bzctrl_provider.operators.bzctrl import IncidentOnFailureOperator
from bzctrl_provider.spool import replay_spool, spool_todo

pytestmark = pytest.mark.usefixtures("connection")

TODO = {"todo_type": "INCIDENT", "title": "t", "description": "d", "order_id": "o"}


@pytest.fixture
def sent(monkeypatch):
    """Return the metrics that Airflow would send, without the prefix."""
    metrics = []

    def add(name, value=1, *, tags=None):
        shown = value if isinstance(value, int) else "time"
        metrics.append((name.removeprefix("bzctrl."), shown, *(tags or {}).values()))

    stats = SimpleNamespace(incr=add, gauge=add, timing=add)
    monkeypatch.setattr("airflow.providers.common.compat.sdk.Stats", stats, raising=False)
    return metrics


def raise_incident():
    """Execute a roll-up after a failed check."""
    failure = Failure(
        kind="checks", checks=1, tasks=(FailedTask(task_id="amounts"),), dag_id="customs", run_id="r"
    )
    context = new_task_context(ti=TaskInstance(max_tries=0))
    operator = IncidentOnFailureOperator(task_id="raise_incident", order_id="r")
    return operator.execute({**context, "failure": LazyFailure({}, lambda _: failure)})


def test_created_todo_is_counted_and_timed(bzctrl, sent):
    """By the hook, which every other part uses."""
    BzCtrlHook().create_todo(TODO)
    asyncio.run(BzCtrlHook().acreate_todo({**TODO, "todo_type": "task"}))
    assert sent == [
        ("create", "time", "INCIDENT"),
        ("todos.created", 1, "INCIDENT"),
        ("create", "time", "TASK"),
        ("todos.created", 1, "TASK"),
    ]


def test_failed_todo_is_counted_and_timed(bzctrl, sent):
    """A rejection is one, too."""
    bzctrl.post(ACC.create_url, status_code=400)
    with pytest.raises(BzCtrlRejectedError):
        BzCtrlHook().create_todo(TODO)
    assert sent == [("create", "time", "INCIDENT"), ("todos.failed", 1, "INCIDENT")]


def test_todos_of_a_bulk_are_counted_one_by_one(bzctrl, sent):
    """The invalid one has failed; its error does not have its type."""
    BzCtrlHook().create_todos([{**TODO, "todo_type": "TASK"}, {**TODO, "priority": "urgent"}])
    assert sent == [("todos.created", 1, "TASK"), ("todos.failed", 1, "unknown")]


def test_deduplicated_incident_is_counted(bzctrl, sent, variables):
    """The second failure within the window."""
    notifier = BzCtrlNotifier(dedup_window=timedelta(days=1))
    notifier(new_task_context(run_id="1"))
    notifier(new_task_context(run_id="2"))
    assert sent[-1] == ("todos.deduplicated", 1, "INCIDENT")
    assert len(sent) == 3


def test_incident_that_is_not_raised_is_counted(configure, tmp_path, variables, bzctrl, sent):
    """Once, by the operator and by the callback."""
    path = tmp_path / "routes.toml"
    configure(routes_path=str(path), spool_path="/dev/null/spool")
    variables["bzctrl_silences"] = json.dumps([{"until": "2126-12-01T06:00Z"}])
    for outcome in ("silenced", "ignored"):
        path.write_text(f"[[route]]\nignore = {str(outcome == 'ignored').lower()}\n")
        for raise_one in (raise_incident, lambda: BzCtrlNotifier()(new_task_context())):
            sent.clear()
            with contextlib.suppress(AirflowSkipException):
                raise_one()
            assert sent == [(f"todos.{outcome}", 1, "INCIDENT")]


def test_spooled_and_grouped_incidents_are_counted(bzctrl, sent, spool, configure):
    """A second entry with the same identity is no second incident; the summary is one todo."""
    configure(spool_path=str(spool), group_above="1")
    for number in (1, 2, 2):
        spool_todo(TODO, bzctrl_conn_id="bzctrl_default", reason="", identity=f"i{number}")
    assert sent == [("todos.spooled", 1, "INCIDENT")] * 2
    sent.clear()
    replay_spool()
    assert sent == [
        ("todos.created", 1, "INCIDENT"),
        ("todos.grouped", 2, "INCIDENT"),
        ("spool.waiting", 0),
        ("spool.oldest_s", 0),
    ]


def test_delivery_sets_the_gauges_of_what_waits(bzctrl, sent, spool):
    """The oldest entry that waits after the delivery gives the age."""
    now = datetime.now(UTC)
    for age_s in (60, 30):
        spool_todo(TODO, bzctrl_conn_id="other", reason="", now=now - timedelta(seconds=age_s))
    spool_todo(TODO, bzctrl_conn_id="bzctrl_default", reason="", now=now - timedelta(seconds=90))
    sent.clear()
    replay_spool(clock=lambda: now)
    assert sent == [("todos.created", 1, "INCIDENT"), ("spool.waiting", 2), ("spool.oldest_s", 60)]
