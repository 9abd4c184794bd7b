from __future__ import annotations

import pytest


@pytest.fixture(scope="session")
def _database():
    """Create Airflow's database, once."""
    from airflow.utils import db

    db.upgradedb()
