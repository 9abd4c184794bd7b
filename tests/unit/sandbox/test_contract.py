"""The sandbox's checks of a request, one rule of the contract at a time."""

from __future__ import annotations

from urllib.parse import urlencode

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bzctrl_provider.sandbox.contract import (
    ADD_TASK,
    FORM,
    JSON,
    PREDEFINED,
    TOKEN_FORM,
    check_message,
    get_workspace,
    make_tags,
    read_form,
    read_message,
)

INCIDENT = {
    "todoType": "INCIDENT",
    "domainWorkSpace": "EXA-CON-BUS-WOR",
    "title": "Totals differ",
    "description": "Expected 3,\nfound 2",
    "status": "IN PROGRESS",
    "assignee": "jane@example.com",
    "reporter": "airflow@example.com",
    "orderID": "run-1",
}
FULL_INCIDENT = INCIDENT | {
    "financialImpact": "1234.5",
    "impact": "HIGH",
    "likelihood": "MEDIUM",
    "priority": "LOW",
    "category": ["Data", "Finance"],
    "subCategory": ["Totals"],
    "lrn": "LRN-1",
    "reminderDate": "2028-02-29",
}
TASK = INCIDENT | {"todoType": "TASK", "result": "Half done"}
OLD_SHAPE = {key: value for key, value in INCIDENT.items() if key != "domainWorkSpace"} | {
    "domain": "IMP-NLD-EXA-SWA",
    "workspace": "SWA",
    "category": "A, B",
    "LRN": "LRN-1",
}


def find_errors(body, message=ADD_TASK):
    found = {}
    for error in check_message(body, message):
        found.setdefault(error["field"], []).append(error["fault"])
    return found


def test_check_message_of_a_valid_body_finds_no_error():
    """Every message that the documents describe is accepted, with each status in both published spellings."""
    for body, message in [(FULL_INCIDENT, ADD_TASK), (TASK, ADD_TASK), (OLD_SHAPE, PREDEFINED)]:
        assert find_errors(body, message) == {}
    for status in ("IN PROGRESS", "INPROGRESS", "TODO", "DONE", "EXPIRED"):
        assert find_errors(INCIDENT | {"status": status}) == {}


def test_check_message_without_a_value_names_the_key():
    """A mandatory key that is missing or empty is an error, and so is an optional one that is sent empty."""
    for key in INCIDENT:
        missing = {name: value for name, value in INCIDENT.items() if name != key}
        assert find_errors(missing) == {key: ["is mandatory and missing"]}
    for key in FULL_INCIDENT:
        remedy = "it is mandatory" if key in INCIDENT else "leave the key out"
        for value in (None, "", []):
            assert find_errors(FULL_INCIDENT | {key: value})[key][0].endswith(remedy), (key, value)


def test_check_message_with_many_errors_names_them_all():
    """A sender can correct a message at once, because one response lists every error."""
    found = find_errors(
        {
            "todoType": "INCIDENT",
            "title": " a\nb ",
            "impact": "urgent",
            "financialImpact": 12,
            "Status": "TODO",
        }
    )
    assert set(found) == {*INCIDENT} - {"todoType"} | {"impact", "financialImpact", "Status"}
    assert found["title"] == ["must be stripped: it has white space at an end", "must be one line"]
    assert found["impact"] == ["must be one of HIGH, MEDIUM, LOW, not 'urgent'"]
    assert found["Status"][0].startswith("is not a key of this message; known are assignee, category")


INVALID = {
    "todoType": ["incident", 1],
    "domainWorkSpace": [{"domain": "A"}],
    "title": [5, "two\nlines", "two\u2028lines"],
    "description": [["text"], " indented", True],
    "status": ["In Progress", "IN_PROGRESS", ["TODO"]],
    "priority": ["High", "x" * 10_000],
    "impact": [{}],
    "likelihood": [1.5],
    "assignee": [
        "Jane <jane@example.com>",
        "jane@example.com, joe@example.com",
        "jane",
        "jane@",
        "j@example..com",
    ],
    "reporter": ["@example.com", ["jane@example.com"]],
    "category": ["Data", [""], ["Data", 1], [None]],
    "subCategory": [[" Totals"]],
    "orderID": [12],
    "lrn": [0],
    "reminderDate": ["2026-02-30", "2026-2-3", "20260203", "2026-02-03T00:00:00", 20260203],
    "financialImpact": [1234, "1,234", "-1", "1e3", "1.", ".5", "EUR 1", "\uff11\uff12", "12\n"],
}


