from __future__ import annotations

import json
import math
from datetime import UTC, date, datetime
from decimal import Decimal
from enum import StrEnum
from fractions import Fraction

import pendulum
import pytest
from hypothesis import given
from hypothesis import strategies as st
from support.bzctrl import message_of

from bzctrl_provider.client.todo import (
    FIELDS,
    CreatedTodo,
    Field,
    Todo,
    complete_todo,
)
from bzctrl_provider.exceptions import BzCtrlValidationError
from bzctrl_provider.fields import TODO_FIELDS
from bzctrl_provider.sandbox.contract import PREDEFINED


def complete(fields, **changes):
    return complete_todo({**fields, **changes}, defaults={})


def get_faults(fields, **changes):
    with pytest.raises(BzCtrlValidationError) as caught:
        complete(fields, **changes)
    return dict(caught.value.errors)


class Impact(StrEnum):
    """An enumeration of a user's own."""

    LOW = "LOW"


def test_build_message_full_incident_is_as_documented():
    """The sample of the later BzCtrl document comes out to the letter."""
    todo = complete_todo(
        {
            "todo_type": "INCIDENT",
            "domain_workspace": "EXA-CON-BUS-WOR",
            "title": "Potential Customs claim",
            "description": "Operation started without proper approvals",
            "financial_impact": "123577",
            "impact": "HIGH",
            "likelihood": "MEDIUM",
            "priority": "HIGH",
            "assignee": "Example@example.com",
            "reporter": "Example@example.com",
            "category": ["Customs"],
            "sub_category": ["IT"],
            "lrn": "725462",
            "order_id": "ORDER 777",
            "reminder_date": "2024-09-27",
        },
        defaults={},
    )
    assert message_of(todo) == {
        "todoType": "INCIDENT",
        "domainWorkSpace": "EXA-CON-BUS-WOR",
        "title": "Potential Customs claim",
        "description": "Operation started without proper approvals",
        "financialImpact": "123577",
        "impact": "HIGH",
        "likelihood": "MEDIUM",
        "status": "IN PROGRESS",
        "priority": "HIGH",
        "assignee": "Example@example.com",
        "reporter": "Example@example.com",
        "category": ["Customs"],
        "subCategory": ["IT"],
        "lrn": "725462",
        "orderID": "ORDER 777",
        "reminderDate": "2024-09-27",
    }


def test_build_message_task_has_result_and_no_empty_key(fields):
    """Unset, None, blank and empty fields are left out; the task's own field is in."""
    todo = complete(
        fields,
        todo_type="task",
        result="signed off",
        lrn=None,
        priority=" ",
        category=[],
        sub_category=["", None],
        reminder_date="",
        financial_impact="  ",
    )
    assert message_of(todo) == {
        "todoType": "TASK",
        "domainWorkSpace": "EXA-CON-BUS-WOR",
        "title": "Potential Customs claim",
        "description": "Operation started without proper approvals",
        "result": "signed off",
        "status": "IN PROGRESS",
        "assignee": "reporter@example.com",
        "reporter": "reporter@example.com",
        "orderID": "ORDER 777",
    }


def test_build_message_predefined_has_its_own_keys(fields):
    """`predefined` splits the domain, writes LRN in capitals and the category as one text."""
    todo = complete(fields, domain_workspace="IMP-NLD-EXA-SWA", lrn="7", category=["Customs", "IT"])
    message = message_of(todo, message_format="predefined")
    assert message["domain"] == "IMP-NLD-EXA-SWA"
    assert message["workspace"] == "SWA"
    assert message["LRN"] == "7"
    assert message["category"] == "Customs, IT"
    assert not message.keys() & {"domainWorkSpace", "lrn", "subCategory"}


def test_complete_todo_predefined_with_sub_category_raises(fields):
    """A field that `predefined` does not know is refused, together with the other faults."""
    with pytest.raises(BzCtrlValidationError) as caught:
        complete_todo(
            {**fields, "sub_category": "IT", "impact": "urgent"}, defaults={}, message_format="predefined"
        )
    assert [name for name, _ in caught.value.errors] == ["impact", "sub_category"]


def test_build_message_in_progress_spelling_is_used(fields):
    """The connection's spelling of the default status goes over the wire, and of no other status."""
    assert message_of(complete(fields), in_progress_spelling="INPROGRESS")["status"] == "INPROGRESS"
    done = complete(fields, status="done")
    assert message_of(done, in_progress_spelling="INPROGRESS")["status"] == "DONE"


