from __future__ import annotations

import sys

import pytest
from airflow.listeners.listener import get_listener_manager

from bzctrl_provider import plugin
from bzctrl_provider.outbox import writer
from bzctrl_provider.store.database import StoreError, database

SDK = "airflow.providers.common.compat.sdk"

WRITER = "bzctrl_provider.outbox.writer"

EXPECTED = [
    *plugin.MODULES,
    WRITER,
    f"{WRITER}.rehearse",
    SDK,
    f"{SDK}.Stats",
    f"{SDK}.task",
    f"{SDK}.task.bzctrl_todo",
]


class Loaded:
    """A module that notes which of its names are used."""

    def __init__(self, name, names):
        self._name, self._names = name, names
        names.append(name)

    def __getattr__(self, attribute):
        return Loaded(f"{self._name}.{attribute}", self._names)

    def __call__(self):
        pass


@pytest.fixture
def loaded(monkeypatch):
    """Return the names of the modules that the listener loads, and of what it uses of them."""
    names = []
    monkeypatch.setattr(plugin, "import_module", lambda name: Loaded(name, names))
    return names


@pytest.mark.parametrize(
    ("arguments", "expected"),
    [
        (["airflow", "dag-processor"], EXPECTED),
        (["/usr/bin/airflow", "dag-processor", "--num-runs", "1"], EXPECTED),
        (["airflow", "scheduler"], []),
        (["airflow", "triggerer"], []),
        (["airflow", "tasks", "run", "dag-processor"], []),
        (["python"], []),
        ([], []),
    ],
)
def test_on_starting_loads_modules_only_in_the_dag_processor(monkeypatch, loaded, arguments, expected):
    """Airflow calls it when each of its components starts."""
    monkeypatch.setattr(sys, "argv", arguments)
    plugin.on_starting()
    assert loaded == expected


def test_on_starting_module_that_cannot_be_loaded_does_not_raise(monkeypatch, caplog):
    """The DAG processor starts without them, and each process loads what it needs."""
    monkeypatch.setattr(sys, "argv", ["airflow", "dag-processor"])
    monkeypatch.setattr(plugin, "MODULES", ("bzctrl_provider.nothing",))
    plugin.on_starting()
    assert "could not be loaded in the DAG processor: ModuleNotFoundError" in caplog.text


def test_on_starting_is_a_listener_of_airflow(monkeypatch, loaded):
    """Airflow's own manager of listeners calls it, with the arguments of this version."""
    monkeypatch.setattr(sys, "argv", ["airflow", "dag-processor"])
    get_listener_manager().hook.on_starting(component=object())
    assert loaded == EXPECTED


def test_rehearsal_needs_no_store(caplog, monkeypatch, tmp_path):
    """The rehearsal of a first write happens in memory: the real store is neither opened nor needed, and no file is made."""
    monkeypatch.chdir(tmp_path)
    with pytest.raises(StoreError), database().transaction():
        pass  # in unit tests the store cannot be used
    writer.rehearse()
    assert not caplog.records
    assert not list(tmp_path.iterdir())
