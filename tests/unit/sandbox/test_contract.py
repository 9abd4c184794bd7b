"""The sandbox's checks of a request, one rule of the contract at a time."""

from __future__ import annotations

import string
from typing import Any
from urllib.parse import urlencode

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bzctrl_provider.sandbox.contract import (
    ADD_TASK,
    PREDEFINED,
    UnreadableBodyError,
    check_todo,
    check_token_form,
    get_workspace,
    is_media_type,
    make_tags,
    read_form,
    read_json,
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
WITHOUT_WORKSPACE = {key: value for key, value in INCIDENT.items() if key != "domainWorkSpace"}
OLD_SHAPE = WITHOUT_WORKSPACE | {
    "domain": "IMP-NLD-EXA-SWA",
    "workspace": "SWA",
    "category": "A, B",
    "LRN": "LRN-1",
}


def find_errors(body: Any, message: Any = ADD_TASK) -> dict[str, list[str]]:
    found: dict[str, list[str]] = {}
    for fault in check_todo(body, message):
        found.setdefault(fault["field"], []).append(fault["fault"])
    return found


@pytest.mark.parametrize(
    ("body", "message"),
    [(INCIDENT, ADD_TASK), (FULL_INCIDENT, ADD_TASK), (TASK, ADD_TASK), (OLD_SHAPE, PREDEFINED)],
    ids=["smallest", "full", "task", "old shape"],
)
def test_check_todo_of_a_valid_body_finds_no_error(body: dict[str, Any], message: Any) -> None:
    """Every message the documents describe is taken."""
    assert check_todo(body, message) == []


@pytest.mark.parametrize("status", ["IN PROGRESS", "INPROGRESS", "TODO", "DONE", "EXPIRED"])
def test_check_todo_of_each_status_finds_no_error(status: str) -> None:
    """Both published spellings of "in progress" and the other statuses are taken."""
    assert find_errors(INCIDENT | {"status": status}) == {}


@pytest.mark.parametrize("key", sorted(INCIDENT))
@pytest.mark.parametrize("value", [None, "", []], ids=["null", "empty text", "empty list"])
def test_check_todo_without_a_mandatory_value_names_the_key(key: str, value: Any) -> None:
    """A mandatory key that is missing or empty is named, and nothing else is."""
    missing = {name: given for name, given in INCIDENT.items() if name != key}
    assert find_errors(missing) == {key: ["is mandatory and missing"]}
    assert list(find_errors(INCIDENT | {key: value})) == [key]


@pytest.mark.parametrize("key", ["financialImpact", "impact", "priority", "category", "lrn", "reminderDate"])
@pytest.mark.parametrize("value", [None, "", []], ids=["null", "empty text", "empty list"])
def test_check_todo_with_an_empty_optional_key_refuses_it(key: str, value: Any) -> None:
    """The contract leaves such a key out, so sending it empty is a fault."""
    [fault] = find_errors(INCIDENT | {key: value})[key]
    assert "leave the key out" in fault


def test_check_todo_with_many_errors_names_them_all() -> None:
    """A sender can fix a message at once, because one response lists every error."""
    body = {
        "todoType": "INCIDENT",
        "title": " a\nb ",
        "impact": "urgent",
        "financialImpact": 12,
        "Status": "TODO",
    }
    found = find_errors(body)
    assert set(found) == {*INCIDENT} - {"todoType"} | {"impact", "financialImpact", "Status"}
    assert found["title"] == ["must be stripped: it has white space at an end", "must be one line"]
    assert found["impact"] == ["must be one of HIGH, MEDIUM, LOW, not 'urgent'"]
    assert found["Status"] == ["is not a key of this message; did you mean status?"]


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("todoType", "incident"),
        ("todoType", 1),
        ("title", 5),
        ("title", "two\nlines"),
        ("title", "two\u2028lines"),
        ("title", "half a pair \ud800"),
        ("description", ["text"]),
        ("description", " indented"),
        ("description", True),
        ("status", "In Progress"),
        ("status", "IN_PROGRESS"),
        ("status", ["TODO"]),
        ("priority", "High"),
        ("impact", {}),
        ("likelihood", 1.5),
        ("assignee", "Jane <jane@example.com>"),
        ("assignee", "jane@example.com, joe@example.com"),
        ("assignee", "jane"),
        ("assignee", "jane@"),
        ("assignee", "jane@example..com"),
        ("reporter", "@example.com"),
        ("reporter", ["jane@example.com"]),
        ("reporter", "\ud800@example.com"),
        ("category", "Data"),
        ("category", [""]),
        ("category", ["Data", 1]),
        ("category", [None]),
        ("subCategory", [" Totals"]),
        ("orderID", 12),
        ("lrn", 0),
        ("reminderDate", "2026-02-30"),
        ("reminderDate", "2026-2-3"),
        ("reminderDate", "20260203"),
        ("reminderDate", "2026-02-03T00:00:00"),
        ("reminderDate", 20260203),
        ("financialImpact", 1234),
        ("financialImpact", "1,234"),
        ("financialImpact", "-1"),
        ("financialImpact", "1e3"),
        ("financialImpact", "1."),
        ("financialImpact", ".5"),
        ("financialImpact", "EUR 1"),
        ("financialImpact", "\uff11\uff12"),
        ("financialImpact", "12\n"),
        ("domainWorkSpace", {"domain": "A"}),
    ],
)
def test_check_todo_with_an_invalid_value_names_only_its_key(key: str, value: Any) -> None:
    """Each value has its wire form, and anything else is an error of only that key."""
    assert list(find_errors(INCIDENT | {key: value})) == [key]


