from __future__ import annotations

import asyncio
import contextlib
import json
from datetime import timedelta
from types import SimpleNamespace

import pytest
from airflow.providers.common.compat.sdk import AirflowSkipException
from support.bzctrl import ACC
from support.contexts import TaskInstance, new_task_context
from support.store import FIELDS, add

from bzctrl_provider.exceptions import BzCtrlRejectedError
from bzctrl_provider.failure import FailedTask, Failure, LazyFailure
from bzctrl_provider.hooks.bzctrl import BzCtrlHook
from bzctrl_provider.notifications.bzctrl import BzCtrlNotifier
from bzctrl_provider.operators.bzctrl import IncidentOnFailureOperator
from bzctrl_provider.outbox import Incident, deliver, write

pytestmark = pytest.mark.usefixtures("connection")


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


def raise_incident(run_id="r", **parameters):
    """Execute a roll-up after a failed check."""
    failure = Failure(
        kind="checks", checks=1, tasks=(FailedTask(task_id="amounts"),), dag_id="customs", run_id=run_id
    )
    context = new_task_context(ti=TaskInstance(max_tries=0), run_id=run_id)
    operator = IncidentOnFailureOperator(task_id="raise_incident", order_id="r", **parameters)
    return operator.execute({**context, "failure": LazyFailure({}, lambda _: failure)})


def test_created_todo_is_counted_and_timed(bzctrl, sent):
    """By the hook, which every other part uses."""
    BzCtrlHook().create_todo(FIELDS)
    asyncio.run(BzCtrlHook().acreate_todo({**FIELDS, "todo_type": "task"}))
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
        BzCtrlHook().create_todo(FIELDS)
    assert sent == [("create", "time", "INCIDENT"), ("todos.failed", 1, "INCIDENT")]


def test_todos_of_a_bulk_are_counted_one_by_one(bzctrl, sent):
    """The invalid one has failed; its error does not have its type."""
    BzCtrlHook().create_todos([{**FIELDS, "todo_type": "TASK"}, {**FIELDS, "priority": "urgent"}])
    assert sent == [("todos.created", 1, "TASK"), ("todos.failed", 1, "unknown")]


def test_repeated_failure_is_counted(bzctrl, sent, store):
    """The second one within the window, and the first one of two in a row, by the callback and by the operator."""
    for raise_one in (
        lambda run_id, **p: BzCtrlNotifier(**p)(new_task_context(run_id=run_id)),
        raise_incident,
    ):
        for run_id, parameters, outcome in (
            ("1", {"dedup_window": timedelta(days=1)}, "created"),
            ("2", {"dedup_window": timedelta(days=1)}, "deduplicated"),
            ("3", {"dedup_key": repr(raise_one), "consecutive_failures": 2}, "ignored"),
        ):
            sent.clear()
            with contextlib.suppress(AirflowSkipException):
                raise_one(run_id, **parameters)
            counted = [metric for metric in sent if metric[0].startswith("todos.")]
            # A callback also puts the incident into the outbox.
            assert counted[-1] == (f"todos.{outcome}", 1, "INCIDENT")
            assert len(counted) == (2 if outcome == "created" and raise_one is not raise_incident else 1)


def test_incident_that_is_not_raised_is_counted(configure, tmp_path, variables, bzctrl, sent):
    """Once, by the operator and by the callback."""
    path = tmp_path / "routes.toml"
    configure(routes_path=str(path))
    variables["bzctrl_silences"] = json.dumps([{"until": "2126-12-01T06:00Z"}])
    for outcome in ("silenced", "ignored"):
        path.write_text(f"[[route]]\nignore = {str(outcome == 'ignored').lower()}\n")
        for raise_one in (raise_incident, lambda: BzCtrlNotifier()(new_task_context())):
            sent.clear()
            with contextlib.suppress(AirflowSkipException):
                raise_one()
            assert sent == [(f"todos.{outcome}", 1, "INCIDENT")]


def test_queued_and_grouped_incidents_are_counted(bzctrl, sent, store, configure):
    """A second one with the same identity is no second incident; the summary is one todo."""
    configure(group_above="1")
    for number in (1, 2, 2):
        write(Incident(fields=FIELDS, bzctrl_conn_id="bzctrl_default", identity=f"i{number}"))
    assert sent == [("todos.queued", 1, "INCIDENT")] * 2
    sent.clear()
    deliver()
    assert sent == [
        ("todos.created", 1, "INCIDENT"),
        ("todos.grouped", 2, "INCIDENT"),
        ("outbox.waiting", 0),
        ("outbox.oldest_s", 0),
    ]


def test_operator_that_queues_its_incident_is_counted(bzctrl, sent, store):
    """The attempt has failed, and the incident waits."""
    bzctrl.post(ACC.create_url, status_code=400)
    bzctrl.post(ACC.token_url, status_code=401)
    assert raise_incident()["queued"] is True
    assert sent[-2:] == [("todos.failed", 1, "INCIDENT"), ("todos.queued", 1, "INCIDENT")]


def test_delivery_sets_the_gauges_of_what_waits(bzctrl, sent, store):
    """The oldest one that waits after the delivery gives the age; a rejected one does not wait."""
    add(store, "i1", conn_id="other", age_s=60)
    add(store, "i2", conn_id="other", age_s=30)
    add(store, "i3", age_s=90)
    add(store, "i4", age_s=120, priority="URGENT")
    deliver()
    assert ("todos.created", 1, "INCIDENT") in sent
    (waiting, (name, oldest_s)) = sent[-2:]
    assert (waiting, name) == (("outbox.waiting", 2), "outbox.oldest_s")
    assert 60 <= oldest_s < 70
