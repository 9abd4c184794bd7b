from __future__ import annotations

import io
import json

import pytest

from bzctrl_provider.cli.main import make_parser, run
from bzctrl_provider.settings import settings


@pytest.fixture(autouse=True)
def stored(monkeypatch):
    """Return the text of the Variable with the silences and the facts of DAGs that Airflow's database has."""
    kept = {"variable": None, "dags": {}}
    for module in ("check", "explain", "spool", "variables"):
        for name, function in {
            "use_metadata_database": lambda: None,
            "read_server_variable": lambda name: kept["variable"],
            "read_dag_facts": kept["dags"].get,
        }.items():
            monkeypatch.setattr(f"bzctrl_provider.cli.{module}.{name}", function, raising=False)
    return kept


@pytest.fixture(autouse=True)
def folder(configure, tmp_path):
    """Configure an empty spool, and return its folder."""
    configure(spool_path=str(tmp_path / "spool"))
    return tmp_path / "spool"


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