@pytest.mark.parametrize(
    ("todo_type", "key", "value"),
    [
        ("TASK", "impact", "HIGH"),
        ("TASK", "likelihood", "HIGH"),
        ("TASK", "financialImpact", "1"),
        ("INCIDENT", "result", "Done"),
    ],
)
def test_check_todo_with_a_key_of_the_other_type_refuses_it(todo_type: str, key: str, value: str) -> None:
    """A key of the other type of todo is an error, and not silently dropped."""
    [fault] = find_errors(INCIDENT | {"todoType": todo_type, key: value})[key]
    assert todo_type in fault


def test_check_todo_of_an_unknown_type_names_only_the_type() -> None:
    """While the type is unknown, no key can be said to belong to another."""
    assert list(find_errors(FULL_INCIDENT | {"todoType": "BUG", "result": "x"})) == ["todoType"]


@pytest.mark.parametrize(
    ("key", "message", "hint"),
    [
        ("Impact", ADD_TASK, "did you mean impact?"),
        ("zzz", ADD_TASK, "known are assignee, category"),
        ("workspace", ADD_TASK, "the one that is sent with PUT"),
        ("subCategory", PREDEFINED, "the one that is sent with POST"),
        ("domainWorkSpace", PREDEFINED, "the one that is sent with POST"),
    ],
)
def test_check_todo_with_an_unknown_key_gives_a_hint(key: str, message: Any, hint: str) -> None:
    """A key the message does not have is refused with the most similar known key."""
    body = INCIDENT if message is ADD_TASK else OLD_SHAPE
    [fault] = find_errors(body | {key: "HIGH"}, message)[key]
    assert hint in fault


def test_check_todo_of_the_old_shape_refuses_a_list_of_categories() -> None:
    """The older document's category is one text, not a list."""
    assert list(find_errors(OLD_SHAPE | {"category": ["A"]}, PREDEFINED)) == ["category"]


@pytest.mark.parametrize(
    ("body", "named"), [([], "a list"), ("x", "text"), (1, "a number"), (True, "a boolean"), (None, "null")]
)
def test_check_todo_of_another_json_value_names_its_type(body: Any, named: str) -> None:
    """JSON that is no object is refused by what it is."""
    assert find_errors(body) == {"(body)": [f"must be a JSON object, not {named}"]}


def test_check_todo_with_a_long_value_quotes_its_beginning() -> None:
    """A response does not repeat a megabyte."""
    [fault] = find_errors(INCIDENT | {"priority": "x" * 10_000})["priority"]
    assert len(fault) < 150


@given(
    st.recursive(
        st.none() | st.booleans() | st.floats() | st.text(),
        lambda x: st.lists(x) | st.dictionaries(st.text(), x),
    )
)
def test_check_todo_of_any_json_raises_nothing(value: Any) -> None:
    """The checks return errors for any JSON value, and raise nothing."""
    for key in ADD_TASK:
        check_todo({key: value}, ADD_TASK)
    check_todo(value, PREDEFINED)


