"""The figures with their goals, and the summary of a series of values."""

from __future__ import annotations

import operator
from dataclasses import dataclass
from statistics import median, quantiles
from typing import TYPE_CHECKING, Literal

if TYPE_CHECKING:
    from collections.abc import Sequence

_COMPARE = {"at most": operator.le, "at least": operator.ge}


@dataclass(frozen=True)
class Goal:
    """A bound of a figure.

    :param relation: the side of the bound on which the figure has to be.
    :param bound: the bound itself, in the unit of the figure.
    """

    relation: Literal["at most", "at least"]
    bound: float

    def is_met_by(self, value: float) -> bool:
        """Return whether a value meets the goal."""
        return bool(_COMPARE[self.relation](value, self.bound))

    def __str__(self) -> str:
        return f"{self.relation} {self.bound:g}"


@dataclass(frozen=True)
class Figure:
    """A figure that is measured.

    :param text: its description in the table.
    :param goal: its goal; a figure without one is shown for comparison.
    :param unit: its unit; a ratio has none.
    """

    text: str
    goal: Goal | None = None
    unit: str = ""


FIGURES = {
    "create.time": Figure(
        "time of `hook.create_todo` / a bare `requests.Session` post", Goal("at most", 1.15)
    ),
    "create.cpu": Figure("CPU of the same", Goal("at most", 1.15)),
    "create.time_http_hook": Figure("time of `hook.create_todo` / two HttpHook calls", Goal("at most", 0.35)),
    "create.cpu_http_hook": Figure("CPU of the same", Goal("at most", 0.35)),
    "create.ours": Figure("CPU of one todo by `hook.create_todo`", unit="µs"),
    "cold.cpu": Figure(
        "CPU of connection, token and first todo in a fresh task / a bare session doing the same",
        Goal("at most", 1.2),
    ),
    "cold.ours": Figure("CPU of the first todo by `hook.create_todo`", unit="ms"),
    "imports.operator": Figure(
        "CPU of importing our operator / importing the bash operator", Goal("at most", 2.0)
    ),
    "imports.notifier": Figure("CPU of importing our notifier / the same", Goal("at most", 2.0)),
    "imports.plugin": Figure(
        "CPU of importing the plugin, in each process of Airflow", Goal("at most", 5.0), unit="ms"
    ),
    "imports.bash": Figure("CPU of importing the bash operator", unit="ms"),
    "parse.first": Figure(
        "CPU of the first parse of 100 `CreateTodoOperator`s / 100 BashOperators", Goal("at most", 1.5)
    ),
    "parse.serialize": Figure("CPU of their serialization", Goal("at most", 1.3)),
    "log.structlog": Figure(
        "CPU of a line in the log of a task with `include_log_lines = 50` / without", Goal("at most", 1.2)
    ),
    "log.python": Figure("the same by Python's logging", Goal("at most", 1.2)),
    "log.line": Figure("CPU of a line that is kept", unit="µs"),
    "bulk.threads_8": Figure(
        "latency bound / time of 500 todos, 50 ms latency, 8 threads", Goal("at least", 0.92)
    ),
    "bulk.session_8": Figure("the same by a bare session"),
    "bulk.threads_32": Figure(
        "latency bound / time of 500 todos, 50 ms latency, 32 threads", Goal("at least", 0.88)
    ),
    "bulk.session_32": Figure("the same by a bare session"),
    "write.first_sqlite": Figure(
        "CPU of a callback's first write into the outbox, SQLite", Goal("at most", 8.0), unit="ms"
    ),
    "write.further_sqlite": Figure("CPU of a write after it", unit="ms"),
    "write.first_window_sqlite": Figure("CPU of the first write with a `dedup_window`", unit="ms"),
    "write.first_postgresql": Figure(
        "CPU of a callback's first write into the outbox, PostgreSQL", Goal("at most", 8.0), unit="ms"
    ),
    "write.further_postgresql": Figure("CPU of a write after it", unit="ms"),
    "write.first_window_postgresql": Figure("CPU of the first write with a `dedup_window`", unit="ms"),
    "delivery.share_sqlite": Figure(
        "latency bound / time of a delivery of 5,000 incidents, 50 ms latency, SQLite", Goal("at least", 0.85)
    ),
    "delivery.share_postgresql": Figure("the same, PostgreSQL", Goal("at least", 0.85)),
    "delivery.idle_sqlite": Figure(
        "time of an idle delivery with 100,000 delivered incidents / without, SQLite", Goal("at most", 1.25)
    ),
    "delivery.idle_postgresql": Figure("the same, PostgreSQL", Goal("at most", 1.25)),
    "year.rows_sqlite": Figure(
        "most incidents in a year of 10,000 failures a day, SQLite",
        Goal("at most", 8.0),
        unit="days of failures",
    ),
    "year.bytes_sqlite": Figure("most bytes in this year", Goal("at most", 250.0), unit="MB"),
    "year.rows_postgresql": Figure(
        "the same rows, PostgreSQL", Goal("at most", 8.0), unit="days of failures"
    ),
    "year.bytes_postgresql": Figure("most bytes in this year", Goal("at most", 350.0), unit="MB"),
    "policy.excluded": Figure(
        "`dag_policy` of a DAG that tags and patterns exclude", Goal("at most", 10.0), unit="µs"
    ),
    "policy.applies": Figure("`dag_policy` of a DAG that they choose", Goal("at most", 10.0), unit="µs"),
    "policy.run_excluded": Figure(
        "CPU of the listener in the scheduler for a failed run of an excluded DAG",
        Goal("at most", 10.0),
        unit="µs",
    ),
    "scheduler.policy": Figure(
        "time of scheduling loops that fail 1,000 runs, with `incident_on_failed_run` / without the provider's listener, PostgreSQL",
        Goal("at most", 1.05),
    ),
    "scheduler.loaded": Figure("the same with the listener, the option off", Goal("at most", 1.05)),
    "scheduler.hangs": Figure(
        "the same with the option, and a store that never responds", Goal("at most", 1.25)
    ),
    "scheduler.run": Figure("time of such a loop for each run without the listener", unit="ms"),
}


@dataclass(frozen=True)
class Measured:
    """The summary of the rounds of a figure.

    :param value: the median.
    :param low: the lower quartile.
    :param high: the upper quartile.
    """

    value: float
    low: float
    high: float


def summary(values: Sequence[float]) -> Measured:
    """Sum up the values of all rounds."""
    low, _, high = quantiles(values, n=4) if len(values) > 1 else (values[0],) * 3
    return Measured(median(values), low, high)


def ratios(ours: Sequence[float], theirs: Sequence[float]) -> list[float]:
    """Return the ratio of each round, so that a disturbed round does not change the median."""
    return [mine / other for mine, other in zip(ours, theirs, strict=True)]
