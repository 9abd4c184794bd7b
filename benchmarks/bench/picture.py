"""The figures as a picture for the docs."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import matplotlib as mpl

mpl.use("svg")
from matplotlib import pyplot as plt
from matplotlib.ticker import FuncFormatter

if TYPE_CHECKING:
    from pathlib import Path

    from matplotlib.axes import Axes

_OURS, _OTHER, _BOUND = "#1f6f8b", "#c8553d", "#9a9a9a"
_SHOWN = {
    "create.time": "time of create_todo / bare session",
    "create.cpu": "CPU of the same",
    "create.time_http_hook": "time of create_todo / two HttpHook calls",
    "imports.operator": "import of the operator / bash operator",
    "imports.notifier": "import of the notifier / bash operator",
    "parse.first": "first parse of 100 / 100 bash operators",
    "parse.serialize": "serialization of 100 / 100 bash operators",
    "bulk.threads_8": "latency bound / time, 8 threads",
    "bulk.threads_32": "latency bound / time, 32 threads",
    "memory.bulk": "memory of 10,000 todos / 1,000",
}


def draw(results: dict[str, Any], file: Path) -> None:
    """Write the picture as SVG, the same for the same results."""
    mpl.rcParams.update(
        {
            "font.size": 9,
            "svg.hashsalt": "bzctrl",
            "axes.spines.top": False,
            "axes.spines.right": False,
            "figure.facecolor": "white",
        }
    )
    picture, ((ratios, todos), (threads, failures)) = plt.subplots(
        2, 2, figsize=(11, 7.6), layout="constrained"
    )
    _ratios(ratios, results["figures"])
    growth = results["growth"]
    _curve(todos, growth["ms_a_todo"], "time of a todo, by how many one process creates", "todos", "ms each")
    _curve(
        threads,
        growth["todos_a_second"],
        "todos a second at 50 ms latency, by threads",
        "threads",
        "todos a second",
    )
    _line(threads, growth["todos_a_second_bound"], "latency bound", _BOUND, style="--")
    threads.legend(frameon=False)
    threads.set_xscale("log", base=2)
    _curve(
        failures,
        growth["ms_of_failed_tasks"],
        "one incident's text, by how many tasks failed",
        "failed",
        "ms of CPU",
        label="tasks",
    )
    _line(failures, growth["ms_of_failed_instances"], "instances of one mapped task", _OTHER)
    failures.legend(frameon=False)
    for axes in (todos, threads, failures):
        axes.xaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:,.0f}"))
        axes.yaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:,g}"))
        axes.grid(alpha=0.25)
    picture.savefig(file, format="svg", metadata={"Date": None, "Creator": None})
    plt.close(picture)


def _ratios(axes: Axes, figures: list[dict[str, Any]]) -> None:
    by_key = {row["key"]: row for row in figures}
    rows = [by_key[key] for key in _SHOWN]
    heights = range(len(rows), 0, -1)
    for height, row in zip(heights, rows, strict=True):
        axes.barh(height, row["value"], height=0.55, color=_OURS)
        axes.plot([row["low"], row["high"]], [height, height], color="black", linewidth=1)
        relation, bound = row["goal"].rsplit(" ", 1)
        axes.plot([float(bound)] * 2, [height - 0.42, height + 0.42], color=_OTHER, linewidth=2)
        sign = "≤" if relation == "at most" else "≥"
        axes.text(2.12, height, f"{row['value']:.2f}  {sign} {bound}", va="center", fontsize=8)
    axes.set_yticks(list(heights), list(_SHOWN.values()))
    axes.set_xlim(0, 2.7)
    axes.set_xticks([0, 0.5, 1, 1.5, 2])
    axes.set_title("ratios, their spread and their goals (red)", fontsize=10, loc="left")


def _curve(
    axes: Axes, points: dict[str, float], title: str, x: str, y: str, *, label: str = "measured"
) -> None:
    _line(axes, points, label, _OURS)
    axes.set(xscale="log", yscale="log", xlabel=x, ylabel=y)
    axes.set_title(title, fontsize=10, loc="left")
    axes.set_xticks([int(number) for number in points])
    axes.minorticks_off()


def _line(axes: Axes, points: dict[str, float], label: str, colour: str, *, style: str = "-") -> None:
    numbers = [int(number) for number in points]
    marker = "" if style == "--" else "o"
    axes.plot(numbers, list(points.values()), style, marker=marker, markersize=4, color=colour, label=label)
