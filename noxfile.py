"""The tests on every Airflow that is supported, each from its committed constraints and with the built wheel installed.

``make matrix`` builds the wheel, runs all of it and prints one table; ``nox -s "tests(airflow='3.0.6', python='3.11')"``
runs one cell.
"""

from __future__ import annotations

import os
from pathlib import Path

import nox

ROOT = Path(__file__).parent
RESULTS = ROOT / "build" / "matrix"

CELLS = [
    ("2.11.2", "3.11"),
    ("3.0.6", "3.11"),
    ("3.1.8", "3.11"),
    ("3.2.2", "3.11"),
    ("3.3.2", "3.11"),
    ("3.3.2", "3.12"),
    ("3.3.2", "3.13"),
]

nox.needs_version = ">=2024.4"
nox.options.sessions = ["tests"]
nox.options.error_on_missing_interpreters = False


@nox.session(venv_backend="venv")
@nox.parametrize(
    "airflow, python", [nox.param(*cell, id=f"airflow-{cell[0]}-python-{cell[1]}") for cell in CELLS]
)
def tests(session: nox.Session, airflow: str) -> None:
    """Run unit and integration tests with the wheel in dist/."""
    (wheel,) = (ROOT / "dist").glob("*.whl")
    constraints = ROOT / "constraints" / f"airflow-{airflow}.txt"
    install = ["--quiet", "--quiet", "-c", str(constraints)]
    session.install(*install, "pip")
    session.install(
        *install, f"{wheel}[sandbox]", f"apache-airflow=={airflow}", "--group", "examples", "--group", "test"
    )
    name = f"airflow-{airflow}-python-{session.python}"
    RESULTS.mkdir(parents=True, exist_ok=True)
    # Not `python -m pytest`, which would put the source tree before the wheel.
    session.run(
        "pytest",
        "--quiet",
        "-p",
        "no:cacheprovider",
        # Old versions warn of themselves while they are imported.
        "-W",
        "default",
        f"--junit-xml={RESULTS / name}.xml",
        f"-ojunit_suite_name={name}",
        *session.posargs,
        env={name: "" for name in os.environ if name.startswith("AIRFLOW")},
    )
