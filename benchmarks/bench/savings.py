"""Where the CPU of a todo goes, and what each saving is worth."""

from __future__ import annotations

from typing import TYPE_CHECKING

from bench.figures import Figure, figure

if TYPE_CHECKING:
    from bench.processes import Bench

_ROUNDS = 600
_PROFILED_TODOS = 10_000


def measure(bench: Bench) -> list[tuple[Figure, Figure]]:
    """Return what each saving saves a todo, in time and in CPU."""
    saved = bench.child("savings", bench.rounds(_ROUNDS), run=bench.new_run())
    return [
        (
            figure("savings.time", name, [time for time, _ in of], "µs"),
            figure("savings.cpu", name, [cpu for _, cpu in of], "µs"),
        )
        for name, of in saved.items()
    ]


def profile(bench: Bench) -> dict[str, float]:
    """Return the share of each part in the CPU of a todo."""
    run = bench.new_run()
    return bench.child("profile", run, 100 if bench.is_quick else _PROFILED_TODOS, run=run)
