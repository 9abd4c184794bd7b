from __future__ import annotations

import json
from datetime import UTC, date, datetime
from decimal import Decimal

import pytest
from airflow.providers.common.compat.sdk import mask_secret
from hypothesis import given, settings
from hypothesis import strategies as st
from support.spool import NOON, new_entry

from bzctrl_provider.client.todo import Level, complete_todo
from bzctrl_provider.exceptions import BzCtrlValidationError
from bzctrl_provider.spool.entry import Entry, identify


def entry_of(fields, **kwargs):
    """Return what a delivery reads of these fields."""
    entry = Entry(fields=fields, bzctrl_conn_id="a", identity="i", spooled_at=NOON, **kwargs).redacted()
    return Entry.parse(entry.as_bytes(), identity="i")


def test_identify_equal_parts_give_one_identity():
    """In every process; how the parts are divided counts."""
    assert identify("conn", "dag", 3) == identify("conn", "dag", "3") == "f3d1287c78144cca724148dceafab8e5"
    assert len({identify("a", "bc"), identify("ab", "c"), identify("abc")}) == 3


@pytest.mark.parametrize("identity", ["", "../up", ".hidden", "a/b", "a" * 101, "line\nbreak"])
def test_entry_identity_that_is_no_name_of_a_file_is_refused(identity):
    """It would leave the spool, or be hidden in it."""
    with pytest.raises(ValueError, match="must be made by identify"):
        Entry(fields={}, bzctrl_conn_id="a", identity=identity, spooled_at=NOON)


def test_entry_as_bytes_has_all_that_is_needed_to_create_the_todo():
    """Plain JSON; unset fields are left out."""
    entry = Entry(
        fields={
            "title": "Zoll: 3 Fälle",
            "description": " \n",
            "result": None,
            "category": [],
            "sub_category": ("Customs", 7),
            "financial_impact": Decimal("7500.10"),
            "order_id": 777,
            "lrn": 5.5,
            "priority": Level.HIGH,
            "reminder_date": date(2026, 12, 1),
        },
        bzctrl_conn_id="bzctrl_default",
        identity="i",
        spooled_at=NOON,
        reason="no response",
        facts={"dag_id": "customs", "run_url": ""},
    )
    content = entry.redacted().as_bytes()
    assert "Fälle" in content.decode()
    assert json.loads(content) == {
        "version": 1,
        "written_at": "2026-11-21T12:00:00.123456Z",
        "bzctrl_conn_id": "bzctrl_default",
        "reason": "no response",
        "outcome_unknown": False,
        "facts": {"dag_id": "customs"},
        "todo": {
            "title": "Zoll: 3 Fälle",
            "sub_category": ["Customs", 7],
            "financial_impact": "7500.10",
            "order_id": 777,
            "lrn": 5.5,
            "priority": "HIGH",
            "reminder_date": "2026-12-01",
        },
    }


def test_entry_redacted_has_no_secret():
    """The secrets that Airflow masks are masked everywhere, also as a number and under the name of a secret."""
    mask_secret("hunter2-hunter2")
    mask_secret("123456789")
    entry = Entry(
        fields={
            "title": "the hunter2-hunter2",
            "category": ["x", {"deep": [["hunter2-hunter2"]]}],
            "order_id": 123456789,
            "lrn": "right",
            "password": "of nobody else",
        },
        bzctrl_conn_id="hunter2-hunter2",
        identity="i",
        spooled_at=NOON,
        reason="401 for hunter2-hunter2",
        facts={"reason": "hunter2-hunter2"},
    )
    text = entry.redacted().as_bytes().decode()
    assert "hunter2" not in text
    assert "123456789" not in text
    assert "nobody" not in text
    assert json.loads(text)["todo"]["lrn"] == "right"


def test_entry_redacted_cuts_a_long_reason_after_it_was_masked():
    """At most 2,000 characters, and no half of a secret at the cut."""
    mask_secret("hunter2-hunter2")
    entry = entry_of({"title": "T"}, reason="x" * 1990 + "hunter2-hunter2" + "y" * 5000)
    assert len(entry.reason) <= 2000
    assert "hunter" not in entry.reason


