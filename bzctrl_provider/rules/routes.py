"""Whose incident it is, and whether to raise one: the rules of a ``bzctrl_routes.toml``.

For each field, the first route that fits and sets it gives the value. All faults of a file are found at once. A file is read
again after it changed, and nothing that is wrong with it costs an incident.
"""

from __future__ import annotations

import logging
import tomllib
from dataclasses import dataclass, field
from functools import cache, partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from jinja2 import Environment, TemplateSyntaxError

from bzctrl_provider.fields import PLACE, TODO_FIELDS
from bzctrl_provider.rules.field_checks import find_literal_errors, is_template
from bzctrl_provider.text import (
    FAILURES_MAX,
    NAME_CHARS,
    WINDOW_MAX_S,
    fits_any,
    one_line,
    read_patterns,
    read_values,
    safe_repr,
    suggest,
)

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping

    Names = Mapping[str, tuple[str, ...] | None]
    """The names that each matcher compares; None if they are not known."""

log = logging.getLogger(__name__)

MATCHERS = ("dags", "tags", "owners", "tasks", "run_types", "teams", "files")

RUN_TYPES = (
    "backfill",
    "scheduled",
    "manual",
    "operator_triggered",
    "asset_triggered",
    "asset_materialization",
)
"""Those of Airflow 3.3; earlier versions have fewer. A newer one can be written with a ``*``."""


def current_run_type(run_type: object) -> str:
    """Return the name that Airflow 3 has for a run type of Airflow 2.11 or 3.

    :param run_type: its name, or Airflow's enumeration of them.
    """
    # Not str(): the enumeration of Airflow's task SDK makes "DagRunType.MANUAL" of it.
    name = str(getattr(run_type, "value", run_type))
    return "asset_triggered" if name == "dataset_triggered" else name


@dataclass(frozen=True, kw_only=True)
class Route:
    """One ``[[route]]``.

    :param number: its position in the file, from 1; 0 for a default of this package.
    :param matchers: the patterns of each matcher; all have to fit, and none fits every failure.
    :param fields: the values that it sets; templates as they are written.
    """

    number: int
    matchers: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    fields: Mapping[str, Any] = field(default_factory=dict)

    @property
    def label(self) -> str:
        """Return its name, such as ``route 2``."""
        return f"route {self.number}" if self.number else "the default without routes"

    def mismatch(self, names: Names) -> str | None:
        """Return the first matcher that does not fit, or None if the route fits."""
        for matcher, patterns in self.matchers.items():
            if not any(fits_any(patterns, name) for name in names.get(matcher) or ()):
                return matcher
        return None


def apply_routes(routes: Iterable[Route], names: Names) -> dict[str, tuple[Any, Route]]:
    """Return for each field the value of the first route that fits and sets it, and this route.

    ``domain_workspace``, ``domain`` and ``workspace`` are one place: the first fitting route that sets any of them
    gives all of them.
    """
    fields: dict[str, tuple[Any, Route]] = {}
    for route in routes:
        if route.mismatch(names) is None:
            has_place = any(name in fields for name in PLACE)
            for name, value in route.fields.items():
                if name not in fields and not (has_place and name in PLACE):
                    fields[name] = (value, route)
    return fields


def find_ignoring(routes: Iterable[Route], names: Names) -> Route | None:
    """Return the route by which no incident is raised; None if one is raised."""
    is_ignored, route = apply_routes(routes, names).get("ignore", (False, None))
    return route if is_ignored else None


POLICY_DEFAULTS = (Route(number=0, matchers={"run_types": ("backfill",)}, fields={"ignore": True}),)
"""The routes of the policy without a routes file: a backfill raises no incidents."""


class RoutesError(ValueError):
    """All faults of a routes file: each argument is one line with the number of its route, its key and the remedy."""


def parse_routes(text: str) -> tuple[Route, ...]:
    """Read the routes of a file.

    :param text: the content of the file, TOML.
    :raises RoutesError: names every fault. If the text is not TOML, only the first is known.
    """
    try:
        document = tomllib.loads(text.removeprefix("\ufeff"))  # some editors write a byte order mark
    except tomllib.TOMLDecodeError as exc:
        raise RoutesError(f"is not valid TOML: {_shown(str(exc))}") from None
    errors = [
        f"{_shown(name)} is unknown: each route begins with [[route]]" for name in document if name != "route"
    ]
    tables = document.get("route", [])
    if not isinstance(tables, list):
        raise RoutesError(*errors, "a route begins with [[route]], in two pairs of brackets")
    if not tables and not errors:
        errors.append("has no route: write [[route]] and its keys below it, or unset routes_path")
    routes = tuple(_parse_route(number, table, errors) for number, table in enumerate(tables, 1))
    if errors:
        raise RoutesError(*errors)
    return routes


def find_dead_fields(routes: Iterable[Route]) -> list[str]:
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


def _parse_route(number: int, table: object, errors: list[str]) -> Route:
    """Return a route, and add its faults to the errors of the file."""
    if not isinstance(table, dict):
        errors.append(f"route {number}: must be a table, not {safe_repr(table)}")
        return Route(number=number)
    values, faults = read_values(table, _RULES)
    matchers = {name: value for name, value in values.items() if name in MATCHERS}
    fields = {name: value for name, value in values.items() if name not in MATCHERS}
    faults += _find_todo_errors(table)
    route = Route(number=number, matchers=matchers, fields=fields)
    if not fields and not faults:
        errors.append(f"{route.label}: sets nothing: give it a field such as domain_workspace, or ignore")
    errors += [f"{route.label}, {_shown(name)}: {fault}" for name, fault in faults]
    return route


