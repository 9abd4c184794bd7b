"""The cost of importing an operator or a notifier in a DAG file, at every parse."""

from __future__ import annotations

from statistics import median
from typing import TYPE_CHECKING

from bench.figures import Figure, figure, ratios

if TYPE_CHECKING:
    from bench.processes import Bench

_ROUNDS = 40
_OPERATOR = "bzctrl_provider.operators.bzctrl"
_MODULES = {
    "bash": ("the bash operator", "airflow.providers.standard.operators.bash"),
    "operator": ("our operator", _OPERATOR),
    "notifier": ("our notifier", "bzctrl_provider.notifications.bzctrl"),
    "http": ("the http operator", "airflow.providers.http.operators.http"),
    "pagerduty": ("the pagerduty notifier", "airflow.providers.pagerduty.notifications.pagerduty"),
    "opsgenie": ("the opsgenie notifier", "airflow.providers.opsgenie.notifications.opsgenie"),
    "slack": ("the slack notifier", "airflow.providers.slack.notifications.slack"),
    "jira": ("the jira operator", "airflow.providers.atlassian.jira.operators.jira"),
}
_LATER = {
    "what a running task needs of ours: `failure`, `memory`, `dedup`": (
        "bzctrl_provider.failure,bzctrl_provider.memory,bzctrl_provider.dedup"
    ),
    "the client with `requests`": "bzctrl_provider.client.api",
}
"""Modules that are imported when a task runs; at the top of a module they would cost every parse."""


def measure(bench: Bench) -> list[Figure]:
    """Measure the CPU of imports, each in a fresh process."""
    rounds = bench.child("imports", bench.rounds(_ROUNDS), *(module for _, module in _MODULES.values()))[
        "measured"
    ]
    cpu = dict(zip(_MODULES, zip(*rounds, strict=True), strict=True))
    return [
        *(
            figure(
                f"imports.{name}",
                f"CPU of importing {text} / the bash operator",
                ratios(cpu[name], cpu["bash"]),
            )
            for name, (text, _) in _MODULES.items()
            if name != "bash"
        ),
        figure("imports.bash_ms", "CPU of importing the bash operator", cpu["bash"], "ms"),
    ]


def worth_of_lazy_imports(bench: Bench) -> list[tuple[str, float]]:
    """Return the CPU milliseconds that importing the operator is spared by what is imported later."""
    contestants = [_OPERATOR, *(f"{_OPERATOR},{modules}" for modules in _LATER.values())]
    rounds = bench.child("imports", bench.rounds(_ROUNDS), *contestants)["measured"]
    operator, *more = zip(*rounds, strict=True)
    return [
        (text, median(with_it - without for with_it, without in zip(of, operator, strict=True)))
        for text, of in zip(_LATER, more, strict=True)
    ]
