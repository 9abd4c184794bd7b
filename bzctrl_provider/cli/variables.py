"""The commands ``bzctrl variables list`` and ``bzctrl variables prune``."""

from __future__ import annotations

import json
from collections import Counter
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any

from bzctrl_provider._airflow_internals import (
    delete_stored_variable,
    list_stored_variables,
    use_metadata_database,
)
from bzctrl_provider.cli.ages import format_age
from bzctrl_provider.cli.findings import describe_error
from bzctrl_provider.pruning import VARIABLE_PREFIX, read_age
from bzctrl_provider.text import one_line

if TYPE_CHECKING:
    import argparse
    from collections.abc import Sequence
    from typing import TextIO

    from bzctrl_provider._airflow_internals import StoredVariable
    from bzctrl_provider.pruning import VariableAge

_NAME_CHARS = 250
"""As many as Airflow allows."""


@dataclass(frozen=True)
class _Row:
    """Hold a Variable of the provider.

    :param variable: as it is stored.
    :param age: the time since it was written and the kind of its content.
    :param state: see ``VariableAge.state``; for the command that removes them also ``removed`` or ``changed``.
    """

    variable: StoredVariable
    age: VariableAge
    state: str

    def as_dict(self, now: datetime) -> dict[str, Any]:
        return {
            "state": self.state,
            "kind": self.age.kind,
            "name": one_line(self.variable.name, max_chars=_NAME_CHARS),
            "age_s": self.age.age_s(now),
            "reason": self.age.reason,
        }

    def line(self, now: datetime) -> str:
        shown = self.as_dict(now)
        age = "-" if shown["age_s"] is None else format_age(shown["age_s"])
        columns = (
            f"{shown['state']:<10}",
            f"{shown['kind']:<8}",
            f"{age:>6}",
            shown["name"],
            shown["reason"],
        )
        return "  ".join(columns).rstrip()


def run_list(arguments: argparse.Namespace, out: TextIO) -> int:
    """Print the Variables of the provider, the oldest first; return 1 if the database cannot be read.

    :param arguments: those of the command.
    :param out: gets the report.
    """
    use_metadata_database()
    now = datetime.now(UTC)
    try:
        rows = _find_rows(arguments.older_than_days, now)
    except Exception as exc:  # noqa: BLE001 - each database has errors of its own
        return _fail(exc, arguments, out)
    shown = rows[: arguments.limit]
    more = len(rows) - len(shown)
    if arguments.json:
        report = {"variables": [row.as_dict(now) for row in shown], "more": more, "counts": _count(rows)}
        print(json.dumps(report, ensure_ascii=False), file=out)
        return 0
    for row in shown:
        print(row.line(now), file=out)
    if more:
        print(f"and {more} more", file=out)
    print(_summary(rows, ("used", "unused", "unreadable")), file=out)
    return 0


def run_prune(arguments: argparse.Namespace, out: TextIO) -> int:
    """Remove the unused Variables of the provider; return 1 if the database cannot be read or changed.

    :param arguments: those of the command.
    :param out: gets the report.
    """
    use_metadata_database()
    now = datetime.now(UTC)
    try:
        rows = _find_rows(arguments.older_than_days, now)
        if not arguments.dry_run:
            rows = [_prune(row) for row in rows]
    except Exception as exc:  # noqa: BLE001 - each database has errors of its own
        return _fail(exc, arguments, out)
    named = [row for row in rows if row.state != "used"]
    if arguments.json:
        variables = [row.as_dict(now) for row in named]
        report = {"ok": True, "dry_run": arguments.dry_run, "variables": variables, "counts": _count(rows)}
        print(json.dumps(report, ensure_ascii=False), file=out)
        return 0
    for row in named:
        print(row.line(now), file=out)
    gone = "unused" if arguments.dry_run else "removed"
    note = " Nothing was removed: --dry-run." if arguments.dry_run else ""
    print(_summary(rows, (gone, "used", "unreadable")) + note, file=out)
    return 0


def _find_rows(older_than_days: int, now: datetime) -> list[_Row]:
    older_than = timedelta(days=older_than_days)
    rows = [
        _Row(variable, age, age.state(now=now, older_than=older_than))
        for variable in list_stored_variables(VARIABLE_PREFIX)
        if (age := read_age(variable.name, variable.text))
    ]
    return sorted(rows, key=lambda row: (-(row.age.age_s(now) or 0), row.variable.name))


def _prune(row: _Row) -> _Row:
    if row.state != "unused":
        return row
    # One that a task has changed since is used.
    return _Row(row.variable, row.age, "removed" if delete_stored_variable(row.variable) else "used")


def _count(rows: Sequence[_Row]) -> dict[str, int]:
    return dict(sorted(Counter(row.state for row in rows).items()))


def _summary(rows: Sequence[_Row], states: Sequence[str]) -> str:
    counts = _count(rows)
    return ", ".join(f"{counts.get(state, 0)} {state}" for state in states) + "."


def _fail(error: Exception, arguments: argparse.Namespace, out: TextIO) -> int:
    reason, _, _ = describe_error(error).partition(" [SQL")
    message = (
        f"The Variables in Airflow's database cannot be read or changed: {reason}. Run the command where "
        "the database is available, such as beside the scheduler; a worker of Airflow 3 has none."
    )
    print(json.dumps({"ok": False, "error": message}) if arguments.json else message, file=out)
    return 1
