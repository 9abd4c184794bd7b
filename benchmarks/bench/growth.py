"""How cost grows, as curves."""

from __future__ import annotations

from statistics import median
from typing import TYPE_CHECKING, Any

from bench.bulk import LATENCY_MS, bound_s

if TYPE_CHECKING:
    from collections.abc import Callable

    from bench.processes import Bench

_ROUNDS = 3
_TODOS = (1, 10, 100, 1000, 10_000)
_THREADS = (1, 2, 4, 8, 16, 32, 64)
_FAILURES = (10, 100, 1000, 10_000)


def measure(bench: Bench) -> dict[str, Any]:
    """Return the points of each curve: the medians, by what is on the x axis."""
    last = -2 if bench.is_quick else None

    def curve(numbers: tuple[int, ...], of: Callable[[int], float]) -> dict[str, float]:
        # Round by round, so that a disturbance does not affect only one point.
        rounds = [[of(number) for number in numbers[:last]] for _ in range(bench.rounds(_ROUNDS))]
        return {
            str(number): round(median(at), 6)
            for number, at in zip(numbers, zip(*rounds, strict=True), strict=False)
        }

    def ms_a_todo(number: int) -> float:
        seconds: float = bench.child("growth", "todos", number, run=bench.new_run())["seconds"]
        return seconds / number * 1e3

    def todos_a_second(threads: int) -> float:
        # Enough of them for each thread to have a good ten turns, and for one thread not too many.
        number = max(20 * threads, 60)
        run = bench.new_run(latency_ms=LATENCY_MS)
        seconds: float = bench.child("bulk", "seconds", number, threads, run=run)["seconds"]
        return number / seconds

    def ms_of_failures(number: int, is_mapped: str) -> float:
        seconds: float = bench.child("growth", "failures", number, is_mapped)["seconds"]
        return seconds * 1e3

    return {
        "ms_a_todo": curve(_TODOS, ms_a_todo),
        "todos_a_second": curve(_THREADS, todos_a_second),
        "todos_a_second_bound": {str(threads): round(threads / bound_s(1, 1), 1) for threads in _THREADS},
        "ms_of_failed_tasks": curve(_FAILURES, lambda number: ms_of_failures(number, "tasks")),
        "ms_of_failed_instances": curve(_FAILURES, lambda number: ms_of_failures(number, "mapped")),
        "characters": {
            str(number): bench.child("growth", "failures", number, "tasks")["characters"]
            for number in _FAILURES[:last]
        },
    }
