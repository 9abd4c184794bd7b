from __future__ import annotations

import pytest
from fsspec.implementations.memory import MemoryFileSystem


class InMemory(MemoryFileSystem):
    """An object store of one test."""

    protocol = "memory"
    cachable = False

    def __init__(self):
        super().__init__()
        self.store = {}
        self.pseudo_dirs = [""]


@pytest.fixture
def memory_store(monkeypatch):
    """Make an object store in memory Airflow's for the scheme memory, which keeps no store of this test."""
    try:
        from airflow.sdk.io.store import _STORE_CACHE
        from airflow.sdk.io.store import attach as attach_to_airflow
    except ImportError:  # Airflow 2.11
        from airflow.io.store import _STORE_CACHE
        from airflow.io.store import attach as attach_to_airflow
    monkeypatch.setitem(_STORE_CACHE, "memory", None)
    del _STORE_CACHE["memory"]
    attach_to_airflow(protocol="memory", fs=InMemory())  # noqa: AIR311 - of that version


@pytest.fixture
def folder(tmp_path, configure):
    """Return the folder of the configured spool, which is not made yet."""
    folder = tmp_path / "spool"
    configure(spool_path=str(folder))
    return folder
