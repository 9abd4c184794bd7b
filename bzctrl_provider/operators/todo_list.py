"""The list of todos of one task: its check, its defaults, and the table of its results."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from airflow.providers.common.compat.sdk import AirflowFailException

from bzctrl_provider.exceptions import BzCtrlError
from bzctrl_provider.fields import is_missing
from bzctrl_provider.limits import NAME_CHARS
from bzctrl_provider.text import one_line, safe_repr

_PLACE = ("domain", "workspace", "domain_workspace")


def parse_todos(todos: Any, *, templated: bool) -> list[Mapping[str, Any]]:
    """Return the todos as a list.

    :param todos: of a task: a list or another iterable of mappings.
    :param templated: whether they come from a template, which may have made text of them.
    :raises AirflowFailException: if they are no list of mappings; the message has an example.
    """
    found = list(todos) if isinstance(todos, Iterable) and not isinstance(todos, str) else [todos]
    wrong = [todo for todo in found if not isinstance(todo, Mapping)]
    if wrong:
        raise AirflowFailException(
            "todos must be a list of mappings such as {'title': '…', 'description': '…'}, one for each todo; found "
            f"{safe_repr(wrong[0])}."
            + (
                " A template gives text unless the DAG has render_template_as_native_obj=True."
                if templated and isinstance(todos, str)
                else ""
            )
        )
    return found


def fill_todo(todo: Mapping[str, Any], defaults: Mapping[str, Any]) -> dict[str, Any]:
    """Return a todo with the defaults of the fields that it leaves out; a None or a gap in a table leaves out as well."""
    own = {name: value for name, value in todo.items() if not is_missing(value)}
    if own.keys() & set(_PLACE):
        defaults = {name: value for name, value in defaults.items() if name not in _PLACE}
    return {**defaults, **own}


def format_results(todos: list[dict[str, Any]], results: list[dict[str, Any] | BzCtrlError]) -> str:
    """Return a table of the results for the log: one line for each todo, with its key and link or with the reason."""
    lines = []
    first_lines: dict[str, int] = {}
    for number, (todo, result) in enumerate(zip(todos, results, strict=True), 1):
        if not isinstance(result, BzCtrlError):
            key, link = result.get("key"), result.get("link")
            outcome = f"created, {key or 'without a key'} {link or 'and without a link'}"
        elif (first := first_lines.setdefault(str(result), number)) == number:
            outcome = "not created. " + str(result).replace("\n", "\n   ")
        else:  # a hundred todos have one reason when BzCtrl is away
            outcome = f"not created, for the same reason as {first}"
        lines.append(f"{number}. {_format_title(todo)}: {outcome}")
    return "\n".join(lines)


def _format_title(todo: Mapping[str, Any]) -> str:
    title = todo.get("title", "(no title)")
    return one_line(title, max_chars=NAME_CHARS) if isinstance(title, str) else safe_repr(title)
