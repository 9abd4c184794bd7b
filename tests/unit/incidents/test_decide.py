from __future__ import annotations

import json
from dataclasses import replace

import pytest
from support.bzctrl import ACC, LINK, set_connection
from support.contexts import TaskInstance, new_task_context
from support.store import read

from bzctrl_provider.failure import FailedTask, Failure, LazyFailure
from bzctrl_provider.import_errors import reporter
from bzctrl_provider.incidents.decide import decide
from bzctrl_provider.incidents.fill import Wishes
from bzctrl_provider.incidents.occurrence import Occurrence
from bzctrl_provider.notifications import callback
from bzctrl_provider.notifications.bzctrl import BzCtrlNotifier
from bzctrl_provider.operators.bzctrl import IncidentOnFailureOperator
from bzctrl_provider.outbox.writer import NotRaised
from bzctrl_provider.store.broken_files import BrokenFile
from bzctrl_provider.store.database import database

pytestmark = pytest.mark.usefixtures("connection")

FAILURE = Failure(
    kind="run",
    tasks=(FailedTask(task_id="amounts", exception="ValueError: no amount", owner="customs@example.com"),),
    instances={"amounts": 1},
    dag_id="customs",
    run_id="r",
    run_url="https://airflow.example.com/dags/customs/runs/r",
)

ROUTES = """\
[[route]]
tasks = "amounts"
priority = "{{ 'urgent' }}"
lrn = "{{ failure.dag_id }}"
impact = "{{ no_such_thing.at_all }}"
category = ["customs"]
"""


def by_operator(_):
    context = new_task_context(ti=TaskInstance(max_tries=0))
    operator = IncidentOnFailureOperator(task_id="raise_incident")
    operator.order_id = "r"  # as Airflow renders it
    operator.execute({**context, "failure": LazyFailure({}, lambda _: FAILURE)})


def by_notifier(monkeypatch):
    monkeypatch.setattr(callback, "describe_callback", lambda _: FAILURE)
    BzCtrlNotifier()(new_task_context())


def by_reporter(monkeypatch):
    monkeypatch.setattr(reporter, "describe_import_error", lambda *_: FAILURE)
    with database().transaction() as tx:
        reporter._raise_incident(tx, BrokenFile(file="/dags/customs.py", since=0.0, seen=600.0), "")


def test_same_failure_gives_the_same_fields_to_all_callers(bzctrl, store, configure, tmp_path, monkeypatch):
    """Operator, notifier and listener give the same fields in the same order: of routes, options and failure, with all notes."""
    path = tmp_path / "routes.toml"
    path.write_text(ROUTES)
    configure(routes_path=str(path), domain_workspace="EXA-{{ 1 + 1 }}", include_tag="typing error")
    bzctrl.post(ACC.token_url, status_code=401)  # so that the operator's incident waits, too
    written = []
    for raise_one in (by_operator, by_notifier, by_reporter):
        raise_one(monkeypatch)
        written.append(read(store)[-1])
    assert len({incident.identity for incident in written}) == 3
    first, *others = ([*incident.fields.items()] for incident in written)
    assert others == [first, first]
    fields = dict(first)
    assert {name: fields[name] for name in fields.keys() - {"description"}} == {
        "todo_type": "INCIDENT",
        "domain_workspace": "EXA-2",
        "title": "customs: amounts failed",
        "assignee": "customs@example.com",
        "category": ["customs"],
        "order_id": "r",
        "lrn": "customs",
    }
    for note in (
        "ValueError: no amount",
        "did you mean include_tags?",
        "impact of route 1 (",
        "priority (must be",
    ):
        assert note in fields["description"]


def test_decision_names_the_first_reason_in_its_order(configure, tmp_path, variables, store):
    """A try that is repeated, then what a roll-up handled, a route, a silence, a test run; what is left is recorded."""
    path = tmp_path / "routes.toml"
    path.write_text("[[route]]\nignore = true\n")
    configure(routes_path=str(path))
    variables["bzctrl_silences"] = json.dumps([{"until": "2126-12-01T06:00Z", "comment": "OPS-123"}])
    occurrence = Occurrence(
        failure=FAILURE,
        dismissed="the task will be tried again",
        is_test_run=True,
        handled_by=["raise_incident"],
    )
    recorded = []
    steps = [
        ("the task will be tried again", lambda one: replace(one, dismissed="")),
        ("raise_incident handled each of the failed tasks", lambda one: replace(one, handled_by=())),
        ("ignore = true in route 1 of", lambda one: path.write_text('[[route]]\npriority = "LOW"\n') and one),
        ("silenced until 2126-12-01 06:00:00 UTC (OPS-123)", lambda one: variables.clear() or one),
        ("this is a test run", lambda one: replace(one, is_test_run=False)),
    ]
    for why, end in steps:
        decision = decide(occurrence, Wishes(), record=recorded.append)
        assert isinstance(decision, NotRaised)
        assert str(decision).startswith(f"No incident: {why}")
        assert recorded == []
        occurrence = end(occurrence)
    decide(occurrence, Wishes(), record=recorded.append)
    assert [incident.fields["title"] for incident in recorded] == ["customs: amounts failed"]


@pytest.mark.parametrize("raise_one", [by_operator, by_notifier], ids=["operator", "notifier"])
def test_incident_without_its_field_in_the_other_message_format(
    bzctrl, store, configure, tmp_path, monkeypatch, raise_one
):
    """A field that the format of the connection does not have costs no incident: it is left out, and the description says so."""
    set_connection(monkeypatch, extra={"message_format": "predefined", "domain_workspace": "EXA-CON"})
    path = tmp_path / "routes.toml"
    path.write_text('[[route]]\nsub_category = ["amounts"]\ncategory = ["customs"]\n')
    configure(routes_path=str(path))
    bzctrl.put(ACC.create_url, json={"taskLink": LINK})  # the method of that format
    raise_one(monkeypatch)
    (todo,) = [request.json() for request in bzctrl.request_history if request.url == ACC.create_url]
    assert (todo["category"], "subCategory" in todo) == ("customs", False)
    assert "sub_category (does not exist in the message format predefined" in todo["description"]
