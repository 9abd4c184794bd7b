"""The cost of the first todo in a fresh task process."""

from __future__ import annotations

from typing import TYPE_CHECKING

from bench.figures import Figure, figure, ratios

if TYPE_CHECKING:
    from bench.processes import Bench

_ROUNDS = 150
"""Many, because the figure is close to its goal, and one round is 0.1 s."""


def measure(bench: Bench) -> list[Figure]:
    """Measure the CPU of connection, token and first create."""
    measured = bench.child("cold", bench.rounds(_ROUNDS), run=bench.new_run())
    return [
        figure(
            "cold.cpu",
            "CPU of connection, token and first todo in a fresh task / a bare `requests` session doing the same",
            ratios(measured["ours"], measured["session"]),
        ),
        figure("cold.ours_ms", "CPU of the first todo by `hook.create_todo`", measured["ours"], "ms"),
    ]
