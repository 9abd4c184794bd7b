"""Tests with the built wheel installed, each environment from the committed constraints of an Airflow version.

``make matrix`` runs unit and integration tests on every Airflow and prints one table; ``nox -s
"tests(airflow='3.0.6', python='3.11')"`` runs one cell. ``make system`` runs real services on two of them.
"""

from __future__ import annotations

import os
from pathlib import Path

import nox

ROOT = Path(__file__).parent
RESULTS = ROOT / "build" / "matrix"

WITHOUT_AIRFLOW = {name: "" for name in os.environ if name.startswith("AIRFLOW")}
"""The variables of the user's own deployment, which the tests may not use."""

ALL_CELLS = [
    ("2.11.2", "3.11"),
    ("3.0.6", "3.11"),
    ("3.1.8", "3.11"),
    ("3.2.2", "3.11"),
    ("3.3.2", "3.11"),
    ("3.3.2", "3.12"),
    ("3.3.2", "3.13"),
]
WANTED = os.environ.get("CELLS", "").split()
"""The selected Airflow versions; an empty list selects all."""

CELLS = [cell for cell in ALL_CELLS if not WANTED or cell[0] in WANTED]

nox.needs_version = ">=2024.4"
nox.options.sessions = ["tests"]
nox.options.error_on_missing_interpreters = False


@nox.session(venv_backend="venv")
@nox.parametrize(
    "airflow, python", [nox.param(*cell, id=f"airflow-{cell[0]}-python-{cell[1]}") for cell in CELLS]
)
def tests(session: nox.Session, airflow: str) -> None:
    """Run unit and integration tests with the wheel in dist/."""
    install(session, airflow, groups=["examples", "test"])
    name = f"airflow-{airflow}-python-{session.python}"
    RESULTS.mkdir(parents=True, exist_ok=True)
    # Not `python -m pytest`, which would put the source tree before the wheel.
    session.run(
        "pytest",
        "--quiet",
        "--numprocesses=auto",
        "--maxprocesses=4",
        "-p",
        "no:cacheprovider",
        # Old versions of Airflow warn during their own import.
        "-W",
        "default",
        f"--junit-xml={RESULTS / name}.xml",
        f"-ojunit_suite_name={name}",
        *session.posargs,
        env=WITHOUT_AIRFLOW,
    )


@nox.session(venv_backend="venv", python="3.11")
@nox.parametrize(
    "airflow", [nox.param("3.3.2", id="airflow-3.3.2"), nox.param("2.11.2", id="airflow-2.11.2")]
)
def system(session: nox.Session, airflow: str) -> None:
    """Run the tests with real services, in one process: a Celery cluster and its UI, or the UI of Airflow 2."""
    groups = ["test", "browser"]
    if airflow.startswith("2."):
        install(session, airflow, groups=groups)
        chosen = ["tests/system/airflow_2"]
    else:
        install(session, airflow, groups=["examples", "cluster", *groups])
        chosen = ["tests/system", "--ignore=tests/system/airflow_2"]
    session.run(
        "pytest", "-p", "no:cacheprovider", "-W", "default", *chosen, *session.posargs, env=WITHOUT_AIRFLOW
    )


def install(session: nox.Session, airflow: str, *, groups: list[str]) -> None:
    """Install the wheel in dist/, an Airflow, and some dependency groups, all pinned."""
    (wheel,) = (ROOT / "dist").glob("*.whl")
    quietly = ["--quiet", "--quiet", "-c", str(ROOT / "constraints" / f"airflow-{airflow}.txt")]
    session.install(*quietly, "pip")
    session.install(
        *quietly,
        str(wheel),
        f"apache-airflow=={airflow}",
        *(argument for group in groups for argument in ("--group", group)),
    )
