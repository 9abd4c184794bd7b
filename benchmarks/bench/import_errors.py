"""The cost of the listener for import errors: its import in each process of Airflow, and its calls in the DAG processor."""

from __future__ import annotations

from typing import TYPE_CHECKING

from bench.figures import Figure, figure

if TYPE_CHECKING:
    from bench.processes import Bench

_ROUNDS = 5


def measure(bench: Bench) -> list[Figure]:
    """Measure the listener from its import to the incident that it writes."""
    measured = bench.child("import_errors", bench.rounds(_ROUNDS))
    texts = {
        "plugin": ("CPU of importing the plugin with its listener for import errors", "ms"),
        "off": ("CPU of the listener if the option is off", "µs"),
        "broken": (
            "CPU of the listener for a file that has been broken for less than the grace period",
            "µs",
        ),
        "first": ("CPU of the listener for the first incident of a process, with its imports", "ms"),
        "incident": ("CPU of the listener for a further incident", "ms"),
        "known": ("CPU of the listener for a file whose incident was delivered", "µs"),
    }
    return [
        figure(f"import_errors.{name}", text, measured[name], unit) for name, (text, unit) in texts.items()
    ]
