"""The goals of the measurements."""

from __future__ import annotations

import operator
from dataclasses import dataclass
from typing import Literal


@dataclass(frozen=True)
class Goal:
    """A bound of a figure.

    :param relation: on which side of the bound the figure has to be.
    :param bound: the bound itself.
    """

    relation: Literal["at most", "at least", "exactly"]
    bound: float

    def is_met_by(self, value: float) -> bool:
        """Return whether a figure meets the goal."""
        compare = {"at most": operator.le, "at least": operator.ge, "exactly": operator.eq}[self.relation]
        return bool(compare(value, self.bound))

    def __str__(self) -> str:
        return f"{self.relation} {self.bound:g}"


GOALS = {
    "wire.requests": Goal("exactly", 101),
    "wire.connections": Goal("exactly", 1),
    "wire.bulk_tokens": Goal("exactly", 1),
    "wire.bulk_connections": Goal("at most", 16),
    "create.time": Goal("at most", 1.0),
    "create.cpu": Goal("at most", 1.0),
    "create.time_http_hook": Goal("at most", 0.3),
    "create.cpu_http_hook": Goal("at most", 0.3),
    "cold.cpu": Goal("at most", 1.2),
    "imports.operator": Goal("at most", 2.0),
    "imports.notifier": Goal("at most", 2.0),
    "parse.first": Goal("at most", 1.5),
    "parse.serialize": Goal("at most", 1.3),
    "bulk.threads_8": Goal("at least", 0.92),
    "bulk.threads_32": Goal("at least", 0.88),
    # Ten times the todos: flat, but for how much garbage lies about at the peak.
    "memory.bulk": Goal("at most", 1.25),
    "policy.excluded": Goal("at most", 10.0),
    "policy.applies": Goal("at most", 10.0),
    "import_errors.plugin": Goal("at most", 5.0),
    "import_errors.off": Goal("at most", 10.0),
    "import_errors.known": Goal("at most", 2000.0),
    "import_errors.incident": Goal("at most", 10.0),
}
"""By the key of the figure. Figures without a goal are shown for comparison."""
