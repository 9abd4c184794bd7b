"""Data of a DAG that means harm, or is merely strange: each value is sent as it is, or refused by its field's name."""

from __future__ import annotations

import datetime as dt
import json
import math
import time
from collections.abc import Mapping
from decimal import Decimal

import pytest
from support.bzctrl import ACC, LINK, new_client
from support.hostile import Raising, Secretive

from bzctrl_provider.client.api import MESSAGE_MAX_BYTES
from bzctrl_provider.client.todo import Todo
from bzctrl_provider.exceptions import BzCtrlRejectedError, BzCtrlValidationError
from bzctrl_provider.fields import TODO_FIELDS

pytestmark = pytest.mark.security


class RaisingText(str):
    __slots__ = ()

    def __str__(self):
        raise ValueError("hunter2")

    __repr__ = strip = __str__


class RaisingNumber(Decimal):
    def __str__(self):
        raise ZeroDivisionError("hunter2")

    __repr__ = __str__


class RaisingList(list):
    def __iter__(self):
        raise KeyError("hunter2")


class RaisingDate(dt.date):
    def isoformat(self):
        raise OverflowError("hunter2")


class RaisingMapping(Mapping):
    def __getitem__(self, key):
        raise RuntimeError("hunter2")

    def __iter__(self):
        raise RuntimeError("hunter2")

    def __len__(self):
        return 1


@pytest.fixture
def client():
    return new_client()


def test_create_todo_hostile_text_is_sent_unchanged(bzctrl, client, fields):
    """No template, no format, no header, no JSON comes of it: BzCtrl gets the characters as they were written."""
    for text in [
        "{{ conn.bzctrl_default.password }} {% for x in y %}",
        "{0.__class__.__mro__} %(name)s %s %d ${HOME} $(id) `id`",
        "<script>alert(1)</script> javascript:alert(1)",
        "'; DROP TABLE todos; --",
        '=HYPERLINK("http://evil.example")',
        "a\r\nInjected: header\r\n\r\n{}",
        "\x00\x01\x1b[31m\x7f\x85",
        "\u202eelpmaxe\u2066\u200b\ufeff",
        "a\u2028\u2029b",
        "👩‍👩‍👧‍👦 e\u0301 \U0010ffff",
        '","todoType":"TASK',
    ]:
        bzctrl.reset_mock()
        client.create_todo(fields, description=text, order_id=text, lrn=text, category=[text])
        message = bzctrl.last_request.json()
        stripped = text.strip()
        assert (message["description"], message["orderID"], message["lrn"]) == (stripped,) * 3
        assert message["category"] == [stripped]
        assert message["todoType"] == "INCIDENT"
        assert message.keys() <= {
            "todoType", "domainWorkSpace", "title", "description", "status", "assignee", "reporter", "orderID", "lrn",
            "category",
        }  # fmt: skip
        assert bzctrl.last_request.headers.keys() & {"Injected", "header"} == set()


def test_create_todo_lone_surrogate_is_invalid(bzctrl, client, fields):
    """Half a surrogate pair, in each field of text; nothing is sent, and the message can be written anywhere."""
    for name in ("title", "description", "order_id", "lrn", "domain_workspace", "category"):
        with pytest.raises(
            BzCtrlValidationError, match=f"{name}: must be text that UTF-8 can hold"
        ) as caught:
            client.create_todo(fields, **{name: "caf\udce9"})
        str(caught.value).encode()
    assert bzctrl.request_history == []


def test_create_todos_object_in_field_is_invalid_and_unread(bzctrl, client, fields):
    """No object's own text gets into the message, and no error of its own out of the call; other todos are created."""
    for name in TODO_FIELDS:
        for value in [
            Secretive(),
            Raising(),
            RaisingText("text"),
            RaisingNumber(5),
            RaisingList(["a"]),
            RaisingDate(2026, 1, 1),
            [Raising()],
            {"password": "hunter2"},
            {Secretive(): 1},
            [[Secretive()]],
            RaisingMapping(),
            object,
            lambda: "hunter2",
            b"hunter2",
            iter("hunter2"),
        ]:
            bzctrl.reset_mock()
            faulty, created = client.create_todos([{**fields, name: value}, fields])
            assert created.key == "EXA-CON-BUS-WOR-03"
            if isinstance(faulty, BzCtrlValidationError):
                assert name in {fault.field for fault in faulty.errors} or "workspace" in name
                text = str(faulty)
                assert "hunter2" not in text.replace("b'hunter2'", "")  # bytes are plain data
            else:
                # Each of them is of a kind that some field takes, and is not asked for more than that.
                assert isinstance(value, RaisingText | RaisingDate | RaisingNumber)
                assert "hunter2" not in bzctrl.last_request.text


