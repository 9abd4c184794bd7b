from __future__ import annotations

import json
from pathlib import Path

import pytest
from bench import report
from bench.figures import figure, ratios
from bench.goals import GOALS, Goal

DOCS = Path(__file__).parents[2] / "docs"


@pytest.fixture
def results():
    """Return the results of the last measurement."""
    return json.loads((DOCS / "performance.json").read_text(encoding="utf-8"))


def test_page_written_again_is_unchanged(results):
    """The figures of the page are those of the results."""
    page = (DOCS / "performance.md").read_text(encoding="utf-8")
    assert report.filled(page, results) == page


def test_goal_has_a_figure_with_its_verdict(results):
    """Each goal has a figure in the results, whose verdict is that of the current goal."""
    rows = {row["key"]: row for row in results["figures"]}
    assert GOALS.keys() <= rows.keys()
    for key, goal in GOALS.items():
        assert rows[key]["goal"] == str(goal)
        assert rows[key]["met"] is goal.is_met_by(rows[key]["value"])


@pytest.mark.parametrize(
    ("goal", "met", "missed"),
    [
        (Goal("at most", 1.0), 1.0, 1.01),
        (Goal("at least", 0.9), 0.9, 0.89),
        (Goal("exactly", 101), 101, 100),
    ],
)
def test_goal_at_its_bound_is_met(goal, met, missed):
    """A value equal to the bound meets the goal, and the next one misses it."""
    assert goal.is_met_by(met)
    assert not goal.is_met_by(missed)


def test_figure_of_several_rounds_is_their_median():
    """Each round has its own ratio, so that a disturbed round does not change the result."""
    measured = figure("k", "t", ratios([1.0, 2.0, 30.0, 4.0, 5.0], [2.0, 4.0, 4.0, 8.0, 10.0]))
    assert measured.value == 0.5
    assert (measured.low, measured.high) == (0.5, 4.0)
    assert report.cells(measured.as_row(Goal("at most", 0.4)))[-2:] == ("at most 0.4", "missed")
    assert report.cells(measured.as_row(Goal("at most", 0.5)))[-1] == "ok"
    assert report.cells(measured.as_row(None))[-2:] == ("", "")


def test_page_without_a_marker_raises(results):
    """Each measured table has to have its place in the page."""
    with pytest.raises(ValueError, match="machine"):
        report.filled("no marker", results)
