"""Hostile data, errors and memories in operators, callbacks and the link."""

from __future__ import annotations

import asyncio
import datetime as dt
import json
import logging
import time
from types import SimpleNamespace

import pytest
from airflow.providers.common.compat.sdk import AirflowFailException, mask_secret
from support import hostile
from support.bzctrl import ACC, KEY, LINK, sent_todos, set_connection
from support.contexts import new_run_context, new_task_context
from support.hostile import Secretive

from bzctrl_provider.dedup import create_unless_seen
from bzctrl_provider.exceptions import BzCtrlOutcomeUnknownError, BzCtrlTransportError, BzCtrlValidationError
from bzctrl_provider.failure import exception_text, remember_exception
from bzctrl_provider.links import bzctrl as link_module
from bzctrl_provider.links.bzctrl import BzCtrlTodoLink
from bzctrl_provider.memory import TryState, create_all_once, create_once
from bzctrl_provider.notifications.bzctrl import BzCtrlNotifier
from bzctrl_provider.operators.bzctrl import CreateTodoOperator, CreateTodosOperator
from bzctrl_provider.spool import replay_spool, spool_todo

pytestmark = pytest.mark.security

PASSWORD = 'Ex@"mpl3\\-pass\nword'
"""With what JSON writes in another way."""
FORGED = "\n[2026-11-21] ERROR - forged\x1b[31m\x85\u2028\u202e"


TEMPLATE = "{{ conn.bzctrl_default.password }} {% raw %} {0.__class__} %s"


class Raising(hostile.Raising):
    """Raises when it is compared as well."""

    def __eq__(self, other):
        raise RuntimeError("hunter2")

    __hash__ = None


@pytest.fixture(autouse=True)
def _connection(connection, monkeypatch):
    set_connection(monkeypatch, password=PASSWORD)


def find_one(records, text):
    (record,) = [record for record in records if text in record.getMessage()]
    return record.getMessage()


# --- tasks -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("value", [Secretive(), Raising(), [Raising()], {"password": "hunter2"}])
@pytest.mark.parametrize("name", ["title", "description", "category", "financial_impact", "lrn"])
def test_an_object_in_a_field_fails_the_task_with_its_name(bzctrl, name, value):
    """Native rendering may put any object into a field, a connection too: it is neither asked nor sent."""
    operator = CreateTodoOperator(task_id="raise_incident", title="t", description="d", order_id="o")
    setattr(operator, name, value)
    with pytest.raises(AirflowFailException, match=f"- {name}: ") as caught:
        operator.execute({"ti": SimpleNamespace()})
    assert "hunter2" not in str(caught.value)
    assert bzctrl.request_history == []


@pytest.mark.parametrize(
    "faulty",
    [
        {"title": Secretive()},
        {"title": Raising()},
        {5: "x", "title": "t"},
        {None: 1, ("a",): 2},
        {"title": {1: "a", "b": 2}},
        {f"title{FORGED}": "x"},
        {"title": f"t{FORGED}", "impact": f"urgent{FORGED}"},
    ],
    ids=range(7),
)
def test_one_hostile_todo_of_many_keeps_no_other_back(bzctrl, caplog, faulty):
    """It is named in the table of the log, on a line of its own that it cannot forge and that contains no secret."""
    operator = CreateTodosOperator(
        task_id="t", todos=[faulty, {"title": "good"}], description="d", order_id="o"
    )
    with pytest.raises(AirflowFailException, match="1 of 2 todos"), caplog.at_level(logging.ERROR):
        operator.execute({"ti": SimpleNamespace(try_number=1, max_tries=0)})
    assert [todo["title"] for todo in sent_todos(bzctrl)] == ["good"]
    table = find_one(caplog.records, "todos were not created")
    assert "hunter2" not in table
    lines = table.split("\n")
    assert all(line.isprintable() for line in lines)
    assert not any(line.startswith("[2026") for line in lines)
    assert any(line.startswith("1. ") for line in lines)
    assert lines[-1] == f"2. good: created, {KEY} {LINK}"


@pytest.mark.parametrize("todos", [[Secretive()], [Raising()], Raising(), "<script>" * 10_000])
def test_what_is_no_list_of_mappings_is_not_asked(bzctrl, todos):
    """The message has its type, and is short."""
    operator = CreateTodosOperator(task_id="t", todos=todos)
    with pytest.raises(AirflowFailException, match="list of mappings") as caught:
        operator.execute({"ti": SimpleNamespace()})
    assert "hunter2" not in str(caught.value)
    assert len(str(caught.value)) < 400


# --- the memory and the button ---------------------------------------------------------------------------------------


class Poisoned:
    """A memory that another user has changed."""

    def __init__(self, created):
        self._created = created

    def get(self, key):
        return {"page": 0, "todos": {"todo": {"created": self._created}}} if key == "todo.0" else {}

    def set(self, _key, _value):
        raise AssertionError("nothing is created again")


