"""The results of a tool's checks: read with everything that is wrong with them, and written as todos.

The todos are bounded plain text, without the secrets that Airflow knows.
"""

from __future__ import annotations

import gzip
import json
import re
import zlib
from collections.abc import Collection, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple, NoReturn

from bzctrl_provider.exceptions import BzCtrlValidationError
from bzctrl_provider.text import (
    LINE_CHARS,
    LIST_ITEMS,
    NAME_CHARS,
    TEXT_CHARS,
    cut,
    is_email,
    names_in_brackets,
    one_line,
    plain_text,
    safe_repr,
)


class ErrorList:
    """The errors of a tool's results, for one error that names them all.

    None is skipped: results that cannot be read must not look like results without a failure.

    :param tool: the name of the tool, such as ``dbt``.
    """

    def __init__(self, tool: str) -> None:
        self._tool = tool
        self._found: list[tuple[str, str]] = []

    def add(self, field: str, error: str) -> None:
        """Note an error.

        :param field: where it is, such as ``run_results.results[3].status``.
        :param error: the value found there, and the supported ones.
        """
        self._found.append((field, error))

    def check(self, is_valid: bool, field: str, wanted: str, value: object) -> None:
        """Note an error if a value is none of those that are wanted."""
        if not is_valid:
            self.add(field, f"must be {wanted}, not {safe_repr(value)}")

    def raise_if_any(self) -> None:
        """Raise the error if one was noted.

        :raises BzCtrlValidationError: names the first 20 errors, and how many there are.
        """
        if self._found:
            raise self._make()

    def fail(self, field: str, error: str) -> NoReturn:
        """Note an error and raise all, if nothing after it can be read."""
        self.add(field, error)
        raise self._make()

    def _make(self) -> BzCtrlValidationError:
        shown = self._found[:LIST_ITEMS]
        if more := len(self._found) - len(shown):
            shown.append(("and", f"{more} more"))
        headline = f"No todo was made of the results of {self._tool}, because they cannot be read:"
        return BzCtrlValidationError(headline, shown)


def mapping(value: object) -> Mapping[Any, Any]:
    """Return a mapping as it is, and an empty one for anything else."""
    return value if isinstance(value, Mapping) else {}


def find_gap(source: object) -> str:
    """Return why a tool left no results, such as ``there is no file target/run_results.json``; empty if it left some.

    :param source: the results as in ``read_mapping``; None for an XCom that was not pushed.
    """
    if source is None:
        return "the result is None"
    path = _find_path(source)
    if path is None or path.exists():
        return ""
    return f"there is no file {one_line(str(source), max_chars=LINE_CHARS)}"


def _find_path(source: Any) -> Any:
    """Return an object with ``exists`` and ``read_bytes`` if results are given as a path, otherwise None."""
    if isinstance(source, str):
        return Path(source) if source.strip() and source.lstrip()[0] not in "{[" else None
    return source if hasattr(source, "read_bytes") else None


def read_mapping(source: object, *, name: str, errors: ErrorList) -> Mapping[str, Any]:
    """Return results as a mapping.

    :param source: the mapping itself; JSON as text or bytes; or a path to a file of JSON, as text or as an object with
        ``exists`` and ``read_bytes`` (``pathlib.Path``, Airflow's ``ObjectStoragePath``). Content that is compressed with gzip
        is decompressed.
    :param name: the name of the parameter, for the error.
    :raises BzCtrlValidationError: if it is none of these, cannot be read, or is no JSON object.
    """
    if (path := _find_path(source)) is not None:
        try:
            source = path.read_bytes()
        except (OSError, ValueError) as exc:
            why = getattr(exc, "strerror", None) or type(exc).__name__
            errors.fail(name, shown(f"the file {path} cannot be read ({why})"))
    if isinstance(source, str | bytes):
        source = _parse(source, name=name, errors=errors)
    if not isinstance(source, Mapping):
        errors.fail(name, f"must be a mapping, JSON text or a path, not {safe_repr(source)}")
    return source


def _parse(content: str | bytes, *, name: str, errors: ErrorList) -> object:
    try:
        if isinstance(content, bytes) and content.startswith(b"\x1f\x8b"):
            content = gzip.decompress(content)
        return json.loads(content)
    except (OSError, EOFError, zlib.error) as exc:
        errors.fail(name, f"cannot be decompressed ({type(exc).__name__})")
    except json.JSONDecodeError as exc:
        # Without a quotation: it may be a part of the data.
        errors.fail(name, f"is no JSON: {exc.msg} at line {exc.lineno}, column {exc.colno}")
    except (ValueError, RecursionError) as exc:
        errors.fail(name, f"is no JSON: {type(exc).__name__}")


_COLOURS = re.compile(r"\x1b\[[0-9;]*m")
"""dbt colours the difference that a unit test found."""


