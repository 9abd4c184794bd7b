from __future__ import annotations

from types import SimpleNamespace

import pytest
from support.bzctrl import register_bzctrl, set_connection

from bzctrl_provider.client.retry import Deadline
from bzctrl_provider.settings import settings
from bzctrl_provider.store.database import Database


@pytest.fixture
def variables(monkeypatch):
    """Return Airflow's Variables."""
    kept = {}
    variable = SimpleNamespace(get=kept.get, set=kept.__setitem__)
    monkeypatch.setattr("airflow.providers.common.compat.sdk.Variable", variable, raising=False)
    monkeypatch.setattr("bzctrl_provider.operators.memory.Variable", variable)
    return kept


@pytest.fixture
def break_variables(monkeypatch):
    """Let each request for a Variable fail."""

    def fail(*_):
        raise ConnectionError("Airflow's API is gone")

    variable = SimpleNamespace(get=fail, set=fail)
    monkeypatch.setattr("airflow.providers.common.compat.sdk.Variable", variable, raising=False)


@pytest.fixture(autouse=True)
def waits(monkeypatch):
    """Return the seconds that clients would have waited between two attempts; no test waits for real."""
    seconds = []
    monkeypatch.setattr(Deadline, "wait", lambda _, wait_s: seconds.append(wait_s))
    return seconds


@pytest.fixture(autouse=True)
def _no_silences(monkeypatch):
    """Keep the look-up of silences from the database."""
    monkeypatch.setenv("AIRFLOW_VAR_BZCTRL_SILENCES", "")


@pytest.fixture(autouse=True)
def _no_database(monkeypatch):
    """Keep the look-up of the last success on Airflow 2 from the database."""
    monkeypatch.setattr("bzctrl_provider.airflow_compat._read_last_success", lambda *_: None)


@pytest.fixture
def connection(monkeypatch):
    """Define the connection `bzctrl_default`."""
    set_connection(monkeypatch)


@pytest.fixture
def bzctrl(requests_mock):
    """Return the mock that answers requests to ACC as BzCtrl does."""
    return register_bzctrl(requests_mock)


@pytest.fixture
def configure(monkeypatch):
    """Return what sets options of the [bzctrl] section, in the environment of this process."""

    def set_options(**options):
        for name, value in options.items():
            monkeypatch.setenv(f"AIRFLOW__BZCTRL__{name.upper()}", value)
        settings.cache_clear()

    yield set_options
    monkeypatch.undo()
    settings.cache_clear()


@pytest.fixture
def store(monkeypatch, tmp_path):
    """Return an empty store, which the provider uses in this test."""
    url = f"sqlite:///{tmp_path / 'bzctrl.db'}"
    monkeypatch.setenv("AIRFLOW__BZCTRL__DATABASE", url)
    settings.cache_clear()
    yield Database(url)
    monkeypatch.undo()
    settings.cache_clear()


@pytest.fixture
def set_airflow_version(monkeypatch):
    """Return a function that sets the Airflow version that the provider sees."""

    def set_version(major, minor):
        monkeypatch.setattr("bzctrl_provider.airflow_compat.airflow_version", lambda: (major, minor))

    return set_version