def test_check_message_with_an_invalid_value_names_only_its_key():
    """Each value has its wire form; anything else is an error of only that key, with a short excerpt."""
    for key, values in INVALID.items():
        for value in values:
            found = find_errors(INCIDENT | {key: value})
            assert list(found) == [key], (key, value)
            assert len(found[key][0]) < 200


def test_check_message_with_a_key_of_another_type_or_message_is_an_error():
    """A key of the other type of todo, or of the other document's message, is not silently dropped."""
    for todo_type, key, value in [
        ("TASK", "impact", "HIGH"),
        ("TASK", "likelihood", "HIGH"),
        ("TASK", "financialImpact", "1"),
        ("INCIDENT", "result", "Done"),
    ]:
        [fault] = find_errors(INCIDENT | {"todoType": todo_type, key: value})[key]
        assert todo_type in fault
    assert list(find_errors(FULL_INCIDENT | {"todoType": "BUG", "result": "x"})) == ["todoType"]
    assert list(find_errors(INCIDENT | {"workspace": "SWA"})) == ["workspace"]
    assert list(find_errors(OLD_SHAPE | {"subCategory": ["A"]}, PREDEFINED)) == ["subCategory"]
    assert list(find_errors(OLD_SHAPE | {"category": ["A"]}, PREDEFINED)) == ["category"]


@given(
    st.recursive(
        st.none() | st.booleans() | st.floats() | st.text(),
        lambda x: st.lists(x) | st.dictionaries(st.text(), x),
    )
)
def test_check_message_of_any_json_raises_nothing(value):
    """The checks return errors for any JSON value, and raise nothing."""
    for key in ADD_TASK:
        check_message({key: value}, ADD_TASK)
    check_message(value, PREDEFINED)


def test_read_message_of_an_unreadable_body_is_an_error_of_the_body():
    """A body that is no JSON object in UTF-8 is one error, whatever it is instead."""
    for raw in (b"", b"{", b"\xff", b"[" * 100_000, b"9" * 10_000, b"[]", b"1", b"null"):
        _, [error] = read_message(raw, JSON, ADD_TASK)
        assert error["field"] == "(body)"
    assert read_message('{"title": "Größe 🙂"}'.encode(), JSON, ADD_TASK)[0] == {"title": "Größe 🙂"}


def test_read_form_with_the_sample_password_returns_it():
    """The documents' sample password, percent-encoded, is read as it was."""
    form = {"grant_type": "password", "username": "jane+x@example.com", "password": "Ex@mpl3! &=%ü"}
    assert read_message(urlencode(form).encode(), FORM, TOKEN_FORM) == (form, [])


def test_read_form_of_an_unreadable_body_raises_without_quoting_it():
    """An invalid form is refused, and the error does not repeat what may be a password."""
    for raw in (b"password", b"password=%ff", "password=ü".encode()):
        with pytest.raises(ValueError) as caught:
            read_form(raw)
        assert "password" not in str(caught.value)
        assert caught.value.__suppress_context__


def test_read_message_of_a_token_request_with_errors_names_each_field():
    """The form has exactly the three documented keys, each once and with a value."""
    for raw, fields in {
        b"": ["grant_type", "username", "password"],
        b"grant_type=password&username=&password=p": ["username"],
        b"grant_type=refresh_token&username=u&password=p": ["grant_type"],
        b"grant_type=password&username=u&password=p&scope=*": ["scope"],
        b"grant_type=password&username=u&password=p&username=v": ["(body)"],
        b"nonsense": ["(body)"],
    }.items():
        assert [error["field"] for error in read_message(raw, FORM, TOKEN_FORM)[1]] == fields, raw


def test_workspace_and_tags_are_those_of_the_documents():
    """The earlier message's domain may end in the workspace; order id and local reference number are tags."""
    assert get_workspace(INCIDENT) == "EXA-CON-BUS-WOR"
    assert get_workspace(OLD_SHAPE) == "IMP-NLD-EXA-SWA"
    assert get_workspace(OLD_SHAPE | {"domain": "IMP-NLD-EXA"}) == "IMP-NLD-EXA-SWA"
    assert [make_tags(todo) for todo in (INCIDENT, FULL_INCIDENT, OLD_SHAPE)] == [
        ["run-1"],
        ["run-1", "LRN-1"],
        ["run-1", "LRN-1"],
    ]
