"""Explain to a person which route gives each field, and why the others do not fit."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from bzctrl_provider.limits import NAME_CHARS
from bzctrl_provider.text import safe_repr

if TYPE_CHECKING:
    from collections.abc import Iterator

    from bzctrl_provider.routes.route import Route, RouteFacts, Routes, Routing


@dataclass(frozen=True)
class Explanation:
    """The fields that the routes set for a failure, and why.

    :param routing: the fields, each with its route.
    :param verdicts: each route in the order of the file, with the reason why it does not fit; None if it fits.
    """

    routing: Routing
    verdicts: tuple[tuple[Route, str | None], ...]

    def lines(self) -> Iterator[str]:
        """Yield lines of text: the fields, then the routes."""
        for name, given in self.routing.fields.items():
            yield f"{name} = {safe_repr(_plain(given.value), max_chars=NAME_CHARS)} from {given.route.label}"
        if not self.routing.fields:
            yield "No route sets a field."
        for route, reason in self.verdicts:
            yield f"{route.label}: {reason or 'fits'}"

    def as_dict(self) -> dict[str, Any]:
        """Return the same as plain JSON data; dates as ISO 8601 text."""
        return {
            "fields": {
                name: {"value": _plain(given.value), "route": given.route.number}
                for name, given in self.routing.fields.items()
            },
            "routes": [
                {"route": route.number, "fits": reason is None, "reason": reason or "fits"}
                for route, reason in self.verdicts
            ],
        }


def explain(routes: Routes, facts: RouteFacts) -> Explanation:
    """Return which route gives each field of a failure, and why the others do not fit."""
    names = facts.as_names()

    def judge(route: Route) -> str | None:
        mismatch = route.mismatch(names)
        if mismatch is None:
            return None
        return f"{mismatch} {'is not known' if names[mismatch] is None else 'does not match'}"

    return Explanation(routes.apply(facts), tuple((route, judge(route)) for route in routes))


def _plain(value: Any) -> Any:
    return value.isoformat() if hasattr(value, "isoformat") else value
