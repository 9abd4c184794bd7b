from __future__ import annotations

import json
from datetime import date
from decimal import Decimal

import pytest
from airflow.providers.common.compat.sdk import mask_secret
from hypothesis import given, settings
from hypothesis import strategies as st

from bzctrl_provider.client.todo import complete_todo
from bzctrl_provider.exceptions import BzCtrlValidationError
from bzctrl_provider.outbox.writer import identify, is_set, redacted
from bzctrl_provider.store.incidents import Incident


def incident_of(fields, **values):
    """Return an incident with these fields as it is written."""
    return redacted(Incident(fields=fields, bzctrl_conn_id="a", identity="i", **values))


def test_identify_equal_parts_give_one_identity():
    """In every process; how the parts are divided counts."""
    assert identify("conn", "dag", 3) == identify("conn", "dag", "3") == "f3d1287c78144cca724148dceafab8e5"
    assert len({identify("a", "bc"), identify("ab", "c"), identify("abc")}) == 3
    assert len(identify("\ud800")) == 32


def test_redacted_has_all_that_is_needed_to_create_the_todo():
    """Plain JSON; unset fields are left out."""
    incident = incident_of(
        {
            "title": "Zoll: 3 Fälle",
            "description": " \n",
            "result": None,
            "category": [],
            "sub_category": ("Customs", 7),
            "financial_impact": Decimal("7500.10"),
            "order_id": 777,
            "lrn": 5.5,
            "priority": "HIGH",
            "reminder_date": date(2026, 12, 1),
        },
        reason="no response",
        facts={"dag_id": "customs", "run_url": ""},
    )
    assert json.loads(json.dumps(incident.fields)) == {
        "title": "Zoll: 3 Fälle",
        "sub_category": ["Customs", 7],
        "financial_impact": "7500.10",
        "order_id": 777,
        "lrn": 5.5,
        "priority": "HIGH",
        "reminder_date": "2026-12-01",
    }
    assert (incident.reason, incident.facts) == ("no response", {"dag_id": "customs"})


def test_redacted_has_no_secret():
    """The secrets that Airflow masks are masked everywhere, also as a number and under the name of a secret."""
    mask_secret("hunter2-hunter2")
    mask_secret("123456789")
    incident = redacted(
        Incident(
            fields={
                "title": "the hunter2-hunter2",
                "category": ["x", {"deep": [["hunter2-hunter2"]]}],
                "order_id": 123456789,
                "lrn": "right",
                "password": "of nobody else",
            },
            bzctrl_conn_id="hunter2-hunter2",
            identity="i",
            reason="401 for hunter2-hunter2",
            facts={"reason": "hunter2-hunter2"},
        )
    )
    text = repr(incident)
    assert "hunter2" not in text
    assert "123456789" not in text
    assert "nobody" not in text
    assert incident.fields["lrn"] == "right"


def test_redacted_cuts_a_long_reason_after_it_was_masked():
    """At most 2,000 characters, and no half of a secret at the cut."""
    mask_secret("hunter2-hunter2")
    incident = incident_of({"title": "T"}, reason="x" * 1990 + "hunter2-hunter2" + "y" * 5000)
    assert len(incident.reason) <= 2000
    assert "hunter" not in incident.reason


def test_redacted_has_no_character_that_a_database_refuses():
    """PostgreSQL takes no NUL and no half of a surrogate pair in a text; fields are written as JSON in ASCII."""
    incident = redacted(
        Incident(
            fields={"title": "T\x00\ud800"}, bzctrl_conn_id="a\x00\ud800", identity="i", reason="\x00\ud800"
        )
    )
    for text in (incident.bzctrl_conn_id, incident.reason, json.dumps(incident.fields)):
        assert "\x00" not in text
        assert text.encode()


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
def test_any_value_of_a_todo_survives(fields):
    """An incident that is read from the store makes the same todo as the one that was written."""
    with pytest.MonkeyPatch.context() as patch:
        # Other tests of the process have secrets, such as "…", which Airflow 2 masks from then on.
        patch.setattr("bzctrl_provider.outbox.writer.redact", lambda value: value)
        todo = json.loads(json.dumps(incident_of(fields).fields))
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


def test_number_that_no_todo_takes_becomes_text():
    """JSON has no such numbers, or Python does not write them; the rest of the todo is not lost."""
    for number in (10**5000, float("nan"), float("inf"), Decimal("NaN"), Decimal("1E+999999")):
        fields = json.loads(json.dumps(incident_of({"title": "T", "lrn": number}).fields, allow_nan=False))
        assert fields["title"] == "T"
        assert isinstance(fields["lrn"], str)


def test_is_set_means_that_a_todo_has_the_field():
    """Neither None, nor blank text, nor an empty list; every other value, also one that is invalid."""
    for value, expected in (
        (None, False),
        (" \n", False),
        ([], False),
        (0, True),
        ("x", True),
        (False, True),
    ):
        assert is_set(value) is expected
