from __future__ import annotations

import airflow

from bzctrl_provider import airflow_compat


def test_airflow_version_release_and_prerelease_returns_major_and_minor(monkeypatch):
    """The first two numbers count, compared as numbers."""
    for version, expected in {"2.11.2": (2, 11), "3.1.0rc1": (3, 1), "3.10.0.dev0": (3, 10)}.items():
        monkeypatch.setattr(airflow, "__version__", version)
        airflow_compat.airflow_version.cache_clear()
        try:
            assert airflow_compat.airflow_version() == expected
            assert airflow_compat.airflow_at_least(*expected)
            assert not airflow_compat.airflow_at_least(expected[0], expected[1] + 1)
        finally:
            airflow_compat.airflow_version.cache_clear()
