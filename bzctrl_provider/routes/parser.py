"""Read routes from the text of a ``bzctrl_routes.toml``, and find all its faults at once."""

from __future__ import annotations

import difflib
import re
import tomllib
from functools import cache
from typing import TYPE_CHECKING, Any

from jinja2 import Environment, TemplateSyntaxError

from bzctrl_provider.client.todo import Todo
from bzctrl_provider.exceptions import BzCtrlValidationError
from bzctrl_provider.fields import TODO_FIELDS
from bzctrl_provider.limits import FAILURES_MAX, NAME_CHARS, WINDOW_MAX_S
from bzctrl_provider.patterns import read_patterns
from bzctrl_provider.routes.route import (
    MATCHERS,
    ROUTE_FIELDS,
    RUN_TYPES,
    Route,
    Routes,
    current_run_type,
)
from bzctrl_provider.text import one_line, safe_repr

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping


class RoutesError(ValueError):
    """All faults of a routes file.

    :param errors: each is one line with the number of its route, its key and the remedy.
    """

    def __init__(self, *faults: str) -> None:
        super().__init__(*faults)
        self.errors = faults

    def __str__(self) -> str:
        return "\n".join(self.errors)


def parse_routes(text: str) -> Routes:
    """Read the routes of a file.

    :param text: the content of the file, TOML.
    :raises RoutesError: names every fault. If the text is not TOML, only the first is known.
    """
    try:
        document = tomllib.loads(text.removeprefix("\ufeff"))  # some editors write a byte order mark
    except tomllib.TOMLDecodeError as exc:
        raise RoutesError(f"is not valid TOML: {one_line(str(exc), max_chars=NAME_CHARS)}") from None
    faults = [
        f"{_shown(name)} is unknown: each route begins with [[route]]" for name in document if name != "route"
    ]
    tables = document.get("route", [])
    routes = []
    if not isinstance(tables, list):
        faults.append("a route begins with [[route]], in two pairs of brackets")
    elif not tables and not faults:
        faults.append("has no route: write [[route]] and its keys below it, or unset routes_path")
    else:
        for number, table in enumerate(tables, 1):
            parser = _RouteParser(number)
            routes.append(parser.parse(table))
            faults += parser.errors
    if faults:
        raise RoutesError(*faults)
    return Routes(tuple(routes))


def find_dead_fields(routes: Routes) -> list[str]:
    """Return the fields that never have an effect, because a route before them without a matcher sets them, too.

    They are no faults: the file is used as it is.
    """
    dead = []
    always: dict[str, Route] = {}
    for route in routes:
        dead += [
            f"{route.label}, {name}: never has an effect, because {always[name].label} has no matcher and sets it before"
            for name in route.fields
            if name in always
        ]
        if not route.matchers:
            always = {**dict.fromkeys(route.fields, route), **always}
    return dead


class _RouteParser:
    """The reader of one route, with the faults that it has found."""

    def __init__(self, number: int) -> None:
        self._number = number
        self.errors: list[str] = []

    def parse(self, table: object) -> Route:
        matchers: dict[str, tuple[str, ...]] = {}
        fields: dict[str, Any] = {}
        if not isinstance(table, dict):
            self._add(None, f"must be a table, not {safe_repr(table)}")
            table = {}
        for name, value in table.items():
            try:
                if name in MATCHERS:
                    matchers[name] = _read_run_types(value) if name == "run_types" else read_patterns(value)
                elif name in ROUTE_FIELDS:
                    fields[name] = _RULES.get(name, _check_template)(value)
                else:
                    raise ValueError(f"is unknown: {_suggest(name, (*MATCHERS, *ROUTE_FIELDS))}")  # noqa: TRY301 - a fault like those of the rules
            except ValueError as exc:
                self._add(name, str(exc))
        self._check_todo_fields(table, fields)
        if not fields and not self.errors:
            self._add(None, "sets nothing: give it a field such as domain_workspace, or ignore")
        return Route(number=self._number, matchers=matchers, fields=fields)

    def _check_todo_fields(self, table: Mapping[str, Any], fields: Mapping[str, Any]) -> None:
        """Check the literals by the rules of a todo; templates are checked when they are rendered."""
        literals = {
            name: value for name, value in fields.items() if name in TODO_FIELDS and not _has_template(value)
        }
        for given, other in (("domain", "workspace"), ("workspace", "domain")):
            if given in fields and other not in table:
                self._add(given, f"goes together with {other}: give both, or only domain_workspace")
            if other not in literals:
                literals.pop(given, None)
        try:
            Todo(**literals)
        except BzCtrlValidationError as exc:
            for name, text in exc.errors:
                self._add(name, text)

    def _add(self, name: str | None, text: str) -> None:
        key = f", {_shown(name)}" if name else ""
        self.errors.append(f"route {self._number}{key}: {text}")


def _read_run_types(value: Any) -> tuple[str, ...]:
    names = tuple(map(current_run_type, read_patterns(value)))
    for name in names:
        if name not in RUN_TYPES and set(name).isdisjoint("*?["):
            raise ValueError(f"has the unknown run type {safe_repr(name)}: {_suggest(name, RUN_TYPES)}")
    return names


def _check_ignore(value: Any) -> bool:
    if not isinstance(value, bool):
        raise ValueError(f"must be true or false, without quotes, not {safe_repr(value)}")  # noqa: TRY004 - a fault of the file
    return value


def _check_integer(least: int, most: int) -> Callable[[Any], int]:
    def check(value: Any) -> int:
        if not isinstance(value, int) or isinstance(value, bool) or not least <= value <= most:
            raise ValueError(
                f"must be an integer from {least} to {most}, without quotes, not {safe_repr(value)}"
            )
        return value

    return check


def _check_text(value: Any) -> Any:
    if not isinstance(value, str) or not value.strip():
        raise ValueError(f"must be a text, not {safe_repr(value)}")
    return _check_template(value)


def _check_template(value: Any) -> Any:
    """Return a value, if its templates can be parsed."""
    for text in filter(_has_template, value if isinstance(value, list) else [value]):
        try:
            _template_env().parse(text)
        except TemplateSyntaxError as exc:
            raise ValueError(
                f"is not a valid template: {one_line(str(exc.message), max_chars=NAME_CHARS)}"
            ) from None
    return value


_RULES: Mapping[str, Callable[[Any], Any]] = {
    "ignore": _check_ignore,
    "bzctrl_conn_id": _check_text,
    "dedup_window_s": _check_integer(0, WINDOW_MAX_S),
    "dedup_key": _check_text,
    "consecutive_failures": _check_integer(1, FAILURES_MAX),
}
"""The rules of the fields that are no fields of a todo."""


@cache
def _template_env() -> Environment:
    # A DAG may have switched these extensions on for its templates.
    return Environment(autoescape=True, extensions=["jinja2.ext.do", "jinja2.ext.loopcontrols"])


def _has_template(value: Any) -> bool:
    if isinstance(value, list):
        return any(map(_has_template, value))
    return isinstance(value, str) and re.search(r"\{\{|\{%|\{#", value) is not None


def _suggest(name: str, known: tuple[str, ...]) -> str:
    close = difflib.get_close_matches(name.lower(), known, n=1)
    return f"did you mean {close[0]}?" if close else f"there are {', '.join(known)}"


def _shown(name: str) -> str:
    return one_line(name, max_chars=NAME_CHARS)
