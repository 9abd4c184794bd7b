"""One route, and the rule: for each field, the first route that fits and sets it gives the value."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from bzctrl_provider.fields import TODO_FIELDS
from bzctrl_provider.patterns import fits_any

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping

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
