"""Read routes from the text of a ``bzctrl_routes.toml``, and find all its faults at once."""

from __future__ import annotations

import difflib
import re
import tomllib
from functools import cache
from typing import TYPE_CHECKING, Any

from bzctrl_provider.client.todo import Todo
from bzctrl_provider.exceptions import BzCtrlValidationError
from bzctrl_provider.fields import TODO_FIELDS
from bzctrl_provider.limits import FAILURES_MAX, WINDOW_MAX_S
from bzctrl_provider.patterns import Patterns
from bzctrl_provider.routes.faults import RouteFault, RoutesError
from bzctrl_provider.routes.route import MATCHERS, ROUTE_FIELDS, Route, Routes, current_run_type
from bzctrl_provider.routes.toml_lines import TableLines, find_lines, parse_toml_error
from bzctrl_provider.text import one_line, safe_repr

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping

    from jinja2 import Environment

    from bzctrl_provider.routes.toml_lines import DocumentLines

_ROUTE_KEYS = (*MATCHERS, *ROUTE_FIELDS)

_RUN_TYPES = (
    "backfill",
    "scheduled",
    "manual",
    "operator_triggered",
    "asset_triggered",
    "asset_materialization",
)
"""Those of Airflow 3.3; earlier versions have fewer. A newer one can be written with a ``*``."""

_NAME_CHARS = 80

_ROUTES_MAX = 1000
_PATTERNS_MAX = 10_000
"""Compiling them takes about three seconds, and a callback has forty."""


def parse_routes(text: str) -> Routes:
    """Read the routes of a file.

    :param text: the content of the file, TOML.
    :raises RoutesError: names every fault with its line. If the text is not TOML, only the first is known.
    """
    text = text.removeprefix("\ufeff")  # some editors write a byte order mark
    try:
        document = tomllib.loads(text)
    except tomllib.TOMLDecodeError as exc:
        line, message = parse_toml_error(exc, text)
        raise RoutesError(
            [RouteFault(line, f"is not valid TOML: {one_line(message, max_chars=200)}")]
        ) from None
    except (
        ValueError,
        RecursionError,
    ) as exc:  # a number of thousands of digits, a list in a list in a list…
        fault = RouteFault(0, f"has a value that cannot be read: {type(exc).__name__}")
        raise RoutesError([fault]) from None
    _check_size(document)
    lines = find_lines(text)
    faults = list(_document_faults(document, lines))
    tables = document.get("route")
    routes = []
    if isinstance(tables, list):
        where = lines.tables.get("route", [])
        for number, table in enumerate(tables, 1):
            # A file may also have its routes in one array: `route = [{ignore = true}]`.
            here = (
                where[number - 1] if len(where) == len(tables) else TableLines(lines.top.keys.get("route", 0))
            )
            if isinstance(table, dict):
                parser = _RouteParser(number, table, here)
                routes.append(parser.parse())
                faults += parser.faults
            else:
                faults.append(RouteFault(here.line, f"a route must be a table, not {safe_repr(table)}"))
    if faults:
        raise RoutesError(faults)
    return Routes(tuple(routes))


def _check_size(document: Mapping[str, Any]) -> None:
    tables = document.get("route")
    routes = [table for table in tables if isinstance(table, dict)] if isinstance(tables, list) else []
    values = [route[name] for route in routes for name in MATCHERS if name in route]
    patterns = sum(len(value) if isinstance(value, list) else 1 for value in values)
    for number, most, things in ((len(routes), _ROUTES_MAX, "routes"), (patterns, _PATTERNS_MAX, "patterns")):
        if number > most:
            raise RoutesError([RouteFault(0, f"has {number} {things}: at most {most} are possible")])


def _document_faults(document: Mapping[str, Any], lines: DocumentLines) -> Iterator[RouteFault]:
    for name in document:
        if name != "route":
            yield RouteFault(
                lines.top.keys.get(name, 0), f"{_shown(name)} is unknown: each route begins with [[route]]"
            )
    if "route" not in document:
        if not document:
            yield RouteFault(0, "has no route: write [[route]] and its keys below it, or unset routes_path")
    elif not isinstance(document["route"], list):
        line = lines.top.keys.get("route", 0)
        yield RouteFault(line, "a route begins with [[route]], in two pairs of brackets")
    elif not document["route"]:
        yield RouteFault(
            lines.top.keys.get("route", 0), "has no route: write [[route]] and its keys below it"
        )


def find_dead_fields(routes: Routes) -> list[RouteFault]:
    """Return the fields that never have an effect, because a route before them without a matcher sets them, too.

    They are no faults: the file is used as it is.
    """
    dead = []
    always: dict[str, Route] = {}
    for route in routes:
        for name in route.fields:
            if name in always:
                earlier = always[name]
                text = f"{name} never has an effect: {earlier.label} has no matcher and sets it before"
                dead.append(RouteFault(route.line_of(name), text))
        if not route.matchers:
            always |= {name: route for name in route.fields if name not in always}
    return dead


