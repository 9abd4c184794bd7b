"""The cost of one todo, beside a bare session and beside the HttpHook."""

from __future__ import annotations

from typing import TYPE_CHECKING

from bench.figures import Figure, figure, ratios

if TYPE_CHECKING:
    from bench.processes import Bench

_ROUNDS = 400


def measure(bench: Bench) -> list[Figure]:
    """Measure time and CPU of ``hook.create_todo``."""
    run = bench.new_run()
    measured = bench.child("create", run, bench.rounds(_ROUNDS), run=run)

    def beside(key: str, text: str, other: str, column: int) -> Figure:
        ours, theirs = ([of[column] for of in measured[name]] for name in ("ours", other))
        return figure(key, text, ratios(ours, theirs))

    def absolute(name: str, text: str) -> Figure:
        return figure(
            f"create.{name}_us", f"CPU of one todo {text}", [of[1] * 1e6 for of in measured[name]], "µs"
        )

    return [
        beside("create.time", "time of `hook.create_todo` / a bare `requests.Session` post", "session", 0),
        beside("create.cpu", "CPU of the same", "session", 1),
        beside("create.time_http_hook", "time of `hook.create_todo` / two HttpHook calls", "http_hook", 0),
        beside("create.cpu_http_hook", "CPU of the same", "http_hook", 1),
        absolute("ours", "by `hook.create_todo`"),
        absolute("session", "by a bare session"),
        absolute("http_hook", "by two HttpHook calls"),
    ]