HOSTILE_LINKS = ["javascript:alert(1)", "data:text/html,x", f"https://x/{FORGED}", 5, None, {"a": "b"}]


@pytest.mark.parametrize("link", HOSTILE_LINKS, ids=lambda link: f"{link!r:.20}")
def test_a_poisoned_memory_gives_no_link(bzctrl, monkeypatch, caplog, link):
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


def test_a_poisoned_memory_of_failures_forges_no_line(monkeypatch, caplog):
    """The same holds for the memory of a failure that repeats."""
    now = dt.datetime(2026, 11, 21, tzinfo=dt.UTC)
    seen = {
        "created_at": now.isoformat(),
        "count": 1,
        "created": {"key": f"EXA{FORGED}", "link": "javascript:x"},
    }
    variable = SimpleNamespace(get=lambda *_: json.dumps(seen), set=lambda *_: None)
    monkeypatch.setattr("airflow.providers.common.compat.sdk.Variable", variable, raising=False)
    with caplog.at_level(logging.INFO):
        create_unless_seen(None, {}, key="k", window=dt.timedelta(days=1), now=lambda: now)
    assert find_one(caplog.records, "for the same failure").isprintable()


@pytest.mark.parametrize("link", HOSTILE_LINKS, ids=lambda link: f"{link!r:.20}")
def test_the_button_shows_no_script(monkeypatch, link):
    """Airflow 2.11 reads an XCom that any code of the task may have pushed, 3.x asks the operator."""
    monkeypatch.setattr(link_module, "XCom", SimpleNamespace(get_value=lambda **_: link))
    assert BzCtrlTodoLink().get_link(None, ti_key="the key") == ""
    known = SimpleNamespace(todo_link=link)
    assert BzCtrlTodoLink().get_link(known, ti_key="the key") == ""


def test_what_to_look_for_is_one_short_line():
    """Title and order id are data, of any length."""

    def no_answer(_):
        raise BzCtrlTransportError("no answer", outcome_unknown=True)

    memory = SimpleNamespace(get=lambda _: {}, set=lambda *_: None)
    with pytest.raises(BzCtrlOutcomeUnknownError) as caught:
        create_once(
            no_answer,
            {"title": f"t{FORGED}" + "x" * 1_000_000, "order_id": Secretive()},
            memory=memory,
            key="k",
            tries=TryState("1", is_first=True, is_last=True),
            on_unknown_outcome="fail",
        )
    assert str(caught.value).isprintable()
    assert len(str(caught.value)) < 1000
    assert "hunter2" not in str(caught.value)


def test_a_todo_that_has_no_name_in_the_memory_is_tried():
    """Keys of several kinds, an object that raises, a list in itself: BzCtrl's client says what is wrong with them."""
    itself = []
    itself.append(itself)
    todos = [{5: "x", "title": "t"}, {"title": Raising()}, {"category": itself}]
    refused = BzCtrlValidationError("refused", [])
    tried = []
    results = create_all_once(
        lambda some: tried.extend(some) or [refused] * len(some),
        todos,
        memory=SimpleNamespace(get=lambda _: {}, set=lambda *_: None),
        tries=TryState("1", is_first=True, is_last=True),
        on_unknown_outcome="retry",
        batch_size=10,
    )
    assert results == [refused] * 3
    assert len(tried) == 3


# --- callbacks -------------------------------------------------------------------------------------------------------


def failing_notifier(**fields):
    """Return one whose todo BzCtrl refuses, so that its payload is in the log."""
    return BzCtrlNotifier(order_id="o", **{"title": "lost", "description": "d", **fields})


@pytest.mark.parametrize("asynchronous", [False, True])
def test_a_lost_incident_is_one_line_of_the_log_without_secrets(bzctrl, caplog, asynchronous):
    """It has no forged line and no password, not even one that JSON escapes."""
    mask_secret(PASSWORD)
    bzctrl.post(ACC.create_url, status_code=400)
    notifier = failing_notifier(description=f"Zoll 橙 {PASSWORD}{FORGED}", category=[PASSWORD])
    if asynchronous:
        notifier.context = new_run_context()
    with pytest.raises(Exception, match="400"), caplog.at_level(logging.ERROR):
        asyncio.run(_awaited(notifier)) if asynchronous else notifier(new_run_context())
    line = find_one(caplog.records, "It would have been")
    assert line.isprintable()
    assert "Zoll 橙 ***" in line
    logged = json.loads(line.partition("been: ")[2])
    assert logged["category"] == ["***"]
    for secret in (PASSWORD, json.dumps(PASSWORD)[1:-1], "mpl3"):
        assert secret not in caplog.text


async def _awaited(notifier):
    await notifier


@pytest.mark.parametrize("value", [Secretive(), Raising(), {("a",): Raising()}])
def test_callback_with_an_object_is_raised_without_its_field(bzctrl, caplog, value):
    """The incident is raised without its field, and log and description only have the object's type."""
    notifier = BzCtrlNotifier(order_id="o", title="kept", description="d")
    notifier.lrn = value
    with caplog.at_level(logging.ERROR):
        notifier.notify(new_run_context())
    (todo,) = sent_todos(bzctrl)
    assert todo["title"] == "kept"
    assert "lrn" not in todo
    for text in (caplog.text, todo["description"]):
        assert "lrn (must be text, not an object of type" in text or "lrn (cannot be read" in text
        assert "hunter2" not in text


