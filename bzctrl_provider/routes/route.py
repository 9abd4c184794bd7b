"""One route, and the rule: for each field, the first route that fits and sets it gives the value."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from bzctrl_provider.fields import TODO_FIELDS
from bzctrl_provider.patterns import Patterns

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping

MATCHERS = ("dags", "tags", "owners", "tasks", "run_types", "teams", "files")

OPTION_FIELDS = ("ignore", "bzctrl_conn_id", "dedup_window_s", "dedup_key", "consecutive_failures")

ROUTE_FIELDS = (*TODO_FIELDS, *OPTION_FIELDS)
"""All that a route can set."""

_PLACE_FIELDS = ("domain_workspace", "domain", "workspace")

_OLD_RUN_TYPES = {"dataset_triggered": "asset_triggered"}
"""The names of Airflow 2.11 that Airflow 3 replaced."""


def current_run_type(run_type: object) -> str:
    """Return the name that Airflow 3 has for a run type of Airflow 2.11 or 3.

    :param run_type: its name, or Airflow's enumeration of them.
    """
    # Not str(): the enumeration of Airflow's task SDK makes "DagRunType.MANUAL" of it.
    name = str(getattr(run_type, "value", run_type))
    return _OLD_RUN_TYPES.get(name, name)


def split_owners(owner: str) -> tuple[str, ...]:
    """Return the owners of a DAG, which Airflow joins to ``"customs, finance"``."""
    return tuple(name for part in owner.split(",") if (name := part.strip()))


@dataclass(frozen=True, kw_only=True)
class RouteFacts:
    """State what is known of a failure when it is routed. None is unknown, and fits no matcher.

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
        return {
            "dags": _one(self.dag_id),
            "tags": None if self.tags is None else tuple(self.tags),
            "owners": None if self.owner is None else split_owners(self.owner),
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
    """Hold one ``[[route]]``.

    :param number: its position in the file, from 1.
    :param line: the line of its ``[[route]]``, from 1; 0 for a default of this package.
    :param matchers: the patterns of each matcher; all have to fit, and none fits every failure.
    :param fields: the values of ``ROUTE_FIELDS`` that it sets; templates as they are written.
    :param lines: the line of each key.
    """

    number: int
    line: int = 0
    matchers: Mapping[str, Patterns] = field(default_factory=dict)
    fields: Mapping[str, Any] = field(default_factory=dict)
    lines: Mapping[str, int] = field(default_factory=dict)

    @property
    def label(self) -> str:
        """Return its number and its line: ``route 2 (line 5)``."""
        return f"route {self.number} (line {self.line})" if self.line else "the default without routes"

    def line_of(self, key: str) -> int:
        """Return the line of a key, or the route's own line if the key's is unknown."""
        return self.lines.get(key, self.line)

    def mismatch(self, names: Mapping[str, tuple[str, ...] | None]) -> str | None:
        """Return the first matcher that does not fit, or None if the route fits.

        :param names: see ``RouteFacts.as_names``.
        """
        for matcher, patterns in self.matchers.items():
            known = names[matcher]
            if known is None or not patterns.match_any(known):
                return matcher
        return None


@dataclass(frozen=True)
class RoutedField:
    """Hold a value with the route that gives it."""

    value: Any
    route: Route


@dataclass(frozen=True)
class Routing:
    """Hold the fields that the routes set for one failure.

    :param fields: the value of each field that a fitting route sets, with the route.
    """

    fields: Mapping[str, RoutedField]

    @property
    def todo_fields(self) -> dict[str, Any]:
        """Return the fields of the todo, as templates."""
        return {name: self.fields[name].value for name in TODO_FIELDS if name in self.fields}

    @property
    def ignore(self) -> bool:
        """Return whether no incident is raised."""
        return bool(self._option("ignore"))

    @property
    def bzctrl_conn_id(self) -> str | None:
        """Return the connection's id, as a template; None if no route sets it."""
        value: str | None = self._option("bzctrl_conn_id")
        return value

    @property
    def dedup_window_s(self) -> int | None:
        """Return the window in seconds; 0 switches it off; None if no route sets it."""
        value: int | None = self._option("dedup_window_s")
        return value

    @property
    def dedup_key(self) -> str | None:
        """Return the key, as a template; None if no route sets it."""
        value: str | None = self._option("dedup_key")
        return value

    @property
    def consecutive_failures(self) -> int | None:
        """Return how many failures in a row raise an incident; None if no route sets it."""
        value: int | None = self._option("consecutive_failures")
        return value

    def _option(self, name: str) -> Any:
        return self.fields[name].value if name in self.fields else None


@dataclass(frozen=True)
class Routes:
    """Hold the routes of a file, in its order.

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


POLICY_DEFAULTS = Routes(
    (Route(number=0, matchers={"run_types": Patterns(("backfill",))}, fields={"ignore": True}),)
)
"""The routes of the policy without a routes file: a backfill raises no incidents."""
