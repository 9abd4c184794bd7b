"""The figures as a table, for the terminal and for the docs."""

from __future__ import annotations

import json
import re
from functools import partial
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Iterable
    from pathlib import Path

_HEAD = ("figure", "median", "spread", "goal", "")


def cells(row: dict[str, Any]) -> tuple[str, str, str, str, str]:
    """Return a figure of the results as the cells of a table."""
    exact = row["low"] == row["high"] == row["value"]
    unit = f" {row['unit']}" if row["unit"] else ""
    spread = "" if exact else f"{_number(row['low'])} to {_number(row['high'])}"
    met = {True: "ok", False: "missed", None: ""}[row["met"]]
    return row["text"], _number(row["value"]) + unit, spread, row["goal"] or "", met


def text_table(figures: Iterable[dict[str, Any]]) -> str:
    """Return the table for a terminal."""
    rows = [_HEAD, *map(cells, figures)]
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    return "\n".join(
        "  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip() for row in rows
    )


def sections(results: dict[str, Any]) -> dict[str, str]:
    """Return what the docs show of the results, in Markdown, by the name of its place."""
    machine = results["machine"]
    profile = [(part, f"{share:.0%}") for part, share in results["profile"].items()]
    savings = [
        (
            time["text"],
            *(cell for row in (time, cpu) for cell in (f"{_number(row['value'])} µs", cells(row)[2])),
        )
        for time, cpu in results["savings"]
    ]
    spared = [(text, f"{_number(spared_ms)} ms") for text, spared_ms in results["spared_imports"]]
    return {
        "machine": ", ".join(
            f"{value} {name}" if name == "cores" else f"{name} {value}" for name, value in machine.items()
        )
        + ".",
        "figures": _markdown(_HEAD, map(cells, results["figures"])),
        "profile": _markdown(("part", "share of the CPU"), profile),
        "savings": _markdown(("what", "time of a todo", "spread", "CPU", "spread"), savings),
        "imports": _markdown(("what", "CPU that a parse is spared"), spared),
        "growth": _growth(results["growth"]),
    }


def _growth(growth: dict[str, Any]) -> str:
    todos = [(f"{int(number):,}", f"{_number(ms)} ms") for number, ms in growth["ms_a_todo"].items()]
    bound = growth["todos_a_second_bound"]
    threads = [
        (number, f"{rate:.0f}", f"{bound[number]:.0f}", f"{rate / bound[number]:.2f}")
        for number, rate in growth["todos_a_second"].items()
    ]
    failures = [
        (
            f"{int(number):,}",
            f"{_number(ms)} ms",
            f"{_number(growth['ms_of_failed_instances'][number])} ms",
            f"{growth['characters'][number]:,}",
        )
        for number, ms in growth["ms_of_failed_tasks"].items()
    ]
    return "\n\n".join(
        (
            _markdown(("todos, one after another", "each takes"), todos),
            _markdown(("threads", "todos a second", "latency bound", "share"), threads),
            _markdown(
                ("failed", "as tasks", "as instances of one mapped task", "characters (tasks)"), failures
            ),
        )
    )


def put_into(page: Path, results: dict[str, Any]) -> None:
    """Write the sections between their markers in a page."""
    page.write_text(filled(page.read_text(encoding="utf-8"), results), encoding="utf-8")


def filled(text: str, results: dict[str, Any]) -> str:
    """Return a page's text with the sections between their markers.

    :raises ValueError: names a marker that the page lacks.
    """
    for name, section in sections(results).items():
        marked = re.compile(rf"(<!-- measured: {name} -->\n).*?(<!-- end -->)", re.DOTALL)
        text, found = marked.subn(partial(_between_markers, section), text)
        if found != 1:
            raise ValueError(f"The page needs one marker for {name}, and has {found}.")
    return text


def _between_markers(section: str, markers: re.Match[str]) -> str:
    return f"{markers[1]}\n{section}\n\n{markers[2]}"


def written(results: dict[str, Any]) -> str:
    """Return the results as the text of a JSON file."""
    return json.dumps(results, indent=1, ensure_ascii=False) + "\n"


def _markdown(head: Iterable[str], rows: Iterable[Iterable[str]]) -> str:
    lines = [list(head), *map(list, rows)]
    lines.insert(1, ["---"] * len(lines[0]))
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


def _number(value: float) -> str:
    """Write a number with three digits that count, or all of a whole one."""
    if float(value).is_integer() or abs(value) >= 100:  # noqa: PLR2004 - three digits
        return f"{value:,.0f}"
    return f"{value:.1f}" if abs(value) >= 10 else f"{value:.2f}"  # noqa: PLR2004 - the same
