from __future__ import annotations

from pathlib import Path

import pytest
from bench import report
from bench.figures import FIGURES, Figure, Goal, ratios, summary

PAGE = Path(__file__).parents[2] / "docs" / "performance.md"


def test_page_has_each_figure_with_its_goal():
    """The table of the page has the figures of the code in their order, each with its current goal."""
    lines = [line for line in PAGE.read_text(encoding="utf-8").splitlines() if line.startswith("|")]
    rows = [tuple(cell.strip() for cell in line.strip("|").split("|")) for line in lines[2:]]
    assert [(text, goal) for text, _, _, goal, _ in rows] == [
        report.cells(figure, summary([1.0, 1.0]))[::3] for figure in FIGURES.values()
    ]
    assert [row[4] in {"ok", "missed", "not measured"} for row in rows] == [
        bool(figure.goal) for figure in FIGURES.values()
    ]


def test_goal_at_its_bound_is_met():
    """A value equal to the bound meets the goal, and the next one misses it."""
    for goal, met, missed in ((Goal("at most", 1.0), 1.0, 1.01), (Goal("at least", 0.9), 0.9, 0.89)):
        assert goal.is_met_by(met)
        assert not goal.is_met_by(missed)


def test_figure_of_several_rounds_is_their_median():
    """Each round has its own ratio, so that a disturbed round does not change the result."""
    measured = summary(ratios([1.0, 2.0, 30.0, 4.0, 5.0], [2.0, 4.0, 4.0, 8.0, 10.0]))
    assert (measured.value, measured.low, measured.high) == (0.5, 0.5, 4.0)
    missed = report.cells(Figure("t", Goal("at most", 0.4)), measured)
    assert missed == ("t", "0.50", "0.50 to 4.00", "at most 0.4", "missed")
    assert report.cells(Figure("t", Goal("at most", 0.5)), measured)[-1] == "ok"
    assert report.cells(Figure("t", unit="ms"), measured) == ("t", "0.50 ms", "0.50 to 4.00", "", "")


def test_page_is_filled_between_its_markers_only():
    """The two measured places of the page are written again, and everything else stays as it is."""
    page = PAGE.read_text(encoding="utf-8")
    measured = dict.fromkeys(FIGURES, summary([1.0, 1.0]))
    filled = report.filled(page, "a machine", measured)
    assert "\na machine\n" in filled
    assert filled.count("| 1.00 | 1.00 to 1.00 |") > 0
    kept = page.partition("<!-- measured")[0], page.rpartition("<!-- end -->")[2]
    assert (filled.partition("<!-- measured")[0], filled.rpartition("<!-- end -->")[2]) == kept
    assert report.filled(filled, "a machine", measured) == filled


def test_page_without_a_marker_raises():
    """Each measured place has to be in the page."""
    with pytest.raises(ValueError, match="machine"):
        report.filled("no marker", "a machine", dict.fromkeys(FIGURES, summary([1.0, 1.0])))
