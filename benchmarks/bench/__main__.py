"""``make bench``: measure everything, print one table, and write it down for the docs."""

from __future__ import annotations

import argparse
import os
import platform
import sys
import time
from importlib.metadata import version
from pathlib import Path

from bench import bulk, cold, create, import_errors, imports, memory, parse, policy, report, savings, wire
from bench.goals import GOALS
from bench.growth import measure as measure_growth
from bench.processes import bench

_DOCS = Path(__file__).parents[2] / "docs"
_GROUPS = (wire, create, cold, imports, parse, bulk, memory, policy, import_errors)


def main() -> int:
    """Measure; return 1 where a goal is missed."""
    parser = argparse.ArgumentParser(prog="make bench", description=__doc__)
    parser.add_argument(
        "--quick", action="store_true", help="two rounds of each, to see that it works; writes nothing"
    )
    is_quick: bool = parser.parse_args().quick
    with bench(is_quick=is_quick) as place:
        figures = []
        for group in _GROUPS:
            _say(group.__name__)
            figures += [figure.as_row(GOALS.get(figure.key)) for figure in group.measure(place)]
        _say("bench.savings")
        saved = [[figure.as_row(None) for figure in both] for both in savings.measure(place)]
        profile = savings.profile(place)
        spared = imports.worth_of_lazy_imports(place)
        _say("bench.growth")
        growth = measure_growth(place)
    results = {
        "machine": _machine(),
        "figures": figures,
        "profile": profile,
        "savings": saved,
        "spared_imports": [(text, round(spared_ms, 2)) for text, spared_ms in spared],
        "growth": growth,
    }
    print(report.text_table(figures))
    if not is_quick:
        from bench.picture import draw

        (_DOCS / "performance.json").write_text(report.written(results), encoding="utf-8")
        report.put_into(_DOCS / "performance.md", results)
        draw(results, _DOCS / "images" / "performance.svg")
    missed = [figure["text"] for figure in figures if figure["met"] is False]
    print(f"{len(missed)} goals missed." if missed else "All goals met.")
    return 1 if missed else 0


def _machine() -> dict[str, str]:
    return {
        "Linux" if sys.platform == "linux" else platform.system(): platform.machine(),
        "cores": str(os.cpu_count()),
        "Python": platform.python_version(),
        "Airflow": version("apache-airflow"),
        "requests": version("requests"),
        "urllib3": version("urllib3"),
    }


def _say(group: str) -> None:
    print(
        f"{time.strftime('%H:%M:%S')} measuring {group.removeprefix('bench.')} …", file=sys.stderr, flush=True
    )


if __name__ == "__main__":
    sys.exit(main())
