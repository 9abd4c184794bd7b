from __future__ import annotations

import asyncio
import json
import logging
from datetime import timedelta

import pytest
from airflow.providers.common.compat.sdk import AirflowSkipException
from support.bzctrl import ACC, sent_todos
from support.contexts import TaskInstance, new_task_context
from support.store import read

from bzctrl_provider.failure import FailedTask, Failure, LazyFailure
from bzctrl_provider.incidents import deployment
from bzctrl_provider.notifications.bzctrl import BzCtrlNotifier
from bzctrl_provider.operators.bzctrl import IncidentOnFailureOperator

pytestmark = pytest.mark.usefixtures("connection", "store")

VARIABLE = "bzctrl_silences"


def silence(variables, *, dags="customs", tasks="*", until="2126-12-01T06:00Z"):
    """Set the Variable."""
    entry = {"dags": dags, "tasks": tasks, "until": until, "comment": "OPS-123"}
    variables[VARIABLE] = json.dumps([entry])


def raise_incident(run_id="r", task_id="amounts", tries=5, **fields):
    """Execute a roll-up after a failed check."""
    failure = Failure(
        kind="checks", checks=1, tasks=(FailedTask(task_id=task_id),), dag_id="customs", run_id=run_id
    )
    operator = IncidentOnFailureOperator(task_id="raise_incident", **{"order_id": run_id, **fields})
    context = new_task_context(ti=TaskInstance(max_tries=tries - 1), run_id=run_id)
    return operator.execute({**context, "failure": LazyFailure({}, lambda _: failure)})


def notify(run_id="r"):
    """Call the callback of a task."""
    BzCtrlNotifier()(new_task_context(run_id=run_id))


def test_silenced_task_raises_nothing_and_the_next_incident_counts(variables, bzctrl, caplog):
    """The first incident after the silence says how often, and only that one."""
    silence(variables)
    with caplog.at_level(logging.INFO):
        for run_id in "1234":
            notify(run_id)
    assert bzctrl.request_history == []
    assert "No incident: silenced until 2126-12-01 06:00:00 UTC (OPS-123)." in caplog.text
    silence(variables, until="2020-01-01T00:00Z")
    notify("5")
    notify("6")
    first, second = (todo["description"] for todo in sent_todos(bzctrl))
    assert "This failure was silenced 4 times since" in first
    assert "silenced" not in second


def test_silenced_operator_skips_with_the_comment(variables, bzctrl):
    """The operator's log has the ticket; the next incident has the count."""
    silence(variables)
    with pytest.raises(AirflowSkipException, match=r"silenced until .* \(OPS-123\)"):
        raise_incident("1")
    silence(variables, dags="other")
    raise_incident("2")
    raise_incident("3")
    notes = ["silenced once" in todo["description"] for todo in sent_todos(bzctrl)]
    assert notes == [True, False]


def test_operator_and_callback_of_one_run_count_once(variables, bzctrl):
    """Both see the same failure."""
    silence(variables)
    with pytest.raises(AirflowSkipException):
        raise_incident("1", task_id="load")
    notify("1")
    silence(variables, until="2020-01-01T00:00Z")
    notify("2")
    assert "silenced once" in sent_todos(bzctrl)[0]["description"]


def test_operator_that_fails_keeps_the_count_for_its_retry(variables, bzctrl):
    """The incident of the next try has the note."""
    silence(variables)
    notify("1")
    silence(variables, dags="other")
    bzctrl.post(ACC.create_url, status_code=400)
    for _ in range(2):
        with pytest.raises(Exception, match="400"):
            raise_incident("2", task_id="load")
    assert ["silenced once" in todo["description"] for todo in sent_todos(bzctrl)] == [True, True]


def test_incident_in_the_outbox_ends_the_count(variables, bzctrl):
    """The note is that of the incident that waits, and not of the next one, too."""
    silence(variables)
    notify("1")
    silence(variables, dags="other")
    bzctrl.post(ACC.create_url, status_code=503)
    assert "silenced once" in raise_incident("2", task_id="load", tries=1)["description"]
    bzctrl.post(ACC.create_url, json={"tags": []})
    raise_incident("3", task_id="load")
    assert "silenced" not in sent_todos(bzctrl)[-1]["description"]


def test_deduplicated_failure_keeps_the_count(variables, bzctrl):
    """The note waits for an incident that has it."""
    notify_again = BzCtrlNotifier(dedup_window=timedelta(days=1))
    notify_again(new_task_context(run_id="1"))
    silence(variables)
    notify_again(new_task_context(run_id="2"))
    silence(variables, dags="other")
    notify_again(new_task_context(run_id="3"))
    notify("4")
    descriptions = [todo["description"] for todo in sent_todos(bzctrl)]
    assert ["silenced once" in text for text in descriptions] == [False, True]


def test_faulty_variable_raises_the_incident_and_warns(variables, bzctrl, caplog):
    """An incident too many is better than one too few."""
    for number, text in enumerate(("[", '{"dags": "*"}', '[{"dags": "*"}]'), 1):
        variables[VARIABLE] = text
        notify(f"{number}")
        assert len(sent_todos(bzctrl)) == number
        assert caplog.text.count("The Variable bzctrl_silences has faults") == number


def test_unreadable_variable_raises_the_incident_and_warns(bzctrl, caplog, monkeypatch):
    """Also if Airflow cannot be asked at all."""
    monkeypatch.setattr(deployment, "_read_text", lambda: 1 / 0)
    notify()
    assert len(sent_todos(bzctrl)) == 1
    assert "Skipped the silences of the Variable bzctrl_silences: ZeroDivisionError" in caplog.text


def test_count_that_cannot_be_kept_costs_nothing(variables, bzctrl, configure, caplog):
    """If the store cannot be used, a silenced failure stays silenced, and a raised one is raised."""
    configure(database="sqlite:////dev/null/bzctrl.db")
    silence(variables)
    notify("1")
    with pytest.raises(AirflowSkipException):
        raise_incident("1")
    assert bzctrl.request_history == []
    assert "Skipped the count of silenced failures: " in caplog.text
    silence(variables, dags="other")
    notify("2")
    raise_incident("2")
    assert ["silenced" in todo["description"] for todo in sent_todos(bzctrl)] == [False, False]


def test_deadline_alert_is_not_silenced(variables, store):
    """The event loop of the triggerer must not wait for a Variable."""
    silence(variables, dags="*")
    context = {"dag_run": {"dag_id": "customs", "dag_run_id": "r"}, "deadline": {}}

    async def alert():
        await BzCtrlNotifier(context=context)

    asyncio.run(alert())
    assert len(read(store)) == 1
