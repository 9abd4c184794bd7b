from __future__ import annotations

import pytest
from bench.figures import FIGURES
from bench.processes import bench

from bzctrl_provider.airflow_compat import airflow_at_least


@pytest.mark.skipif(not airflow_at_least(3, 1), reason="the benchmarks measure on a recent Airflow 3")
def test_bench_measures_the_figures_of_a_group():
    """Its server and its processes work: one with two rounds prints two values of each of its figures."""
    with bench() as place:
        measured = place.measure("cold", 2)
    assert measured.keys() == {key for key in FIGURES if key.startswith("cold.")}
    assert [len(values) for values in measured.values() if min(values) > 0] == [2, 2]
