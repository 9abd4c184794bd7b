"""The results of a tool's checks: read with everything that is wrong with them, and written as todos.

The todos are bounded plain text, without the secrets that Airflow knows.
"""

from __future__ import annotations

import gzip
import json
import os
import re
import zlib
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, NoReturn

from bzctrl_provider.exceptions import BzCtrlValidationError
from bzctrl_provider.text import (
    LINE_CHARS,
    LIST_ITEMS,
    NAME_CHARS,
    TEXT_CHARS,
    cut,
    is_email,
    list_names,
    names_in_brackets,
    one_line,
    plain_text,
    safe_repr,
)

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

_GZIP = b"\x1f\x8b"


class ErrorList:
    """Collect the errors of a tool's results, for one error that names them all.

    A error is never skipped: results that cannot be read must not look like results without a failure.

    :param tool: the name of the tool, such as ``dbt``.
    """

    def __init__(self, tool: str) -> None:
        self._tool = tool
        self._found: list[tuple[str, str]] = []

    def add(self, field: str, error: str) -> None:
        """Note a error.

        :param field: where it is, such as ``run_results.results[3].status``.
        :param error: the value found there, and the supported ones.
        """
        self._found.append((field, error))

    def raise_if_any(self) -> None:
        """Raise the error if a error was noted.

        :raises BzCtrlValidationError: names the first 20 errors, and how many there are.
        """
        if self._found:
            raise self._error()

    def fail(self, field: str, error: str) -> NoReturn:
        """Note a error and raise the error, if nothing after the error can be read."""
        self.add(field, error)
        raise self._error()

    def _error(self) -> BzCtrlValidationError:
        shown = self._found[:LIST_ITEMS]
        if more := len(self._found) - len(shown):
            shown.append(("and", f"{more} more"))
        return BzCtrlValidationError(
            f"No todo was made of the results of {self._tool}, because they cannot be read:", shown
        )


def mapping(value: object) -> Mapping[Any, Any]:
    """Return a mapping as it is, and an empty one for anything else."""
    return value if isinstance(value, Mapping) else {}


def find_gap(source: object) -> str:
    """Return why a tool left no results, such as ``there is no file target/run_results.json``; empty if it left some.

    :param source: the results as in ``read_mapping``; None for an XCom that was not pushed.
    """
    if source is None:
        return "the result is None"
    if not _is_path(source):
        return ""
    try:
        exists = _as_path(source).exists()
    except (OSError, ValueError, AttributeError):  # an object with ``read_bytes`` may have no ``exists``
        return ""
    return "" if exists else f"there is no file {one_line(str(source), max_chars=LINE_CHARS)}"


def _is_path(source: object) -> bool:
    if isinstance(source, str):
        return bool(source.strip()) and source.lstrip()[0] not in "{["
    return isinstance(source, os.PathLike) or hasattr(source, "read_bytes")


def _as_path(source: Any) -> Any:
    """Return a path as an object with ``read_bytes``."""
    return source if hasattr(source, "read_bytes") else Path(source)


def read_mapping(source: object, *, name: str, errors: ErrorList) -> Mapping[str, Any]:
    """Return results as a mapping.

    :param source: the mapping itself; JSON as text or bytes; or a path to a file of JSON, as text or as an object with
        ``read_bytes`` (``pathlib.Path``, Airflow's ``ObjectStoragePath``). Content that is compressed with gzip is decompressed.
    :param name: the name of the parameter, for the error.
    :raises BzCtrlValidationError: if it is none of these, cannot be read, or is no JSON object.
    """
    if isinstance(source, str | bytes) or _is_path(source):
        source = _parsed(_content(source, name=name, errors=errors), name=name, errors=errors)
    if not isinstance(source, Mapping):
        errors.fail(name, f"must be a mapping, JSON text or a path, not {safe_repr(source)}")
    return source


def _content(source: Any, *, name: str, errors: ErrorList) -> bytes:
    if isinstance(source, bytes):
        return source
    if isinstance(source, str) and not _is_path(source):
        return source.encode(errors="replace")
    try:
        content: bytes = _as_path(source).read_bytes()
    except (OSError, ValueError) as exc:
        reason = getattr(exc, "strerror", None) or type(exc).__name__
        path = one_line(str(source), max_chars=LINE_CHARS)
        errors.fail(name, f"the file {path} cannot be read ({one_line(str(reason), max_chars=LINE_CHARS)})")
    return content


def _parsed(content: bytes, *, name: str, errors: ErrorList) -> object:
    if content.startswith(_GZIP):
        try:
            content = gzip.decompress(content)
        except (OSError, EOFError, zlib.error) as exc:
            errors.fail(name, f"cannot be decompressed ({type(exc).__name__})")
    try:
        return json.loads(content)
    except (ValueError, RecursionError) as exc:
        # Without a quotation: it may be a part of the data.
        found = (
            isinstance(exc, json.JSONDecodeError) and f"{exc.msg} at line {exc.lineno}, column {exc.colno}"
        )
        errors.fail(name, f"is no JSON: {found or type(exc).__name__}")


_COLOURS = re.compile(r"\x1b\[[0-9;]*m")
"""dbt colours the difference that a unit test found."""


