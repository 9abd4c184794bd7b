"""The measured figures as a table, for the terminal and for the page on performance."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

from bench.figures import FIGURES

if TYPE_CHECKING:
    from collections.abc import Mapping

    from bench.figures import Figure, Measured

HEAD = ("figure", "median", "quartiles", "goal", "")


def cells(figure: Figure, measured: Measured) -> tuple[str, str, str, str, str]:
    """Return a figure as the cells of a table."""
    unit = f" {figure.unit}" if figure.unit else ""
    quartiles = f"{_number(measured.low)} to {_number(measured.high)}"
    if figure.goal is None:
        return figure.text, _number(measured.value) + unit, quartiles, "", ""
    verdict = "ok" if figure.goal.is_met_by(measured.value) else "missed"
    return figure.text, _number(measured.value) + unit, quartiles, f"{figure.goal}{unit}", verdict


def text_table(measured: Mapping[str, Measured]) -> str:
    """Return the table for a terminal."""
    rows = [HEAD, *_rows(measured)]
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    return "\n".join(
        "  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip() for row in rows
    )


def filled(page: str, machine: str, measured: Mapping[str, Measured]) -> str:
    """Return the text of a page with the machine and the table between their markers.

    :raises ValueError: names a marker that the page lacks.
    """
    lines = [HEAD, ("---",) * len(HEAD), *_rows(measured)]
    sections = {"machine": machine, "figures": "\n".join(f"| {' | '.join(line)} |" for line in lines)}
    for name, section in sections.items():
        begin = f"<!-- measured: {name} -->\n"
        pattern = re.compile(rf"{begin}.*?<!-- end -->", re.DOTALL)
        if not pattern.search(page):
            raise ValueError(f"The page lacks the marker of the measured {name}.")
        text = f"{begin}\n{section}\n\n<!-- end -->"
        page = pattern.sub(lambda _, text=text: text, page)  # type: ignore[misc]  # mypy infers no type for it
    return page


def _rows(measured: Mapping[str, Measured]) -> list[tuple[str, ...]]:
    return [cells(figure, measured[key]) for key, figure in FIGURES.items()]


def _number(value: float) -> str:
    """Write a number with three significant digits."""
    digits = 0 if abs(value) >= 100 else 1 if abs(value) >= 10 else 2  # noqa: PLR2004 - three digits
    return f"{value:,.{digits}f}"
