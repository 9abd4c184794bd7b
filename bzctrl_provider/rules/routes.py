"""Whose incident it is, and whether to raise one: the rules of a ``bzctrl_routes.toml``.

For each field, the first route that fits and sets it gives the value. All faults of a file are found at once. A file is read
again after it changed, and nothing that is wrong with it costs an incident.
"""

from __future__ import annotations

import difflib
import logging
import re
import tomllib
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

from jinja2 import Environment, TemplateSyntaxError

from bzctrl_provider.client.todo import Todo
from bzctrl_provider.exceptions import BzCtrlValidationError
from bzctrl_provider.fields import TODO_FIELDS
from bzctrl_provider.text import (
    FAILURES_MAX,
    NAME_CHARS,
    WINDOW_MAX_S,
    fits_any,
    one_line,
    read_patterns,
    safe_repr,
)

if TYPE_CHECKING:
    import os
    from collections.abc import Callable, Iterable, Iterator, Mapping

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

ROUTE_FIELDS = (
    *TODO_FIELDS,
    "ignore",
    "bzctrl_conn_id",
    "dedup_window_s",
    "dedup_key",
    "consecutive_failures",
)
"""All that a route can set."""

_PLACE_FIELDS = ("domain_workspace", "domain", "workspace")


def current_run_type(run_type: object) -> str:
    """Return the name that Airflow 3 has for a run type of Airflow 2.11 or 3.

    :param run_type: its name, or Airflow's enumeration of them.
    """
    # Not str(): the enumeration of Airflow's task SDK makes "DagRunType.MANUAL" of it.
    name = str(getattr(run_type, "value", run_type))
    return "asset_triggered" if name == "dataset_triggered" else name


@dataclass(frozen=True, kw_only=True)
class RouteFacts:
    """The known facts of a failure that is routed. None is unknown, and fits no matcher.

    :param dag_id: the id of the DAG.
    :param tags: the DAG's tags.
    :param owner: the DAG's owners, joined with commas as Airflow has them.
    :param task_ids: the tasks that failed; a route fits if it matches any of them.
    :param run_type: the type of the DAG run: its name in Airflow 2.11 or 3, or Airflow's enumeration.
    :param team: the DAG's team, from Airflow 3.3 on.
    :param file: the path of a DAG file with an import error, relative to its folder.
    """

    dag_id: str | None = None
    tags: Iterable[str] | None = None
    owner: str | None = None
    task_ids: Iterable[str] | None = None
    run_type: object = None
    team: str | None = None
    file: str | None = None

    def as_names(self) -> dict[str, tuple[str, ...] | None]:
        """Return the names to match for each matcher; None if they are unknown."""
        owners = None if self.owner is None else map(str.strip, self.owner.split(","))
        return {
            "dags": _one(self.dag_id),
            "tags": None if self.tags is None else tuple(self.tags),
            "owners": None if owners is None else tuple(filter(None, owners)),
            # An incident without a known task is one whose tasks Airflow does not report.
            "tasks": tuple(self.task_ids or ()) or None,
            "run_types": None if self.run_type is None else (current_run_type(self.run_type),),
            "teams": _one(self.team),
            "files": _one(self.file),
        }


def _one(name: str | None) -> tuple[str, ...] | None:
    return None if name is None else (name,)


@dataclass(frozen=True, kw_only=True)
class Route:
    """One ``[[route]]``.

    :param number: its position in the file, from 1; 0 for a default of this package.
    :param matchers: the patterns of each matcher; all have to fit, and none fits every failure.
    :param fields: the values of ``ROUTE_FIELDS`` that it sets; templates as they are written.
    """

    number: int
    matchers: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    fields: Mapping[str, Any] = field(default_factory=dict)

    @property
    def label(self) -> str:
        """Return its number, as in ``route 2``."""
        return f"route {self.number}" if self.number else "the default without routes"

    def mismatch(self, names: Mapping[str, tuple[str, ...] | None]) -> str | None:
        """Return the first matcher that does not fit, or None if the route fits.

        :param names: see ``RouteFacts.as_names``.
        """
        for matcher, patterns in self.matchers.items():
            if not any(fits_any(patterns, name) for name in names[matcher] or ()):
                return matcher
        return None


