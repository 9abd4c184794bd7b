"""A measured figure, and what a series of measurements is summed up to."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from statistics import median, quantiles
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Sequence

    from bench.goals import Goal


@dataclass(frozen=True, kw_only=True)
class Figure:
    """One line of the table.

    :param key: names it among the goals.
    :param text: what it is, for people.
    :param value: the median.
    :param low: the lower quartile.
    :param high: the upper quartile.
    :param unit: nothing for a ratio.
    """

    key: str
    text: str
    value: float
    low: float
    high: float
    unit: str = ""

    def as_row(self, goal: Goal | None) -> dict[str, Any]:
        """Return it with its goal, as plain JSON."""
        row: dict[str, Any] = {
            name: round(of, 4) if isinstance(of, float) else of for name, of in asdict(self).items()
        }
        met = None if goal is None else goal.is_met_by(self.value)
        return row | {"goal": str(goal) if goal else None, "met": met}


def figure(key: str, text: str, values: Sequence[float], unit: str = "") -> Figure:
    """Sum up a series."""
    low, _, high = quantiles(values, n=4) if len(values) > 1 else [values[0]] * 3
    return Figure(key=key, text=text, value=float(median(values)), low=low, high=high, unit=unit)


def ratios(ours: Sequence[float], theirs: Sequence[float]) -> list[float]:
    """Return the ratio of each round."""
    return [mine / other for mine, other in zip(ours, theirs, strict=True)]
