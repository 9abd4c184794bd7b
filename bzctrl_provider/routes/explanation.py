"""Explain to a person which route gives each field, and why the others do not fit."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from bzctrl_provider.text import safe_repr

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from bzctrl_provider.routes.route import Route, RouteFacts, Routes, Routing


@dataclass(frozen=True)
class Verdict:
    """State whether a route fits.

    :param route: the route.
    :param mismatch: the first matcher that does not fit; None if all do.
    :param is_unknown: whether that matcher does not fit because nothing is known to match.
    """

    route: Route
    mismatch: str | None
    is_unknown: bool

    @property
    def reason(self) -> str:
        """Return the reason as a text such as ``owners does not match``."""
        if self.mismatch is None:
            return "fits"
        return f"{self.mismatch} {'is not known' if self.is_unknown else 'does not match'}"


@dataclass(frozen=True)
class Explanation:
    """Hold the fields that the routes set for a failure, and why.

    :param routing: the fields, each with its route.
    :param verdicts: one for each route, in the order of the file.
    """

    routing: Routing
    verdicts: tuple[Verdict, ...]

    def lines(self) -> Iterator[str]:
        """Yield lines of text: the fields, then the routes."""
        for name, given in self.routing.fields.items():
            line = given.route.line_of(name)
            where = f"{given.route.label}, line {line}" if line != given.route.line else given.route.label
            yield f"{name} = {safe_repr(_plain(given.value), max_chars=200)} from {where}"
        if not self.routing.fields:
            yield "No route sets a field."
        for verdict in self.verdicts:
            yield f"{verdict.route.label}: {verdict.reason}"

    def as_dict(self) -> dict[str, Any]:
        """Return the same as plain JSON data; dates as ISO 8601 text."""
        return {
            "fields": {
                name: {
                    "value": _plain(given.value),
                    "route": given.route.number,
                    "line": given.route.line_of(name),
                }
                for name, given in self.routing.fields.items()
            },
            "routes": [
                {
                    "route": verdict.route.number,
                    "line": verdict.route.line,
                    "fits": verdict.mismatch is None,
                    "reason": verdict.reason,
                }
                for verdict in self.verdicts
            ],
        }


def explain(routes: Routes, facts: RouteFacts) -> Explanation:
    """Return which route gives each field of a failure, and why the others do not fit."""
    names = facts.as_names()
    return Explanation(routes.apply(facts), tuple(_judge(route, names) for route in routes))


def _judge(route: Route, names: Mapping[str, tuple[str, ...] | None]) -> Verdict:
    mismatch = route.mismatch(names)
    return Verdict(route, mismatch, is_unknown=mismatch is not None and names[mismatch] is None)


def _plain(value: Any) -> Any:
    return value.isoformat() if hasattr(value, "isoformat") else value
