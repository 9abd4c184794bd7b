from __future__ import annotations

import datetime as dt
import logging
import subprocess
import sys
from decimal import Decimal

import pytest
from airflow.providers.common.compat.sdk import mask_secret
from hypothesis import HealthCheck, example, given
from hypothesis import settings as hypothesis_settings
from hypothesis import strategies as st

from bzctrl_provider.client.todo import complete_todo
from bzctrl_provider.exceptions import BzCtrlValidationError
from bzctrl_provider.fields import TODO_FIELDS, is_missing
from bzctrl_provider.rules.field_checks import check_literals, find_window_errors, leave_out_invalid

VALID = {
    "todo_type": "incident",
    "title": "a title",
    "description": "two\nlines",
    "domain_workspace": "EXA",
    "financial_impact": "1234.5",
    "impact": "high",
    "likelihood": "LOW",
    "status": "in_progress",
    "priority": "Medium",
    "assignee": "a@example.com",
    "reporter": "a@example.com",
    "category": ["a", "b"],
    "sub_category": "a",
    "order_id": 12,
    "lrn": "L",
    "reminder_date": dt.date(2026, 11, 24),
}


def test_check_literals_valid_fields_pass():
    """As a DAG file writes them, one by one and together; None is unset."""
    assert set(TODO_FIELDS) - VALID.keys() == {"domain", "workspace", "result"}
    check_literals("X", VALID)
    check_literals("X", dict.fromkeys(VALID))
    for name, value in VALID.items():
        check_literals("X", {name: value})
    check_literals("X", {"domain": "IMP", "workspace": "SWA", "financial_impact": Decimal(1)})


def test_check_literals_invalid_fields_are_one_error():
    """With each field, the allowed values, and the errors of other parameters."""
    fields = {"priority": "urgent", "impact": 3, "reminder_date": "soon", "assignee": "nobody", "lrn": "fine"}
    with pytest.raises(ValueError, match="BzCtrlNotifier cannot raise") as caught:
        check_literals("BzCtrlNotifier", fields, others=[("dedup_window", "must be a timedelta")])
    lines = str(caught.value).splitlines()
    assert [line.partition(":")[0] for line in lines[1:]] == [
        "- dedup_window",
        "- priority",
        "- impact",
        "- reminder_date",
        "- assignee",
    ]
    assert "HIGH, MEDIUM or LOW" in lines[2]


def test_check_literals_templates_are_left_to_the_run():
    """Their values are not known while the DAG is parsed."""
    for fields in (
        {"priority": "{{ params.priority }}"},
        {"impact": "{% if failure %}HIGH{% endif %}"},
        {"category": ["{{ 'a' }}", 3j]},
        {"domain": "IMP", "workspace": "{{ params.workspace }}"},
        {"todo_type": "{{ params.type }}", "result": "text"},
        {"reminder_date": type("XComArg", (), {"resolve": None})()},
    ):
        check_literals("X", fields)


def test_check_literals_contradiction_is_refused():
    """Fields that do not go together are as certain as an invalid one."""
    for fields in (
        {"todo_type": "TASK", "impact": "HIGH"},
        {"todo_type": "INCIDENT", "result": "text"},
        {"domain": "IMP"},
    ):
        with pytest.raises(ValueError, match="Fix the following"):
            check_literals("X", fields)


def test_find_window_errors_invalid_value_is_named_with_an_example():
    """The error says which parameter is invalid and what to write; no window, and one of any length, are valid."""
    for window in (3600, "1d", dt.timedelta(seconds=-1)):
        ((name, error),) = find_window_errors(window)
        assert name == "dedup_window"
        assert error.startswith("must be a timedelta, such as timedelta(days=1), not ")
    for window in (None, dt.timedelta(0), dt.timedelta(days=1)):
        assert find_window_errors(window) == []


AT_FIRST_SIGHT = {
    "todo_type": "Incident",
    "domain_workspace": "EXA",
    "title": "a\nb",
    "description": "x",
    "impact": "High",
    "likelihood": "Low",
    "priority": "High",
    "assignee": "a@example.com",
    "reporter": "a@example.com",
    "category": ["x"],
    "sub_category": "x",
    "order_id": "12",
    "lrn": "{{ 1 }}",
}


def test_check_literals_of_valid_fields_imports_no_rules():
    """A DAG file with the most frequent fields is parsed without the client, requests and pydantic."""
    code = (
        "import sys, datetime; from bzctrl_provider.rules.field_checks import check_literals\n"
        f"for name, value in {AT_FIRST_SIGHT!r}.items():\n"
        "    check_literals('X', {name: value})\n"
        "    if loaded := [each for each in sys.modules if 'client' in each or each in ('requests', 'pydantic')]:\n"
        "        sys.exit(f'{name} is checked by the rules: {loaded}')\n"
    )
    result = subprocess.run([sys.executable, "-c", code], check=False, capture_output=True, text=True)
    assert result.stderr == ""