class FailedCheck(NamedTuple):
    """A check that failed.

    :param label: which check, for example ``accepted_values of orders.status``.
    :param state: how it ended: ``failed``, ``error`` or ``warned``.
    :param facts: more about it, by name; empty ones are left out.
    :param owners: the names or e-mail addresses of its owners.
    """

    label: str
    state: str
    facts: Mapping[str, str]
    owners: tuple[str, ...]

    @property
    def what(self) -> str:
        """Return which check it is, and how it ended."""
        return f"{self.label}: {self.state}"

    @property
    def emails(self) -> set[str]:
        """Return those owners that are e-mail addresses."""
        return {owner for owner in self.owners if is_email(owner)}

    @property
    def text(self) -> str:
        """Return its facts, one a line; a text of several lines is indented, so that it cannot pass for a fact."""
        facts = {**self.facts, "Owner": ", ".join(self.owners)}
        return "\n".join(f"{name}:{_indented(text)}" for name, text in facts.items() if text)


def make_todos(
    checks: Sequence[FailedCheck],
    *,
    tool: str,
    run: str,
    summary: str,
    notes: Mapping[str, str],
    one_for_all: bool,
) -> dict[str, Any] | list[dict[str, Any]] | None:
    """Return one todo, a list of todos with one for each check, or None if no check failed.

    :param checks: those of one run of a tool that failed.
    :param tool: the name of the tool with that of the project or suite, for the titles.
    :param run: which run it was, for the descriptions.
    :param summary: how many failed, for example ``2 of 9 tests failed``.
    :param notes: more about the run, by name; empty ones are left out.
    """
    if not checks:
        return None
    if not one_for_all:
        return [
            _todo(f"{tool}: {check.what}", [f"{run}: {check.what}.", check.text], notes, check.emails)
            for check in checks
        ]
    labels = [check.label for check in checks]
    if re.fullmatch(r"1 of 1 \w+ failed", summary):
        summary = f"{labels.pop()} failed"
    start = f"{tool}: {summary}"
    title = start + names_in_brackets(labels, room=NAME_CHARS - len(start))
    # Only an address that every check has: nobody gets another team's failures.
    emails = set.intersection(*(check.emails for check in checks))
    return _todo(title, [f"{run}: {summary}.", "\n".join(_listed(checks))], notes, emails)


def _listed(checks: Sequence[FailedCheck]) -> Iterable[str]:
    for check in checks[:LIST_ITEMS]:
        yield "\n  ".join([f"- {check.what}", *check.text.splitlines()])
    if (more := len(checks) - LIST_ITEMS) > 0:
        yield f"- and {more} more"


def todos_without_results(
    tool: str, *, gap: str, one_for_all: bool, run: str = "", notes: Mapping[str, str] | None = None
) -> dict[str, Any] | list[dict[str, Any]]:
    """Return the todo about a run of a tool that checked nothing, in a list if each check has a todo of its own.

    :param gap: why there are no results.
    """
    title = f"{tool} ended without results"
    what = f"{run or title}: {gap}, so it is not known whether a check failed. The log of the task that ran it says more."
    todo = _todo(title, [what], notes or {})
    return todo if one_for_all else [todo]


def _todo(
    title: str, paragraphs: Sequence[str], notes: Mapping[str, str], emails: Collection[str] = ()
) -> dict[str, Any]:
    noted = "\n".join(f"{name}: {text}" for name, text in notes.items() if text)
    description = "\n\n".join(filter(None, (*paragraphs, noted)))
    assignee = {"assignee": next(iter(emails))} if len(emails) == 1 else {}
    return {"title": cut(title, NAME_CHARS), "description": description, **assignee}


def _indented(text: str) -> str:
    return " " + text if "\n" not in text else "\n  " + text.replace("\n", "\n  ")


def shown(value: object, *, max_chars: int = LINE_CHARS) -> str:
    """Return one bounded line of text from a tool's results, redacted by Airflow; empty for None."""
    return cut(one_line(_redacted(value), max_chars=max_chars + 1), max_chars)


def shown_lines(value: object) -> str:
    """Return bounded text of several lines from a tool's results, redacted by Airflow; empty for None.

    Redacted before it is cut, because a half of a secret would not be recognized.
    """
    lines = [line.rstrip() for line in plain_text(_redacted(value)).strip().splitlines()]
    return cut("\n".join(line for line in lines if line), TEXT_CHARS)


def owners(*of: object) -> tuple[str, ...]:
    """Return the owners that the first mapping with an ``owner`` names, as text or as a list of texts."""
    for meta in of:
        value = meta.get("owner") if isinstance(meta, dict) else None
        names = value if isinstance(value, list | tuple) else [value]
        if found := tuple(filter(None, (shown(name) for name in names if isinstance(name, str)))):
            return found[:LIST_ITEMS]
    return ()


def _redacted(value: object) -> str:
    if value is None:
        return ""
    # Imported here: a DAG file that names these functions is parsed without it.
    from airflow.providers.common.compat.sdk import redact

    return _COLOURS.sub("", str(redact(str(value))))