class _RouteParser:
    """Read one route, and collect its faults."""

    def __init__(self, number: int, table: Mapping[str, Any], lines: TableLines) -> None:
        self._number = number
        self._table = table
        self._lines = lines
        self.faults: list[RouteFault] = []
        self._faulty: set[str] = set()

    def parse(self) -> Route:
        matchers: dict[str, Patterns] = {}
        fields: dict[str, Any] = {}
        for name, value in self._table.items():
            if name in MATCHERS:
                if patterns := self._read(name, value, _parse_matcher(name)):
                    matchers[name] = patterns
            elif name in _OPTION_RULES:
                fields[name] = self._read(name, value, _OPTION_RULES[name])
            elif name in TODO_FIELDS:
                fields[name] = self._read(name, value, _check_template)
            else:
                self._add(name, f"{_shown(name)} is unknown: {_suggest(name, _ROUTE_KEYS)}")
        self._check_todo_fields(fields)
        if not fields and not self.faults:
            self._add("", "the route sets nothing: give it a field such as domain_workspace, or ignore")
        return Route(
            number=self._number,
            line=self._lines.line,
            matchers=matchers,
            fields=fields,
            lines=dict(self._lines.keys),
        )

    def _read(self, name: str, value: Any, rule: Callable[[Any], Any]) -> Any:
        try:
            return rule(value)
        except ValueError as exc:
            self._add(name, f"{name} {exc}")
            return None

    def _check_todo_fields(self, fields: Mapping[str, Any]) -> None:
        """Check the literals by the rules of a todo; templates are checked when they are rendered."""
        values = {name: fields[name] for name in TODO_FIELDS if name in fields and name not in self._faulty}
        literals = {name: value for name, value in values.items() if not _has_template(value)}
        pair = values.keys() & {"domain", "workspace"}
        if len(pair) == 1:
            (given,) = pair
            other = "workspace" if given == "domain" else "domain"
            if other not in self._faulty:
                self._add(given, f"{given} goes together with {other}: give both, or only domain_workspace")
        if len(literals.keys() & {"domain", "workspace"}) == 1:
            literals = {name: value for name, value in literals.items() if name not in pair}
        try:
            Todo(**literals)
        except BzCtrlValidationError as exc:
            for name, text in exc.faults:
                self._add(name, f"{name} {text}")

    def _add(self, name: str, text: str) -> None:
        self._faulty.add(name)
        self.faults.append(RouteFault(self._lines.keys.get(name, self._lines.line), text))


def _parse_matcher(name: str) -> Callable[[Any], Patterns]:
    return _parse_run_types if name == "run_types" else Patterns.parse


def _parse_run_types(value: Any) -> Patterns:
    patterns = Patterns.parse(value)
    current = Patterns(tuple(map(current_run_type, patterns.texts)))
    for text in current.texts:
        if text not in _RUN_TYPES and "*" not in text and "?" not in text:
            raise ValueError(f"has the unknown run type {safe_repr(text)}: {_suggest(text, _RUN_TYPES)}")
    return current


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


def _check_text(value: Any) -> str:
    if not isinstance(value, str) or not value.strip():
        raise ValueError(f"must be a text, not {safe_repr(value)}")
    _check_template(value)
    return value


_OPTION_RULES: Mapping[str, Callable[[Any], Any]] = {
    "ignore": _check_ignore,
    "bzctrl_conn_id": _check_text,
    "dedup_window_s": _check_integer(0, WINDOW_MAX_S),
    "dedup_key": _check_text,
    "consecutive_failures": _check_integer(1, FAILURES_MAX),
}


def _check_template(value: Any) -> Any:
    """Return a value, if its templates can be parsed."""
    for text in value if isinstance(value, list) else [value]:
        if isinstance(text, str) and _has_template(text):
            _parse_template(text)
    return value


def _parse_template(text: str) -> None:
    from jinja2 import TemplateSyntaxError

    try:
        _template_env().parse(text)
    except TemplateSyntaxError as exc:
        raise ValueError(f"is not a valid template: {one_line(str(exc.message), max_chars=200)}") from None


@cache
def _template_env() -> Environment:
    from jinja2 import Environment

    # A DAG may have switched these extensions on for its templates.
    return Environment(autoescape=True, extensions=["jinja2.ext.do", "jinja2.ext.loopcontrols"])


def _has_template(value: Any) -> bool:
    if isinstance(value, list):
        return any(map(_has_template, value))
    return isinstance(value, str) and re.search(r"\{\{|\{%|\{#", value) is not None


def _suggest(name: str, known: tuple[str, ...]) -> str:
    close = difflib.get_close_matches(name[:_NAME_CHARS].lower(), known, n=1)
    return f"did you mean {close[0]}?" if close else f"there are {', '.join(known)}"


def _shown(name: str) -> str:
    return name if re.fullmatch(r"[\w-]{1,80}", name) else safe_repr(name)
