"""``make bench``: measure everything, print one table, and write it into the page on performance."""

from __future__ import annotations

import argparse
import os
import platform
import sys
import time
from importlib.metadata import version
from pathlib import Path

from bench import report
from bench.figures import FIGURES, summary
from bench.processes import bench

_PAGE = Path(__file__).parents[2] / "docs" / "performance.md"
_ROUNDS = {
    "create": 400,
    "cold": 150,
    "imports": 40,
    "parse": 60,
    "log": 50,
    "bulk": 9,
    "policy": 50,
    "scheduler": 8,
    "write": 40,
    "delivery": 3,
    "year": 3,
}
"""By the group of figures. Many for ``cold``, which is close to its goal, and of which one round takes 0.2 s."""


def main() -> int:
    """Measure; return 1 if a goal is missed, unless it is only a quick look."""
    parser = argparse.ArgumentParser(prog="make bench", description=__doc__)
    parser.add_argument(
        "--quick", action="store_true", help="two rounds, to see that it works; writes nothing"
    )
    is_quick: bool = parser.parse_args().quick
    values: dict[str, list[float]] = {}
    with bench() as place:
        for group, rounds in _ROUNDS.items():
            print(f"{time.strftime('%H:%M:%S')} measuring {group} …", file=sys.stderr, flush=True)
            values |= place.measure(group, 2 if is_quick else rounds)
    measured = {key: summary(of) for key, of in values.items()}
    print(report.text_table(measured))
    if not is_quick:
        page = report.filled(_PAGE.read_text(encoding="utf-8"), _machine(), measured)
        _PAGE.write_text(page, encoding="utf-8")
    missed = [
        key
        for key, figure in FIGURES.items()
        if figure.goal and not figure.goal.is_met_by(measured[key].value)
    ]
    print(f"{len(missed)} goals missed." if missed else "All goals met.")
    return 1 if missed and not is_quick else 0


def _machine() -> str:
    packages = [f"{name} {version(package)}" for name, package in _PACKAGES.items()]
    return ", ".join(
        [
            f"{platform.system()} {platform.machine()}",
            f"{os.cpu_count()} cores",
            f"Python {platform.python_version()}",
            *packages,
        ]
    )


_PACKAGES = {"Airflow": "apache-airflow", "requests": "requests", "urllib3": "urllib3"}


if __name__ == "__main__":
    sys.exit(main())
