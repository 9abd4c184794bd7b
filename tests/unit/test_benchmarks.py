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
    """Return what was measured last."""
    return json.loads((DOCS / "performance.json").read_text(encoding="utf-8"))


def test_the_documented_figures_are_those_that_were_measured(results):
    """Nobody has touched a number in the page: writing it again changes nothing."""
    page = (DOCS / "performance.md").read_text(encoding="utf-8")
    assert report.filled(page, results) == page


def test_each_goal_has_its_figure(results):
    """No goal is lost with the figure that it is for, and the documented verdict is that of today's goal."""
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
def test_a_goal_is_met_up_to_its_bound(goal, met, missed):
    """The bound itself is still good."""
    assert goal.is_met_by(met)
    assert not goal.is_met_by(missed)


def test_a_figure_is_the_median_of_the_rounds():
    """Each round gives a ratio of its own, so that a busy moment is one round and not the result."""
    measured = figure("k", "t", ratios([1.0, 2.0, 30.0, 4.0, 5.0], [2.0, 4.0, 4.0, 8.0, 10.0]))
    assert measured.value == 0.5
    assert (measured.low, measured.high) == (0.5, 4.0)
    assert report.cells(measured.as_row(Goal("at most", 0.4)))[-2:] == ("at most 0.4", "missed")
    assert report.cells(measured.as_row(Goal("at most", 0.5)))[-1] == "ok"
    assert report.cells(measured.as_row(None))[-2:] == ("", "")


def test_a_page_without_a_marker_is_an_error(results):
    """A table that is measured and shown nowhere would be missed by nobody."""
    with pytest.raises(ValueError, match="machine"):
        report.filled("no marker", results)
