from __future__ import annotations

import os
from pathlib import Path

import pytest


@pytest.fixture
def dags_of_docs(_database):
    """Return an empty folder in which Airflow finds DAGs: the bundle `docs` of the tests' Airflow."""
    folder = Path(os.environ["AIRFLOW_HOME"]) / "dags_of_docs"
    folder.mkdir(exist_ok=True)
    for file in folder.glob("*.py"):
        file.unlink()
    return folder
