"""The results of a task's own checks, as the check operators of ``apache-airflow-providers-common-sql`` keep them.

From version 2 on, these operators have them as ``check_results``. They are read by name, so that this provider needs
neither the other one nor a certain version of it.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, fields
from typing import TYPE_CHECKING, Any

from bzctrl_provider.limits import LIST_ITEMS, NAME_CHARS
from bzctrl_provider.text import cut, one_line

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

_NUMBER = r"None|True|False|nan|-?inf|[-+]?(\d+\.?\d*|\.\d+)([eE][-+]?\d+)?"
_SINGLE = r"[(\[](?:Decimal\(')?([^',]*)(?:'\))?,?[)\]]"
"""A row of one value, as Python writes it. Compiled when it is first used: each failed run loads this module."""


@dataclass(frozen=True, kw_only=True)
class CheckResult:
    """Describe a check of a task that failed.

    Each text is one line of at most 200 characters in which Airflow's secrets are masked.

    :param check: its name, such as ``null_check``.
    :param table: the table; None if the operator does not know it.
    :param column: the column; None if it is no check of a column.
    :param expected: the condition for the value, such as ``>= 5``; ``true`` if the statement must be true.
    :param actual: the value that was found. Anything but a number is left out unless ``[bzctrl] include_check_values``
        is on, because it can be a row with personal data.
    :param statement: the SQL that must be true or have the expected value; None for a check of a column.
    """

    check: str
    table: str | None = None
    column: str | None = None
    expected: str | None = None
    actual: str | None = None
    statement: str | None = None


_FIELDS = tuple(field.name for field in fields(CheckResult))


def read_check_results(task: object, *, include_values: bool) -> tuple[CheckResult, ...]:
    """Return the failed checks of a task, at most 20; none if its operator keeps no results.

    :param task: the operator, after it was executed.
    :param include_values: whether values that are no numbers are kept, too.
    """
    results = getattr(task, "check_results", None)
    if not isinstance(results, list | tuple):
        return ()
    failed = [
        result
        for result in results
        if getattr(result, "success", None) is False and getattr(result, "severity", "error") == "error"
    ]
    return tuple(_read(result, include_values=include_values) for result in failed[:LIST_ITEMS])


def parse_check_results(data: object) -> tuple[CheckResult, ...]:
    """Return the checks that are in an XCom, which others can write as well; those of another form are left out."""
    if not isinstance(data, list | tuple):
        return ()
    mappings = [item for item in data[:LIST_ITEMS] if isinstance(item, Mapping)]
    read = [{name: _text(item.get(name)) for name in _FIELDS} for item in mappings]
    return tuple(CheckResult(check=check, **of) for of in read if (check := of.pop("check")))


def dump_check_results(checks: Iterable[CheckResult]) -> list[dict[str, str]]:
    """Return checks as JSON for an XCom."""
    return [
        {name: value for name in _FIELDS if (value := getattr(check, name)) is not None} for check in checks
    ]


def format_check_results(checks: Sequence[CheckResult], *, task_id: str) -> list[str]:
    """Return a line for each check, in columns; a statement of SQL is in a line of its own.

    :param task_id: the id of the task, which is not repeated as the name of its only check.
    """
    rows = []
    for check in checks:
        name = "" if check.check in (task_id, task_id.rpartition(".")[2]) else check.check
        actual = "" if check.actual is None else f", actual {check.actual}"
        outcome = (f"expected {check.expected}" if check.expected else "failed") + actual
        rows.append((name, ".".join(filter(None, (check.table, check.column))), outcome))
    widths = [max(map(len, column)) for column in list(zip(*rows, strict=True))[:2]]
    lines = []
    for check, (name, subject, outcome) in zip(checks, rows, strict=True):
        cells = [cell.ljust(width) for cell, width in zip((name, subject), widths, strict=True) if width]
        lines.append("   ".join([*cells, outcome]))
        if check.statement:
            lines.append(f"  {check.statement}")
    return lines


def _read(result: Any, *, include_values: bool) -> CheckResult:
    column = _text(getattr(result, "column", None))
    name = _text(getattr(result, "name", None)) or _text(getattr(result, "check_type", None)) or "check"
    expected = _text(getattr(result, "expected", None))
    if expected == "all truthy":
        expected = "true"
    return CheckResult(
        check=name.removeprefix(f"{column}.") if column else name,
        table=_text(getattr(result, "table", None)),
        column=column,
        expected=expected and re.sub(r"([<>]=?)(?=[^\s=])", r"\1 ", expected),
        actual=_value(getattr(result, "actual", None), include_values=include_values),
        statement=None if column else _text(getattr(result, "content", None)),
    )


def _value(value: object, *, include_values: bool) -> str | None:
    if value is None:
        return None
    single = re.fullmatch(_SINGLE, str(value).strip())
    number = single[1] if single else str(value).strip()
    if re.fullmatch(_NUMBER, number) and len(number) <= NAME_CHARS:
        return number
    return _text(value) if include_values else None


def _text(value: object) -> str | None:
    """Return a value as one line without Airflow's secrets; None if there is nothing in it."""
    if value is None:
        return None
    from airflow.providers.common.compat.sdk import redact

    return cut(one_line(str(redact(str(value))), max_chars=NAME_CHARS + 1), NAME_CHARS) or None