@given(st.from_regex(r"\A[0-9]{1,30}(\.[0-9]{1,10})?\Z"))
def test_check_todo_with_any_plain_amount_finds_no_error(amount: str) -> None:
    """Digits with an optional decimal point are an amount, however many there are."""
    ascii_only = set(amount) <= set(string.digits + ".")
    assert (find_errors(INCIDENT | {"financialImpact": amount}) == {}) is ascii_only


@pytest.mark.parametrize(
    "raw",
    [
        b"",
        b"{",
        b"\xff",
        b'{"a": NaN}',
        b'{"a": 1, "a": 2}',
        b"[" * 100_000,
        b"9" * 10_000,
    ],
    ids=["nothing", "half", "no UTF-8", "NaN", "doubled key", "deep", "huge number"],
)
def test_read_json_of_an_unreadable_body_raises(raw: bytes) -> None:
    """A body that is not JSON, or that parsers read differently, is one clear error."""
    with pytest.raises(UnreadableBodyError):
        read_json(raw)


def test_read_json_with_any_unicode_returns_it() -> None:
    """Plain JSON with any Unicode is read as it is."""
    assert read_json('{"title": "Größe 🙂"}'.encode()) == {"title": "Größe 🙂"}


def test_read_form_with_the_sample_password_returns_it() -> None:
    """The documents' sample password, percent-encoded, is read back as it was."""
    form = {"grant_type": "password", "username": "jane+x@example.com", "password": "Ex@mpl3! &=%ü"}
    assert dict(read_form(urlencode(form).encode())) == form


@pytest.mark.parametrize("raw", [b"password", b"password=%ff", "password=ü".encode(), b"a=1&" * 200])
def test_read_form_of_an_unreadable_body_raises_without_quoting_it(raw: bytes) -> None:
    """A broken form is refused, and the error does not repeat what may be a password."""
    with pytest.raises(UnreadableBodyError) as caught:
        read_form(raw)
    assert "password" not in str(caught.value)
    assert caught.value.__suppress_context__


@pytest.mark.parametrize(
    ("pairs", "fields"),
    [
        ([("grant_type", "password"), ("username", "u"), ("password", "p")], []),
        ([], ["grant_type", "username", "password"]),
        ([("grant_type", "password"), ("username", ""), ("password", "p")], ["username"]),
        ([("grant_type", "refresh_token"), ("username", "u"), ("password", "p")], ["grant_type"]),
        (
            [
                ("grant_type", "password"),
                ("username", "u"),
                ("password", "p"),
                ("scope", "*"),
                ("username", "v"),
            ],
            ["username", "scope"],
        ),
    ],
    ids=["good", "empty", "no username", "other grant", "unknown and doubled"],
)
def test_check_token_form_with_errors_names_each_field(
    pairs: list[tuple[str, str]], fields: list[str]
) -> None:
    """Each fault of a token request is named by its field."""
    assert [fault["field"] for fault in check_token_form(pairs)] == fields


@pytest.mark.parametrize(
    ("header", "fits"),
    [
        ("application/json", True),
        ("Application/JSON; charset=UTF-8", True),
        ('application/json; charset="utf-8"', True),
        ("application/json; charset=latin-1", False),
        ("text/json", False),
        ("", False),
    ],
)
def test_is_media_type_with_a_charset_accepts_only_utf_8(header: str, fits: bool) -> None:
    """The type must be the one wanted, and its character set UTF-8 where one is named."""
    assert is_media_type(header, "application/json") is fits


@pytest.mark.parametrize(
    ("todo", "workspace"),
    [
        ({"domainWorkSpace": "EXA-CON-BUS-WOR"}, "EXA-CON-BUS-WOR"),
        ({"domain": "IMP-NLD-EXA-SWA", "workspace": "SWA"}, "IMP-NLD-EXA-SWA"),
        ({"domain": "IMP-NLD-EXA", "workspace": "SWA"}, "IMP-NLD-EXA-SWA"),
    ],
)
def test_get_workspace_of_both_shapes_is_the_domain_workspace(todo: dict[str, str], workspace: str) -> None:
    """The older shape's domain may or may not end in the workspace already."""
    assert get_workspace(todo) == workspace


def test_make_tags_with_an_lrn_puts_it_after_the_order_id() -> None:
    """BzCtrl makes tags of the order id and of the local reference number, where there is one."""
    assert make_tags(INCIDENT) == ["run-1"]
    assert make_tags(FULL_INCIDENT) == ["run-1", "LRN-1"]
    assert make_tags(OLD_SHAPE) == ["run-1", "LRN-1"]
