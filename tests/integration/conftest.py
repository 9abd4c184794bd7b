from __future__ import annotations

import pytest

from bzctrl_provider.settings import settings


@pytest.fixture(scope="session")
def _database():
    """Create Airflow's database, once."""
    from airflow.utils import db

    db.upgradedb()


@pytest.fixture(autouse=True)
def in_test_runs(monkeypatch):
    """Let callbacks send from `dag.test()`, too."""
    monkeypatch.setenv("AIRFLOW__BZCTRL__IN_TEST_RUNS", "True")
    settings.cache_clear()
    yield
    settings.cache_clear()