def test_todo_domain_and_workspace_are_joined(fields):
    """The two are joined, unless the domain ends in the workspace already; they win over the default."""
    for domain, workspace, joined in [
        ("IMP-NLD-EXA-SWA", "SWA", "IMP-NLD-EXA-SWA"),
        ("IMP-NLD-EXA", "SWA", "IMP-NLD-EXA-SWA"),
        ("IMP-NLDSWA", "SWA", "IMP-NLDSWA-SWA"),
        ("SWA", "SWA", "SWA-SWA"),
    ]:
        fields.pop("domain_workspace", None)
        todo = complete_todo(
            {**fields, "domain": domain, "workspace": workspace}, defaults={"domain_workspace": "DEF-AULT"}
        )
        assert todo.domain_workspace == joined


def test_todo_contradicting_domain_raises(fields):
    """Three fields that say the same are accepted, two that disagree are refused, half a pair is refused."""
    same = complete(fields, domain="EXA-CON-BUS", workspace="WOR")
    assert same.domain_workspace == "EXA-CON-BUS-WOR"
    assert get_faults(fields, domain="EXA", workspace="WOR").keys() == {"domain_workspace"}
    assert get_faults(fields, domain="EXA").keys() == {"workspace"}
    assert get_faults(fields, workspace="WOR").keys() == {"domain"}


def test_todo_fixed_value_in_any_spelling_is_accepted(fields):
    """Case, spaces, underscores and dashes do not matter."""
    for spelled in ["In Progress", "in_progress", "IN-PROGRESS", "InProgress", " in  progress "]:
        assert complete(fields, status=spelled).status == "IN PROGRESS"
        assert complete(fields, status="to do").status == "TODO"
        assert complete(fields, impact="high").impact == "HIGH"
        assert complete(fields, impact=Impact.LOW).impact == "LOW"


def test_todo_other_value_raises_with_allowed_values(fields):
    """The message names the field, what was given, and every allowed value."""
    for name in ["impact", "likelihood", "priority", "status", "todo_type"]:
        for value in ["urgent", 1, True, ["HIGH"]]:
            problem = get_faults(fields, **{name: value})[name]
            assert repr(value) in problem
            allowed = {"status": "IN PROGRESS, TODO, DONE or EXPIRED", "todo_type": "INCIDENT or TASK"}
            assert allowed.get(name, "HIGH, MEDIUM or LOW") in problem


def test_todo_financial_impact_is_sent_as_digits(fields):
    """Every kind of number becomes digits with an optional point, never with an exponent."""
    for amount, wire in [
        (123577, "123577"),
        (0, "0"),
        (-0.0, "0"),
        (Decimal("-0.00"), "0.00"),
        ("-0", "0"),
        (1234.5, "1234.5"),
        (5.0, "5"),
        (1e16, "10000000000000000"),
        (1e-7, "0.0000001"),
        (Decimal("1234.50"), "1234.50"),
        (Decimal("1E+3"), "1000"),
        ("123577", "123577"),
        (" 1234.50 ", "1234.50"),
        ("1e+16", "10000000000000000"),
        (".5", "0.5"),
        ("5.", "5"),
    ]:
        assert message_of(complete(fields, financial_impact=amount))["financialImpact"] == wire


@pytest.mark.security
def test_todo_financial_impact_no_plain_amount_raises(fields):
    """Signs, currencies, separators, booleans, and numbers that are none, are named as a fault of the field."""
    for amount in [
        True,
        False,
        -1,
        "-1",
        "+1",
        -0.5,
        "€5",
        "5 EUR",
        "1,000",
        "1.000,00",
        "1 000",
        "1_000",
        "1.2.3",
        "NaN",
        "nan",
        "inf",
        "Infinity",
        math.inf,
        Decimal("NaN"),
        Decimal("-Infinity"),
        Fraction(1, 3),
        "١٢٣",
        "1e999",
        "1e9999999",
        10**5000,
        "9" * 401,
        "0x10",
        [5],
        {"amount": 5},
    ]:
        assert "amount in EUR" in get_faults(fields, financial_impact=amount)["financial_impact"]


@given(
    st.one_of(
        st.integers(0, 10**20),
        st.floats(-0.0, allow_nan=False, allow_infinity=False),
        st.decimals(0, 10**20, allow_nan=False, places=4),
    )
)
def test_todo_financial_impact_any_amount_keeps_its_value(amount):
    """For any number that is not negative, the wire has digits that mean the same number."""
    wire = str(Todo(financial_impact=amount).financial_impact)
    assert set(wire) <= set("0123456789.")
    assert Decimal(wire) == Decimal(str(amount)).copy_abs()