@dataclass(frozen=True)
class RoutedField:
    """A value with the route that gives it."""

    value: Any
    route: Route


@dataclass(frozen=True)
class Routing:
    """The fields that the routes set for one failure.

    :param fields: the value of each field that a fitting route sets, with the route.
    """

    fields: Mapping[str, RoutedField]

    @property
    def ignored_by(self) -> Route | None:
        """Return the route by which no incident is raised; None if one is raised."""
        given = self.fields.get("ignore")
        return given.route if given and given.value else None


@dataclass(frozen=True)
class Routes:
    """The routes of a file, in its order.

    :param routes: the routes.
    """

    routes: tuple[Route, ...] = ()

    def __iter__(self) -> Iterator[Route]:
        return iter(self.routes)

    def __len__(self) -> int:
        return len(self.routes)

    def apply(self, facts: RouteFacts) -> Routing:
        """Return for each field the value of the first route that fits and sets it.

        ``domain_workspace``, ``domain`` and ``workspace`` are one place: the first fitting route that sets any of them
        gives all of them.
        """
        names = facts.as_names()
        fields: dict[str, RoutedField] = {}
        for route in self.routes:
            if route.mismatch(names) is None:
                has_place = any(name in fields for name in _PLACE_FIELDS)
                for name, value in route.fields.items():
                    if name not in fields and not (has_place and name in _PLACE_FIELDS):
                        fields[name] = RoutedField(value, route)
        return Routing(fields)


POLICY_DEFAULTS = Routes((Route(number=0, matchers={"run_types": ("backfill",)}, fields={"ignore": True}),))
"""The routes of the policy without a routes file: a backfill raises no incidents."""


class RoutesError(ValueError):
    """All faults of a routes file.

    :param errors: each is one line with the number of its route, its key and the remedy.
    """

    def __init__(self, *errors: str) -> None:
        super().__init__(*errors)
        self.errors = errors

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
    errors = [
        f"{_shown(name)} is unknown: each route begins with [[route]]" for name in document if name != "route"
    ]
    tables = document.get("route", [])
    routes = []
    if not isinstance(tables, list):
        errors.append("a route begins with [[route]], in two pairs of brackets")
    elif not tables and not errors:
        errors.append("has no route: write [[route]] and its keys below it, or unset routes_path")
    else:
        for number, table in enumerate(tables, 1):
            parser = _RouteParser(number)
            routes.append(parser.parse(table))
            errors += parser.errors
    if errors:
        raise RoutesError(*errors)
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


@dataclass(frozen=True)
class LoadedRoutes:
    """The result of loading a routes file.

    :param routes: the routes of the file, or of its last good version; None if there is none in this process.
    :param errors: the faults of the present version; empty if it is good.
    :param note: a sentence for the description of an incident if there are faults; empty otherwise.
    """

    routes: Routes | None
    errors: tuple[str, ...] = ()
    note: str = ""


class RoutesFile:
    """A routes file, which is read when it is first needed, and again after it changed.

    Neither a missing nor a faulty file costs an incident: the last good version of this process stays in use, and one
    ERROR has every fault.

    :param path: the file.
    """

    def __init__(self, path: str | os.PathLike[str]) -> None:
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
            self._loaded = self._with_errors(exc.errors)
        except (OSError, ValueError) as exc:  # ValueError: no UTF-8, or a path with a null character
            reason = exc.strerror if isinstance(exc, OSError) and exc.strerror else str(exc)
            self._loaded = self._with_errors((f"cannot be read: {reason}",))
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
