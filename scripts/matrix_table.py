"""Print the results of the matrix, one line for each Airflow and Python, and name the cells that did not run."""

from __future__ import annotations

import sys
from pathlib import Path
from xml.etree import ElementTree as ET

ROOT = Path(__file__).parent.parent
sys.path.insert(0, str(ROOT))


def main() -> int:
    """Return 0 if at least one cell ran, and every selected cell with an interpreter passed."""
    from noxfile import CELLS, RESULTS

    failed = not CELLS
    print(f"{'Airflow':10} {'Python':8} {'passed':>7} {'failed':>7} {'skipped':>8} {'seconds':>8}")
    for airflow, python in CELLS:
        result = RESULTS / f"airflow-{airflow}-python-{python}.xml"
        if not result.exists():
            print(
                f"{airflow:10} {python:8} not run: no Python {python} here, or its installation failed (see above)"
            )
            failed = failed or python == "3.11"
            continue
        suite = ET.parse(result).getroot().find("testsuite")  # noqa: S314 - pytest wrote it a moment ago
        if suite is None:
            raise ValueError(f"{result} has no test suite")
        counts = {name: int(suite.attrib[name]) for name in ("tests", "failures", "errors", "skipped")}
        bad = counts["failures"] + counts["errors"]
        good = counts["tests"] - bad - counts["skipped"]
        failed = failed or bad > 0 or good == 0
        seconds = float(suite.attrib["time"])
        print(f"{airflow:10} {python:8} {good:7} {bad:7} {counts['skipped']:8} {seconds:8.0f}")
    return int(failed)


if __name__ == "__main__":
    sys.exit(main())
