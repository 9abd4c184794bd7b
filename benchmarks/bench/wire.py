"""The numbers of requests and connections, which ordinary tests check as well."""

from __future__ import annotations

from typing import TYPE_CHECKING

from bench.figures import Figure, figure

if TYPE_CHECKING:
    from bench.processes import Bench

_ONE_BY_ONE = 100
_AT_A_TIME = 500
_THREADS = 16


def measure(bench: Bench) -> list[Figure]:
    """Count requests and connections of one hook, one by one and at a time."""
    run = bench.new_run()
    bench.child("growth", "todos", _ONE_BY_ONE, run=run)
    single = bench.counts(run)
    run = bench.new_run()
    bench.child("bulk", "memory", _AT_A_TIME, _THREADS, run=run)
    bulk = bench.counts(run)
    many = f"of todos by {_THREADS} threads"
    return [
        figure(
            "wire.requests",
            f"requests for {_ONE_BY_ONE} todos through one hook",
            [sum(single.values()) - single["connections"]],
        ),
        figure("wire.connections", "connections for them", [single["connections"]]),
        figure("wire.bulk_tokens", f"token requests {many}", [bulk["token"]]),
        figure("wire.bulk_connections", f"connections {many}", [bulk["connections"]]),
    ]
