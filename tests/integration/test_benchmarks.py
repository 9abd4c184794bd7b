from __future__ import annotations

from bench.figures import FIGURES
from bench.processes import bench


def test_bench_measures_the_figures_of_a_group():
    """Its server and its processes work: one with two rounds prints two values of each of its figures."""
    with bench() as place:
        measured = place.measure("cold", 2)
    assert measured.keys() == {key for key in FIGURES if key.startswith("cold.")}
    assert [len(values) for values in measured.values() if min(values) > 0] == [2, 2]
