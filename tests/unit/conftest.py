from __future__ import annotations

from types import SimpleNamespace

import pytest


@pytest.fixture
def variables(monkeypatch):
    """Return Airflow's Variables."""
    kept = {}
    variable = SimpleNamespace(get=kept.get, set=kept.__setitem__)
    monkeypatch.setattr("airflow.providers.common.compat.sdk.Variable", variable, raising=False)
    return kept