VALUES = st.one_of(
    st.text(),
    st.text(st.characters()),  # with halves of surrogate pairs
    st.integers(),
    st.floats(allow_nan=False, allow_infinity=False),
    st.decimals(allow_nan=False, allow_infinity=False).filter(lambda number: abs(number.adjusted()) < 400),
    st.dates(),
    st.datetimes(),
    st.booleans(),
    st.none(),
    st.lists(st.text() | st.integers()),
)


@settings(max_examples=150, deadline=None)
@given(
    fields=st.dictionaries(st.sampled_from(["title", "description", "category", "order_id", "lrn"]), VALUES)
)
def test_entry_any_value_of_a_todo_survives(fields):
    """A read entry makes the same todo as the one that was written."""
    todo = entry_of(fields).todo()
    for name in ("title", "description", "category", "order_id", "lrn"):
        taken, before = outcome({name: fields.get(name)})
        assert not taken or outcome({name: todo.get(name)}) == (True, before)


def outcome(field):
    """Return whether a todo takes a field, and how it reads then."""
    others = {
        "todo_type": "INCIDENT",
        "domain_workspace": "D",
        "title": "T",
        "description": "D",
        "order_id": "O",
        "reporter": "r@example.com",
    }
    (name,) = field
    try:
        return True, getattr(complete_todo(others | field, defaults={}), name)
    except BzCtrlValidationError:
        return False, None


@pytest.mark.parametrize(
    "number",
    [10**5000, float("nan"), float("inf"), Decimal("NaN"), Decimal("1E+999999")],
    ids=["long", "nan", "inf", "NaN", "E"],
)
def test_entry_number_that_no_todo_takes_becomes_text(number):
    """JSON has no such numbers, or Python does not write them; the rest of the todo is not lost."""
    entry = Entry(
        fields={"title": "T", "lrn": number}, bzctrl_conn_id="a", identity="i", spooled_at=NOON
    ).redacted()
    todo = json.loads(entry.as_bytes(), parse_constant=pytest.fail)["todo"]
    assert todo["title"] == "T"
    assert isinstance(todo["lrn"], str)


GOOD = {
    "version": 1,
    "written_at": "2026-11-21T12:00:00Z",
    "bzctrl_conn_id": "a",
    "reason": "r",
    "outcome_unknown": True,
    "todo": {"title": "T", "description": "D"},
}


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("{", "not JSON"),
        ("\udcff", "not JSON"),
        ("[" * 100_000, "not JSON"),
        ("[]", "version 1"),
        (json.dumps(GOOD | {"version": 2}), "version 1"),
        (json.dumps(GOOD | {"todo": None, "reason": 1}), "damaged at reason, todo"),
        (json.dumps(GOOD | {"written_at": "yesterday"}), "damaged at written_at"),
        (json.dumps(GOOD | {"unanswered_at": [1]}), "damaged at unanswered_at"),
        (json.dumps(GOOD | {"covers": "x"}), "damaged at covers"),
        (json.dumps(GOOD | {"facts": []}), "damaged at facts"),
    ],
)
def test_entry_parse_of_a_damaged_file_names_what_is_wrong(text, reason):
    """All of it at once."""
    with pytest.raises(ValueError, match=reason):
        Entry.parse(text.encode(errors="surrogateescape"), identity="i")


def test_entry_parse_of_a_file_made_by_hand_takes_any_name():
    """Its time is that of the attempt that it does not name."""
    content = json.dumps(GOOD | {"written_at": "2026-11-21T12:00:00"}).encode()
    entry = Entry.parse(content, identity="by hand")
    assert entry.spooled_at == datetime(2026, 11, 21, 12, tzinfo=UTC)
    assert entry.identity == identify("by hand")
    assert "An attempt at 2026-11-21T12:00:00 had no response" in entry.todo()["description"]


def test_entry_todo_without_a_description_gets_no_note():
    """The note is not a description; the client names the error."""
    entry = Entry(
        fields={"title": "T"}, bzctrl_conn_id="a", identity="i", spooled_at=NOON, unanswered=("then",)
    )
    assert entry.todo() == {"title": "T"}


def test_entry_todo_after_many_attempts_lists_twenty():
    """The description does not grow for ever."""
    entry = new_entry()
    for _ in range(30):
        entry = entry.after_unanswered(NOON)
    assert entry.todo()["description"].endswith(
        "12:00:00Z, and 10 more had no response, so this may be a duplicate."
    )