def test_an_object_gets_into_no_spool(tmp_path, monkeypatch):
    """Its type does: the file is read by people, and its own text may be a secret."""
    monkeypatch.setenv("AIRFLOW__BZCTRL__SPOOL_PATH", f"file://{tmp_path}")
    spool_todo(
        {"title": "t", "lrn": Secretive(), "category": [Raising()]},
        bzctrl_conn_id="bzctrl_default",
        reason="r",
    )
    (file,) = tmp_path.glob("*.json")
    assert json.loads(file.read_text())["todo"] == {
        "title": "t",
        "lrn": "an object of type Secretive",
        "category": ["an object of type Raising"],
    }


def test_an_exception_is_data(bzctrl):
    """A template in it is not rendered, half a surrogate pair and control characters do not lose the incident."""
    hostile = "{{ conn.bzctrl_default.password }} caf\udce9 \x00\x1b[31m <script>"
    BzCtrlNotifier()(new_task_context(exception=ValueError(hostile)))
    BzCtrlNotifier(title="{{ exception }}", description="{{ failure.exception }}")(
        new_task_context(exception=ValueError("{{ 7 * 7 }} {% raw %}"))
    )
    first, second = sent_todos(bzctrl)
    assert "{{ conn.bzctrl_default.password }} caf\ufffd \ufffd\ufffd[31m <script>" in first["description"]
    assert (second["title"], second["description"]) == (
        "{{ 7 * 7 }} {% raw %}",
        "ValueError: {{ 7 * 7 }} {% raw %}",
    )


def test_an_exception_that_cannot_be_read_raises_an_incident_all_the_same(bzctrl):
    """The incident has the type of the exception."""

    class UnreadableError(Exception):
        def __str__(self):
            raise RuntimeError("hunter2")

    BzCtrlNotifier()(new_task_context(exception=UnreadableError()))
    (todo,) = sent_todos(bzctrl)
    assert "Unreadable" in todo["description"]
    assert "hunter2" not in todo["description"]


@pytest.mark.parametrize("text", ["x" * 10_000_000, "x\n" * 2_000_000, "\x00" * 1_000_000, "{{" * 1_000_000])
def test_exception_of_unbounded_size_is_cut_in_bounded_time(bzctrl, text):
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


def test_exception_with_a_secret_is_masked_before_it_is_cut():
    """A secret in the middle of what is cut out is gone as well."""
    mask_secret("s3cret-of-a-task")
    text = exception_text(ValueError("x" * 1990 + "s3cret-of-a-task" + "y" * 5000))
    assert "s3cret" not in text


# --- the spool -------------------------------------------------------------------------------------------------------


def make_file(todo, *, conn_id="bzctrl_default"):
    entry = {"version": 1, "written_at": "2026-11-21T19:15:00Z", "reason": "r", "outcome_unknown": False}
    return json.dumps(entry | {"bzctrl_conn_id": conn_id, "todo": todo})


def test_a_hostile_file_of_the_spool_is_data(bzctrl, tmp_path, monkeypatch, caplog):
    """No template in it is rendered, no other system's connection is used, no bomb stops the others, no name forges a line."""
    crm = {"conn_type": "http", "host": "https://crm.example", "login": "u", "password": "of-the-crm"}
    monkeypatch.setenv("AIRFLOW_CONN_CRM", json.dumps(crm))
    todo = {"todo_type": "INCIDENT", "title": "{{ 7 * 7 }}", "description": TEMPLATE, "order_id": "o"}
    (tmp_path / "1-bomb.json").write_text("[" * 500_000)
    (tmp_path / "2-another-system.json").write_text(make_file(todo, conn_id="crm"))
    (tmp_path / "3-a-line\nforged.json").write_text(make_file(todo, conn_id="no\nsuch\nconnection"))
    (tmp_path / "4-template.json").write_text(make_file(todo))
    with caplog.at_level(logging.WARNING):
        result = replay_spool(path=tmp_path)
    assert [created["key"] for created in result.created] == [KEY]
    assert [rejected["file"].rpartition("/")[2] for rejected in result.rejected] == ["1-bomb.json"]
    assert [kept["file"].rpartition("/")[2][0] for kept in result.kept] == ["2", "3"]
    assert "must be bzctrl, not 'http'" in result.kept[0]["reason"]
    (message,) = sent_todos(bzctrl)
    assert (message["title"], message["description"]) == ("{{ 7 * 7 }}", TEMPLATE)
    assert {request.hostname for request in bzctrl.request_history} == {"acc.bzctrl.com"}
    assert "\nforged.json" not in caplog.text
    assert "of-the-crm" not in caplog.text