def test_todo_number_in_text_field_is_sent_as_text(fields):
    """Numbers become digits, without an exponent, and without the point of a whole float."""
    todo = complete(
        fields, order_id=725462, lrn=12.5, title=1e22, description=Decimal("7.50"), category=[1, 2]
    )
    message = message_of(todo)
    assert message["orderID"] == "725462"
    assert message["lrn"] == "12.5"
    assert message["title"] == "10000000000000000000000"
    assert message["description"] == "7.50"
    assert message["category"] == ["1", "2"]
    assert complete(fields, order_id=10**40).order_id == "1" + 40 * "0"


def test_todo_no_text_in_text_field_raises(fields):
    """A boolean, a structure, bytes, infinity and half a surrogate pair are no text."""
    for value in [True, ["a"], {"a": 1}, b"bytes", math.inf, "half \ud800"]:
        assert get_faults(fields, description=value).keys() == {"description"}


@given(st.text(min_size=1).filter(str.strip))
def test_todo_any_text_is_sent_unchanged(text):
    """Any Unicode comes back from the JSON as it was, but for the blanks at both ends."""
    todo = complete_todo(
        {
            "todo_type": "TASK",
            "domain_workspace": "EXA",
            "title": "t",
            "description": text,
            "reporter": "r@example.com",
            "order_id": "o",
        },
        defaults={},
    )
    body = json.dumps(message_of(todo), ensure_ascii=False).encode()
    assert json.loads(body)["description"] == text.strip()


@pytest.mark.security
@given(st.text().filter(str.strip))
def test_todo_title_with_line_breaks_is_one_line(text):
    """A title with any line breaks is sent as one line with all its words."""
    title = Todo(title=text).title
    assert title is not None
    assert len(title.splitlines()) == 1
    assert "".join(title.split()) == "".join("".join(text.splitlines()).split())


def test_todo_no_single_email_address_raises(fields):
    """Reporter and assignee are one e-mail address each."""
    for value in ["nobody", "a@b@c", "a@b, c@d", "Bob <bob@example.com>", "a b@example.com", "@b", 5]:
        assert "e-mail" in get_faults(fields, reporter=value)["reporter"]


def test_todo_reminder_date_in_any_form_is_a_day(fields):
    """ISO text, dates, datetimes and pendulum's become YYYY-MM-DD, in their own time zone."""
    for value in [
        "2026-11-21",
        "20261121",
        20261121,
        "2026-11-21T23:59:00+00:00",
        "2026-11-21T06:00:00Z",
        date(2026, 11, 21),
        datetime(2026, 11, 21, 23, 59, tzinfo=UTC),
        pendulum.datetime(2026, 11, 21, 23, 59, tz="Europe/Amsterdam"),
        pendulum.date(2026, 11, 21),
    ]:
        assert message_of(complete(fields, reminder_date=value))["reminderDate"] == "2026-11-21"


def test_todo_reminder_date_no_day_raises(fields):
    """A date that does not exist or is not ISO is a fault of the field."""
    for value in ["21-11-2026", "2026-02-30", "tomorrow", True, ["2026-11-21"]]:
        assert get_faults(fields, reminder_date=value).keys() == {"reminder_date"}


def test_todo_category_no_list_of_texts_raises(fields):
    """Categories are a list of texts, or one text."""
    for value in [{"a": 1}, {"a"}, b"a", [["a"]], [True]]:
        assert get_faults(fields, category=value).keys() == {"category"}
        assert complete(fields, category="Customs").category == ("Customs",)


def test_todo_field_of_other_type_raises(fields):
    """A field of the other type of todo is an error with its name, and is not dropped silently."""
    for todo_type, wrong in [
        ("TASK", {"financial_impact": 5, "impact": "LOW", "likelihood": "LOW"}),
        ("INCIDENT", {"result": "done"}),
    ]:
        faults = get_faults(fields, todo_type=todo_type, **wrong)
        assert faults.keys() == wrong.keys()
        assert all("leave it out" in problem for problem in faults.values())


def test_complete_todo_several_errors_raises_one_error():
    """Values, contradictions, unknown fields and missing ones come in one error, each with its field's name."""
    with pytest.raises(BzCtrlValidationError) as caught:
        complete_todo(
            {
                "todoType": "INCIDENT",
                "impact": "urgent",
                "reporter": "nobody",
                "domain": "EXA",
                "color": "red",
            },
            defaults={},
        )
    faults = dict(caught.value.errors)
    assert faults.keys() == {
        "impact",
        "reporter",
        "workspace",
        "todoType",
        "color",
        "todo_type",
        "title",
        "description",
        "order_id",
    }
    assert "did you mean todo_type?" in faults["todoType"]
    assert "domain_workspace" in faults["color"]
    assert all(f"- {name}: " in str(caught.value) for name in faults)
    assert isinstance(caught.value, ValueError)