@dataclass(frozen=True, kw_only=True)
class FailedCheck:
    """Describe one check that failed.

    :param label: which check, for example ``accepted_values of orders.status``.
    :param state: how it ended: ``failed``, ``error`` or ``warned``.
    :param facts: more about it, by name; empty ones are left out.
    :param owners: the names or e-mail addresses of its owners.
    """

    label: str
    state: str
    facts: Mapping[str, str] = field(default_factory=dict)
    owners: tuple[str, ...] = ()

    @property
    def emails(self) -> set[str]:
        """Return those owners that are e-mail addresses."""
        return {owner for owner in self.owners if is_email(owner)}

    @property
    def lines(self) -> list[str]:
        """Return its facts, one a line; a text of several lines is indented, so that it cannot pass for a fact."""
        facts = {**self.facts, "Owner": ", ".join(self.owners)}
        return [f"{name}:{_indented(text)}" for name, text in facts.items() if text]


@dataclass(frozen=True, kw_only=True)
class Report:
    """Describe all failed checks of one run of a tool.

    :param tool: the name of the tool with that of the project or suite, for the titles.
    :param run: which run it was, for the descriptions.
    :param summary: how many failed, for example ``2 of 9 tests failed``.
    :param checks: those that failed.
    :param not_run: the labels of the checks that did not run.
    :param notes: more about the run, by name; empty ones are left out.
    """

    tool: str
    run: str
    summary: str
    checks: Sequence[FailedCheck]
    not_run: Sequence[str] = ()
    notes: Mapping[str, str] = field(default_factory=dict)

    def todos(self, *, one_for_all: bool) -> dict[str, Any] | list[dict[str, Any]] | None:
        """Return one todo, a list of todos with one for each check, or None if no check failed."""
        if not self.checks:
            return None
        return self._todo_of_all() if one_for_all else [self._todo_of(check) for check in self.checks]

    def _todo_of_all(self) -> dict[str, Any]:
        labels = [check.label for check in self.checks]
        summary = self.summary
        if re.fullmatch(r"1 of 1 \w+ failed", summary):
            summary = f"{labels.pop()} failed"
        start = f"{self.tool}: {summary}"
        title = start + names_in_brackets(labels, room=NAME_CHARS - len(start))
        parts = [f"{self.run}: {summary}.", "\n".join(self._listed())]
        notes = {"Did not run": list_names(self.not_run), **self.notes}
        return _todo(title, parts, notes, self._common_email())

    def _todo_of(self, check: FailedCheck) -> dict[str, Any]:
        what = f"{check.label}: {check.state}"
        parts = [f"{self.run}: {what}.", "\n".join(check.lines)]
        emails = sorted(check.emails)
        return _todo(f"{self.tool}: {what}", parts, self.notes, emails[0] if len(emails) == 1 else None)

    def _common_email(self) -> str | None:
        """Return the one address that every check has: nobody gets another team's failures."""
        shared = set.intersection(*(check.emails for check in self.checks))
        return shared.pop() if len(shared) == 1 else None

    def _listed(self) -> Iterable[str]:
        for check in self.checks[:LIST_ITEMS]:
            yield "\n  ".join([f"- {check.label}: {check.state}", *"\n".join(check.lines).splitlines()])
        if (more := len(self.checks) - LIST_ITEMS) > 0:
            yield f"- and {more} more"


def todos_without_results(
    tool: str, *, gap: str, one_for_all: bool, run: str = "", notes: Mapping[str, str] | None = None
) -> dict[str, Any] | list[dict[str, Any]]:
    """Return the todo about a run of a tool that checked nothing, in a list if each check has a todo of its own.

    :param gap: why there are no results.
    """
    title = f"{tool} ended without results"
    what = f"{run or title}: {gap}, so it is not known whether a check failed. The log of the task that ran it says more."
    todo = _todo(title, [what], notes or {}, None)
    return todo if one_for_all else [todo]


def _todo(title: str, parts: list[str], notes: Mapping[str, str], assignee: str | None) -> dict[str, Any]:
    parts = [*parts, "\n".join(f"{name}: {text}" for name, text in notes.items() if text)]
    todo = {"title": cut(title, NAME_CHARS), "description": "\n\n".join(part for part in parts if part)}
    return {**todo, "assignee": assignee} if assignee else todo


def _indented(text: str) -> str:
    return " " + text if "\n" not in text else "\n  " + text.replace("\n", "\n  ")


def shown(value: object, *, max_chars: int = LINE_CHARS) -> str:
    """Return one bounded line of text from a tool's results, redacted by Airflow; empty for None."""
    if value is None:
        return ""
    return cut(one_line(_redacted(value), max_chars=max_chars + 1), max_chars)


def shown_lines(value: object) -> str:
    """Return bounded text of several lines from a tool's results, redacted by Airflow; empty for None.

    Redacted before it is cut, because a half of a secret would not be recognized.
    """
    if value is None:
        return ""
    lines = [line.rstrip() for line in plain_text(_redacted(value)).strip().splitlines()]
    return cut("\n".join(line for line in lines if line), TEXT_CHARS)


def owners(*of: object) -> tuple[str, ...]:
    """Return the owners that the first mapping with an ``owner`` names, as text or as a list of texts."""
    for meta in of:
        value = meta.get("owner") if isinstance(meta, dict) else None
        names = value if isinstance(value, list | tuple) else [value]
        if found := tuple(name for name in (shown(name) for name in names if isinstance(name, str)) if name):
            return found[:LIST_ITEMS]
    return ()


def _redacted(value: object) -> str:
    # Imported here: a DAG file that names these functions is parsed without it.
    from airflow.providers.common.compat.sdk import redact

    return _COLOURS.sub("", str(redact(str(value))))
