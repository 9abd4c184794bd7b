"""The memory that a bulk uses beside its results."""

from __future__ import annotations

from typing import TYPE_CHECKING

from bench.figures import Figure, figure

if TYPE_CHECKING:
    from bench.processes import Bench

_ROUNDS = 5
_THREADS = 8


def measure(bench: Bench) -> list[Figure]:
    """Measure the peak of 1,000 and of 10,000 todos from a generator, less what their results hold."""
    few, many = (100, 1000) if bench.is_quick else (1000, 10_000)
    beside: dict[int, list[float]] = {few: [], many: []}
    per_result: list[float] = []
    for _ in range(bench.rounds(_ROUNDS)):
        for number, of in beside.items():
            measured = bench.child("bulk", "memory", number, _THREADS, run=bench.new_run())
            of.append((measured["peak"] - measured["results"]) / 1024)
            per_result.append(measured["results"] / number)
    growth = [of_many / of_few for of_many, of_few in zip(beside[many], beside[few], strict=True)]
    return [
        figure(
            "memory.bulk",
            f"memory of {many:,} todos / {few:,} todos from a generator, less the results",
            growth,
        ),
        figure("memory.beside_kib", f"memory of {many:,} todos, less the results", beside[many], "KiB"),
        figure("memory.result_bytes", "memory of one result", per_result, "B"),
    ]