def test_complete_todo_mandatory_field_missing_raises(fields):
    """Each mandatory field is named where it is absent or blank."""
    for name in ["todo_type", "domain_workspace", "title", "description", "reporter", "order_id"]:
        for blank in [None, "", "  "]:
            assert get_faults(fields, **{name: blank}).keys() == {name}


def test_complete_todo_unset_field_gets_the_default(fields):
    """A default counts only where the todo says nothing; the assignee falls back to the reporter last."""
    for name in ("domain_workspace", "reporter"):
        del fields[name]
    defaults = {
        "domain_workspace": "DEF-AULT",
        "reporter": "default@example.com",
        "assignee": "boss@example.com",
    }
    todo = complete_todo(fields, defaults=defaults)
    assert (todo.domain_workspace, todo.reporter, todo.assignee) == tuple(defaults.values())
    own = complete_todo({**fields, "assignee": "own@example.com"}, defaults=defaults)
    assert own.assignee == "own@example.com"


def test_complete_todo_invalid_value_with_default_raises(fields):
    """A default does not hide that the todo's own value is wrong."""
    with pytest.raises(BzCtrlValidationError):
        complete_todo({**fields, "reporter": "nobody"}, defaults={"reporter": "default@example.com"})


def test_todo_incomplete_is_checked_and_completed_later(fields):
    """`Todo` reports its faults at once, and may leave to the connection what the connection has."""
    with pytest.raises(BzCtrlValidationError) as caught:
        Todo(impact="urgent", likelihood="never")
    assert [name for name, _ in caught.value.errors] == ["impact", "likelihood"]
    del fields["reporter"]
    todo = complete_todo(Todo(**fields), defaults={"reporter": "default@example.com"})
    assert todo.reporter == "default@example.com"


def test_created_todo_as_dict_is_plain_json():
    """`as_dict` goes through JSON unchanged, as an XCom has to."""
    created = CreatedTodo(key=None, link=None, title="t", todo_type="TASK", description="d", tags=["a"])
    assert (
        json.loads(json.dumps(created.as_dict()))
        == created.as_dict()
        == {
            "key": None,
            "link": None,
            "title": "t",
            "todo_type": "TASK",
            "description": "d",
            "tags": ["a"],
        }
    )


def test_fields_names_are_those_of_todo_fields():
    """The names of the fields are those with a rule."""
    assert set(FIELDS) == set(TODO_FIELDS)
    assert len(TODO_FIELDS) == 19


EXAMPLES = {
    "todo_type": "INCIDENT",
    "domain_workspace": "EXA-CON",
    "financial_impact": "5",
    "status": "DONE",
    "assignee": "a@example.com",
    "reporter": "r@example.com",
    "reminder_date": "2026-11-24",
    **dict.fromkeys(["impact", "likelihood", "priority"], "LOW"),
}


def test_fields_each_in_predefined_matches_that_message(fields):
    """A field goes out under the key that the earlier document gives it, or is refused before anything is sent."""
    for name in [name for name, known in FIELDS.items() if known.wire_key]:
        known = FIELDS[name]
        values = {**fields, name: EXAMPLES.get(name, "text")}
        if known.only_for:
            values["todo_type"] = known.only_for
        if known.predefined_key:
            todo = complete_todo(values, defaults={}, message_format="predefined")
            assert known.predefined_key in message_of(todo, message_format="predefined")
        else:
            with pytest.raises(
                BzCtrlValidationError, match=f"- {name}: does not exist in the message format"
            ):
                complete_todo(values, defaults={}, message_format="predefined")


def test_fields_predefined_keys_are_those_of_the_sandbox():
    """No field of the earlier message was forgotten, and none was made up; the workspace is a part of the domain."""
    keys = {known.predefined_key for known in FIELDS.values() if known.predefined_key}
    assert keys | {"workspace"} == set(PREDEFINED)


def test_fields_without_predefined_key_cannot_be_declared():
    """A new field has to say whether the earlier message has it."""
    with pytest.raises(TypeError, match="predefined_key"):
        Field(rule=str, wire_key="newField")


def test_todo_domain_with_line_break_contradiction_is_one_short_line(fields):
    """A domain that is an endless text forges no line of the log, and does not fill it."""
    with pytest.raises(BzCtrlValidationError) as caught:
        complete_todo({**fields, "domain": "A\n2026 ERROR forged" * 50_000, "workspace": "B"}, defaults={})
    (error,) = caught.value.errors
    assert error.field == "domain_workspace"
    assert error.problem.isprintable()
    assert len(str(caught.value)) < 400