def test_create_todo_unbounded_number_is_invalid(bzctrl, client, fields):
    """At once and by its field's name: it would be a gigabyte of digits, or NaN in JSON."""
    for number in [
        math.inf,
        -math.inf,
        Decimal("NaN"),
        Decimal("sNaN"),
        Decimal("Infinity"),
        10**5000,
        -(10**5000),
        Decimal("1e999999999"),
        Decimal("1e-999999999"),
        1e308 * 10,
        complex(1, 1),
        True,
    ]:
        for name in ["financial_impact", "title", "order_id", "category"]:
            bzctrl.reset_mock()
            began = time.monotonic()
            with pytest.raises(BzCtrlValidationError) as caught:
                client.create_todo(fields, **{name: number})
            assert [fault.field for fault in caught.value.errors] == [name]
            assert len(str(caught.value)) < 400
            assert bzctrl.request_history == []
            assert time.monotonic() - began < 2


# --- size ------------------------------------------------------------------------------------------------------------


def test_create_todo_over_size_limit_is_invalid(bzctrl, client, fields):
    """No request is sent: BzCtrl's response repeats the texts and would be too long to be read, so the outcome would be unknown."""
    for name in ["title", "description", "order_id", "lrn", "domain_workspace", "category"]:
        for text in ["x" * 5_000_000, "ü" * 600_000]:
            bzctrl.reset_mock()
            with pytest.raises(BzCtrlValidationError) as caught:
                client.create_todo(fields, **{name: text})
            ((field, problem),) = caught.value.errors
            assert field == name
            assert "a whole todo may have 1,000,000: shorten it" in problem
            assert len(str(caught.value)) < 300
            assert bzctrl.request_history == []


def test_create_todo_below_size_limit_is_sent_whole(bzctrl, client, fields):
    """A text up to the limit is sent whole, and BzCtrl may reject it."""
    text = "x" * (MESSAGE_MAX_BYTES - 1000)
    assert client.create_todo(fields, description=text).key == "EXA-CON-BUS-WOR-03"
    assert bzctrl.last_request.json()["description"] == text
    bzctrl.post(ACC.create_url, status_code=413)
    with pytest.raises(BzCtrlRejectedError):
        client.create_todo(fields, description=text)


def test_create_todo_longest_response_is_read(bzctrl, client, fields):
    """The limit leaves room for what an answer has besides."""
    text = "x" * (MESSAGE_MAX_BYTES - 1000)
    bzctrl.post(
        ACC.create_url, json={"taskLink": LINK, "title": "t", "description": text, "tags": ["a" * 1000]}
    )
    assert client.create_todo(fields, description=text).description == text


# --- names -----------------------------------------------------------------------------------------------------------


def test_create_todo_hostile_field_name_is_one_short_line(bzctrl, client, fields):
    """Keys come from the head of a file, say. Each is named on one line, cut, and without asking it."""
    for name in [
        "a\nforged: line",
        "\x1b[31m",
        "\u202eeltit",
        "x" * 1_000_000,
        5,
        None,
        ("title",),
        Secretive(),
        Raising(),
        b"title",
    ]:
        bzctrl.reset_mock()
        began = time.monotonic()
        with pytest.raises(BzCtrlValidationError) as caught:
            client.create_todo({**fields, name: "x"})
        headline, line = str(caught.value).splitlines()
        assert headline == "The todo was not sent. Fix the following:"
        assert line.isprintable()
        assert "is no field of a todo" in line
        assert "hunter2" not in line
        assert len(line) < 500
        assert bzctrl.request_history == []
        assert time.monotonic() - began < 5


def test_create_todo_many_unknown_names_are_cut(bzctrl, client, fields):
    """A message stays readable, and is quickly made."""
    began = time.monotonic()
    with pytest.raises(BzCtrlValidationError, match="and: 99980 more fields that do not exist") as caught:
        client.create_todo({**fields, **{f"column_{number}": 1 for number in range(100_000)}})
    assert len(caught.value.errors) == 21
    assert time.monotonic() - began < 5


def test_todo_hostile_value_raises():
    """Made in a DAG's own code."""
    with pytest.raises(BzCtrlValidationError) as caught:
        Todo(title=Secretive(), lrn=RaisingText("x"), priority=Raising())
    assert dict(caught.value.errors) == {
        "title": "must be text, not an object of type Secretive",
        "lrn": "cannot be read: it raised ValueError",
        "priority": "must be HIGH, MEDIUM or LOW, not an object of type Raising",
    }
    json.dumps(str(caught.value))
