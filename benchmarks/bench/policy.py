"""The cost of the deployment's policy for each DAG."""

from __future__ import annotations

from typing import TYPE_CHECKING

from bench.figures import Figure, figure

if TYPE_CHECKING:
    from bench.processes import Bench

_ROUNDS = 50


def measure(bench: Bench) -> list[Figure]:
    """Measure a DAG to which the policy does not apply, and one to which it does."""
    measured = bench.child("policy", bench.rounds(_ROUNDS))
    return [
        figure(
            "policy.excluded",
            "`dag_policy` of a DAG that tags and patterns exclude",
            measured["excluded"],
            "µs",
        ),
        figure("policy.applies", "`dag_policy` of a DAG that gets the notifier", measured["applies"], "µs"),
        figure("policy.off", "`dag_policy` if the option is off", measured["off"], "µs"),
    ]
