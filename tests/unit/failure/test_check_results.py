from __future__ import annotations

import json
from types import SimpleNamespace

import pytest
from airflow.providers.common.compat.sdk import mask_secret

from bzctrl_provider.failure.reasons import (
    CheckResult,
    format_check_results,
    parse_check_results,
    read_check_results,
)


def new_operator(*results, success=False):
    return SimpleNamespace(check_results=[SimpleNamespace(**{"success": success, **of}) for of in results])


COLUMN = {
    "name": "amount.null_check",
    "table": "d",
    "column": "amount",
    "expected": "0",
    "actual": "17",
    "content": "COUNT(*) FILTER (WHERE amount IS NULL)",
}
MINIMUM = {"name": "amount.min", "table": "d", "column": "amount", "expected": ">=5, <=9", "actual": "1"}
TABLE = {
    "name": "row_count",
    "table": "d",
    "expected": "all truthy",
    "actual": "0",
    "content": "COUNT(*) > 100",
}
ROW = {"name": "totals", "expected": "all truthy", "actual": "(0, 'Jan')", "content": "SELECT a,\n  b FROM d"}


def test_read_check_results_failed_checks_are_lines_in_columns():
    """The name without its column, the subject, and what was expected and found."""
    checks = read_check_results(new_operator(COLUMN, MINIMUM), include_values=False)
    assert format_check_results(checks, task_id="amounts") == [
        "null_check   d.amount   expected 0, actual 17",
        "min          d.amount   expected >= 5, <= 9, actual 1",
    ]


def test_read_check_results_statement_has_a_line_of_its_own():
    """Of a check that has no column, the statement says what is checked; the task's id is not repeated."""
    checks = read_check_results(new_operator(TABLE, ROW), include_values=False)
    assert format_check_results(checks, task_id="group.totals") == [
        "row_count   d   expected true, actual 0",
        "  COUNT(*) > 100",
        "                expected true",
        "  SELECT a, b FROM d",
    ]


@pytest.mark.security
def test_read_check_results_values_that_are_no_numbers_are_left_out():
    """A whole row, or a text, can be personal data: it is there only if that is switched on."""
    numbers = {
        **{text: text for text in ("17", "-1.5e3", "None", "False", "nan", "-inf", ".5", "3.")},
        "(17,)": "17",
        "[0]": "0",
        "(Decimal('17.50'),)": "17.50",
        17: "17",
    }
    others = ("(1, 2)", "('17',)", "Jan Jansen", "{'a': 1}", "1" * 500, "1.2.3", "12 345", "e5")
    for actual, by_default in {**numbers, **dict.fromkeys(others)}.items():
        operator = new_operator({**ROW, "actual": actual})
        (check,) = read_check_results(operator, include_values=False)
        assert check.actual == by_default
        (check,) = read_check_results(operator, include_values=True)
        assert by_default or (check.actual[:199] == actual[:199] and len(check.actual) <= 200)


def test_read_check_results_without_error_are_left_out():
    """A check that passed, or only warns, is no reason of the failure; an operator may have an attribute of another meaning."""
    for more in ({"success": True}, {"severity": "warn"}, {"success": None}):
        assert read_check_results(new_operator({**COLUMN, **more}), include_values=False) == ()
    for results in (None, "x", {}, [None], [object()]):
        assert read_check_results(SimpleNamespace(check_results=results), include_values=False) == ()
    assert read_check_results(None, include_values=False) == ()


def test_read_check_results_secrets_are_masked_and_texts_cut():
    """Nothing of a secret, no line break and no unbounded text leaves the task."""
    mask_secret("s3cret-of-a-check")
    hostile = {"name": "a\nb s3cret-of-a-check", "content": "SELECT 's3cret-of-a-check'" + "x" * 10**6}
    (check,) = read_check_results(new_operator(hostile), include_values=False)
    assert check.check == "a b ***"
    assert check.statement.startswith("SELECT '***'xxx")
    assert len(check.statement) == 200


def test_read_check_results_many_are_20():
    """A table with a thousand columns does not fill the XCom."""
    assert len(read_check_results(new_operator(*[COLUMN] * 5000), include_values=False)) == 20


def test_parse_check_results_reads_what_was_kept():
    """As JSON, also what is None."""
    check = CheckResult(check="null_check", table="d", column="amount", expected="0")
    assert parse_check_results(json.loads(json.dumps([vars(check)]))) == (check,)