def _find_todo_errors(table: Mapping[str, Any]) -> list[tuple[str, str]]:
    """Return the errors of literals by the rules of a todo, and of half a place, also if it is a template."""
    errors = []
    fields = {name: value for name, value in table.items() if name in TODO_FIELDS}
    for name, other in (("domain", "workspace"), ("workspace", "domain")):
        if name in fields and other not in table:
            errors.append((name, f"goes together with {other}: give both, or only domain_workspace"))
            del fields[name]
    return errors + find_literal_errors(fields)


def _read_run_types(value: Any) -> tuple[str, ...]:
    names = tuple(map(current_run_type, read_patterns(value)))
    for name in names:
        if name not in RUN_TYPES and set(name).isdisjoint("*?["):
            raise ValueError(f"has the unknown run type {safe_repr(name)}: {suggest(name, RUN_TYPES)}")
    return names


def _check_ignore(value: Any) -> bool:
    if not isinstance(value, bool):
        raise ValueError(f"must be true or false, without quotes, not {safe_repr(value)}")  # noqa: TRY004 - a fault of the file
    return value


def _check_integer(value: Any, *, least: int, most: int) -> int:
    if not isinstance(value, int) or isinstance(value, bool) or not least <= value <= most:
        raise ValueError(f"must be an integer from {least} to {most}, without quotes, not {safe_repr(value)}")
    return value


# A DAG may have switched these extensions on for its templates.
_JINJA_ENV = Environment(autoescape=True, extensions=["jinja2.ext.do", "jinja2.ext.loopcontrols"])


def _check_template(value: Any) -> Any:
    """Return a value, if its templates can be parsed."""
    texts = value if isinstance(value, list) else [value]
    for text in filter(is_template, texts):
        try:
            _JINJA_ENV.parse(text)
        except TemplateSyntaxError as exc:
            raise ValueError(f"is not a valid template: {_shown(str(exc.message))}") from None
    return value


_RULES: Mapping[str, Callable[[Any], Any]] = {
    **dict.fromkeys(MATCHERS, read_patterns),
    "run_types": _read_run_types,
    **dict.fromkeys(TODO_FIELDS, _check_template),
    "ignore": _check_ignore,
    "bzctrl_conn_id": _check_template,
    "dedup_window_s": partial(_check_integer, least=0, most=WINDOW_MAX_S),
    "dedup_key": _check_template,
    "consecutive_failures": partial(_check_integer, least=1, most=FAILURES_MAX),
}
"""All that a route can have: matchers and fields, each with what returns its value, or raises ``ValueError``."""


def _shown(text: str) -> str:
    return one_line(text, max_chars=NAME_CHARS)


class LoadedRoutes(NamedTuple):
    """The result of loading a routes file.

    :param routes: the routes of the file, or of its last good version; None if there is none in this process.
    :param errors: the faults of the present version; empty if it is good.
    :param note: a sentence for the description of an incident if there are faults; empty otherwise.
    """

    routes: tuple[Route, ...] | None
    errors: tuple[str, ...] = ()
    note: str = ""


class RoutesFile:
    """A routes file, which is read when it is first needed, and again after it changed.

    Neither a missing nor a faulty file costs an incident: the last good version of this process stays in use, and one
    ERROR has every fault.

    :param path: the file.
    """

    def __init__(self, path: str | Path) -> None:
        self._path = Path(path)
        self._version: object = None
        self._loaded = LoadedRoutes(None)

    def load(self) -> LoadedRoutes:
        """Return the routes of the file as it is now; it is read only if it changed."""
        try:
            status = self._path.stat()
            version = (status.st_mtime_ns, status.st_size, status.st_ino)
            if version != self._version:
                self._loaded = LoadedRoutes(parse_routes(self._path.read_text(encoding="utf-8")))
        except RoutesError as exc:
            self._loaded = self._with_errors(exc.args)
        except (OSError, ValueError) as exc:  # ValueError: no UTF-8, or a path with a null character
            self._loaded = self._with_errors((f"cannot be read: {getattr(exc, 'strerror', None) or exc}",))
            version = None  # read again each time: new permissions do not change the version
        self._version = version
        return self._loaded

    def _with_errors(self, errors: tuple[str, ...]) -> LoadedRoutes:
        last_good = self._loaded.routes
        used = "the defaults are used" if last_good is None else "its last good version is used"
        if errors != self._loaded.errors:
            shown = "".join(f"\n  {error}" for error in errors)
            log.error("The routes file %s has faults, so %s. Fix the following:%s", self._path, used, shown)
        count = "a fault" if len(errors) == 1 else f"{len(errors)} faults"
        note = f"The routes file {self._path.name} has {count}, so {used}. The first: {errors[0]}."
        return LoadedRoutes(last_good, errors, note)


open_routes = cache(RoutesFile)
"""The file of a path: one for each, because it keeps the last good version."""
