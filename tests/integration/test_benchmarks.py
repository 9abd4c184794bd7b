from __future__ import annotations

from bench import wire
from bench.goals import GOALS
from bench.processes import bench


def test_bench_wire_counts_requests_and_connections():
    """Its server and its children work, and what they count exactly is what was promised."""
    with bench(is_quick=True) as place:
        measured = {figure.key: figure.value for figure in wire.measure(place)}
    assert measured.keys() == {key for key in GOALS if key.startswith("wire.")}
    assert [key for key, value in measured.items() if not GOALS[key].is_met_by(value)] == []
