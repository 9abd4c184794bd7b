from __future__ import annotations

import io
import json

import pytest

from bzctrl_provider.cli.main import make_parser, run
from bzctrl_provider.settings import settings


@pytest.fixture(autouse=True)
def stored(monkeypatch):
    """Return what Airflow's database has: the text of the Variable with the silences, facts of DAGs, hosts of components.

    Its error, if it has one, does not keep these from being read: the commands have to leave them out.
    """
    monkeypatch.setattr("bzctrl_provider.airflow_compat.use_metadata_database", lambda: None)
    kept = {"variable": None, "dags": {}, "hosts": [], "error": None}
    for module in ("check", "explain", "outbox"):
        for name, function in {
            "find_database_error": lambda: kept["error"],
            "read_server_variable": lambda name: kept["variable"],
            "read_dag_facts": kept["dags"].get,
            "find_hosts": lambda: kept["hosts"],
        }.items():
            monkeypatch.setattr(f"bzctrl_provider.cli.{module}.{name}", function, raising=False)
    return kept


@pytest.fixture(autouse=True)
def _store(store):
    """Give each command an empty store."""


@pytest.fixture
def routes_file(tmp_path, configure):
    """Return a function that writes the routes file of the configuration."""

    def write(text):
        path = tmp_path / "bzctrl_routes.toml"
        path.write_text(text)
        configure(routes_path=str(path))
        return path

    return write


@pytest.fixture
def run_command():
    """Return a function that runs a command and returns its exit code and its output."""

    def start(*argv):
        settings.cache_clear()
        arguments = make_parser().parse_args(argv)
        out = io.StringIO()
        code = run(arguments, out)
        return code, json.loads(out.getvalue()) if arguments.json else out.getvalue()

    return start