def test_check_literals_valid_at_first_sight_is_valid_by_the_rules():
    """The short way accepts nothing that the rules refuse."""
    for name, value in AT_FIRST_SIGHT.items():
        complete_todo({name: value}, defaults={**VALID, "order_id": "1"})


def test_leave_out_invalid_keeps_the_valid_fields(caplog):
    """The invalid ones are None, and named with their allowed values."""
    with caplog.at_level(logging.ERROR):
        fields, left_out = leave_out_invalid({**VALID, "priority": "urgent", "reminder_date": "soon"})
    assert fields == {**VALID, "priority": None, "reminder_date": None}
    assert [text.partition(" ")[0] for text in left_out] == ["priority", "reminder_date"]
    assert "not 'urgent'" in left_out[0]
    assert "priority (" in caplog.text


def test_leave_out_invalid_shows_no_secret(caplog):
    """A template may have put a password into the wrong field."""
    mask_secret("hunter2-and-more")
    with caplog.at_level(logging.ERROR):
        _, left_out = leave_out_invalid({"priority": "hunter2-and-more"})
    assert "hunter2" not in "".join(left_out) + caplog.text


def test_leave_out_invalid_contradiction_leaves_one_side():
    """As little as possible, so that the todo can be created."""
    for fields, dropped in [
        ({"domain": "IMP"}, {"domain"}),
        ({"domain": "IMP", "workspace": 3j}, {"domain", "workspace"}),
        ({"domain": "IMP", "workspace": "SWA", "domain_workspace": "OTHER"}, {"domain_workspace"}),
        ({"todo_type": "TASK", "impact": "HIGH"}, {"impact"}),
        ({"title": "half \ud800"}, {"title"}),
    ]:
        valid, left_out = leave_out_invalid(fields)
        assert {name for name in fields if valid[name] is None} == dropped
        assert left_out


class Unreadable:
    def __str__(self):
        raise RuntimeError("secret")

    __repr__ = __len__ = __iter__ = __str__


VALUES = st.one_of(
    st.none(),
    st.text(max_size=5),
    st.sampled_from(["HIGH", "urgent", "TASK", "a@b", "2026-01-01", "12", 12, -1, 1.5, float("nan"), True]),
    st.binary(max_size=3),
    st.lists(st.text(max_size=2), max_size=2),
    st.builds(Unreadable),
    st.dates(),
)


@hypothesis_settings(suppress_health_check=[HealthCheck.too_slow], deadline=None)
@given(fields=st.dictionaries(st.sampled_from(TODO_FIELDS), VALUES))
@example(fields={"result": "checked by hand"})
@example(fields={"result": "checked by hand", "todo_type": "neither"})
def test_leave_out_invalid_result_can_be_created(fields):
    """With the mandatory fields, the rest is a valid todo for every value of the templates."""
    valid, _ = leave_out_invalid(fields)
    mandatory = {
        "todo_type": "INCIDENT",
        "domain_workspace": "EXA",
        "title": "t",
        "description": "d",
        "reporter": "r@example.com",
        "order_id": "o",
    }
    complete_todo(valid, defaults=mandatory)


@hypothesis_settings(suppress_health_check=[HealthCheck.too_slow], deadline=None)
@given(fields=st.dictionaries(st.sampled_from(TODO_FIELDS), VALUES))
def test_check_literals_agrees_with_the_rules(fields):
    """A value that passes at first sight passes the client's rules as well."""
    try:
        check_literals("X", fields)
    except ValueError:
        return
    literals = {
        name: value for name, value in fields.items() if not is_missing(value) and not _is_template(value)
    }
    with pytest.raises(BzCtrlValidationError) as caught:  # at least the title is missing or blank
        complete_todo({**literals, "title": None}, defaults={})
    names = {name for name, value in literals.items() if not isinstance(value, str) or value.strip()} - {
        "title"
    }
    assert not [name for name, _ in caught.value.errors if name in names]


def test_leave_out_invalid_blank_text_is_unset():
    """A blank field is left out without a note, also beside an invalid one."""
    _, left_out = leave_out_invalid({"domain_workspace": " ", "reporter": "", "priority": "urgent"})
    assert [text.partition(" ")[0] for text in left_out] == ["priority"]


def _is_template(value):
    return any(mark in str(value) for mark in ("{{", "{%", "{#")) if isinstance(value, str | list) else False
