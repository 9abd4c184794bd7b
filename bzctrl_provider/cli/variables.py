"""The commands ``bzctrl variables list`` and ``bzctrl variables prune``."""

from __future__ import annotations

import json
from collections import Counter
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any

from bzctrl_provider._airflow_internals import (
    delete_stored_variable,
    list_stored_variables,
    use_metadata_database,
)
from bzctrl_provider.cli.findings import describe_error, format_age
from bzctrl_provider.limits import LINE_CHARS
from bzctrl_provider.pruning import VARIABLE_PREFIX, read_age
from bzctrl_provider.text import one_line

if TYPE_CHECKING:
    import argparse
    from collections.abc import Sequence
    from typing import TextIO

    from bzctrl_provider._airflow_internals import StoredVariable


@dataclass(frozen=True)
class _Row:
    """A Variable of the provider.

    :param state: see ``VariableAge.state``; for the command that removes them also ``removed``.
    :param kind: the kind of its content.
    :param name: its name.
    :param age_s: how many seconds ago it was last used; None if that is not known.
    :param reason: why it cannot be read; empty if it can.
    :param variable: as it is stored.
    """

    state: str
    kind: str
    name: str
    age_s: int | None
    reason: str
    variable: StoredVariable

    def as_dict(self) -> dict[str, Any]:
        names = ("state", "kind", "name", "age_s", "reason")
        return {name: getattr(self, name) for name in names}

    def line(self) -> str:
        age = "-" if self.age_s is None else format_age(self.age_s)
        return f"{self.state:<10}  {self.kind:<8}  {age:>6}  {self.name}  {self.reason}".rstrip()


def run_list(arguments: argparse.Namespace, out: TextIO) -> int:
    """Print the Variables of the provider, the oldest first; return 1 if the database cannot be read.

    :param arguments: those of the command.
    :param out: gets the report.
    """
    use_metadata_database()
    try:
        rows = _find_rows(arguments.older_than_days, datetime.now(UTC))
    except Exception as exc:  # noqa: BLE001 - each database has errors of its own, which are the report
        return _fail(exc, arguments, out)
    shown = rows[: arguments.limit]
    more = len(rows) - len(shown)
    if arguments.json:
        _print_json(
            {"variables": [row.as_dict() for row in shown], "more": more, "counts": _count(rows)}, out
        )
        return 0
    for row in shown:
        print(row.line(), file=out)
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
    try:
        rows = _find_rows(arguments.older_than_days, datetime.now(UTC))
        if not arguments.dry_run:
            rows = [_prune(row) for row in rows]
    except Exception as exc:  # noqa: BLE001 - each database has errors of its own, which are the report
        return _fail(exc, arguments, out)
    named = [row for row in rows if row.state != "used"]
    if arguments.json:
        report = {"ok": True, "dry_run": arguments.dry_run, "variables": [row.as_dict() for row in named]}
        _print_json({**report, "counts": _count(rows)}, out)
        return 0
    for row in named:
        print(row.line(), file=out)
    gone, note = ("unused", " Nothing was removed: --dry-run.") if arguments.dry_run else ("removed", "")
    print(_summary(rows, (gone, "used", "unreadable")) + note, file=out)
    return 0


def _find_rows(older_than_days: int, now: datetime) -> list[_Row]:
    older_than = timedelta(days=older_than_days)
    rows = [
        _Row(
            state=age.state(now=now, older_than=older_than),
            kind=age.kind,
            name=one_line(variable.name, max_chars=LINE_CHARS),
            age_s=age.age_s(now),
            reason=age.reason,
            variable=variable,
        )
        for variable in list_stored_variables(VARIABLE_PREFIX)
        if (age := read_age(variable.name, variable.text))
    ]
    return sorted(rows, key=lambda row: (-(row.age_s or 0), row.name))


def _prune(row: _Row) -> _Row:
    if row.state != "unused":
        return row
    # One that a task has changed since is used.
    return replace(row, state="removed" if delete_stored_variable(row.variable) else "used")


def _count(rows: Sequence[_Row]) -> dict[str, int]:
    return dict(sorted(Counter(row.state for row in rows).items()))


def _summary(rows: Sequence[_Row], states: Sequence[str]) -> str:
    counts = _count(rows)
    return ", ".join(f"{counts.get(state, 0)} {state}" for state in states) + "."


def _print_json(report: dict[str, Any], out: TextIO) -> None:
    print(json.dumps(report, ensure_ascii=False), file=out)


def _fail(error: Exception, arguments: argparse.Namespace, out: TextIO) -> int:
    reason, _, _ = describe_error(error).partition(" [SQL")
    message = (
        f"The Variables in Airflow's database cannot be read or changed: {reason}. Run the command where "
        "the database is available, such as beside the scheduler; a worker of Airflow 3 has none."
    )
    print(json.dumps({"ok": False, "error": message}) if arguments.json else message, file=out)
    return 1
