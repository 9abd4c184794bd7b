from __future__ import annotations

import json
import logging
import os
import subprocess
import sys

import pytest
from airflow.configuration import conf
from airflow.exceptions import AirflowConfigException

from bzctrl_provider.get_provider_info import get_provider_info
from bzctrl_provider.settings import OPTIONS, Settings, settings

DESCRIBED = get_provider_info()["config"]["bzctrl"]["options"]


@pytest.fixture(autouse=True)
def _no_options(monkeypatch):
    """Remove the option of the tests themselves."""
    monkeypatch.delenv("AIRFLOW__BZCTRL__DATABASE")


def test_settings_without_configuration_are_the_defaults(configure):
    """A deployment that only installs the provider has an empty section."""
    configure()
    assert settings() == Settings()
    assert settings().note is None


def test_settings_options_are_those_of_the_provider_info():
    """Airflow shows the same options, with the defaults that are used, and its examples are valid."""
    assert list(DESCRIBED) == list(OPTIONS)
    for name, option in DESCRIBED.items():
        parse, default = OPTIONS[name].metadata["parse"], OPTIONS[name].default
        written = None if option["default"] in ("", None) else parse(option["default"])
        assert (written or default) == default, name
        if option["example"]:
            assert parse(option["example"]) not in (None, default), name
        kind = {"boolean": bool, "integer": int, "string": (str, tuple, type(None))}[option["type"]]
        assert isinstance(default, kind), name
        assert (type(default) is bool) == (option["type"] == "boolean"), name


INVALID = [
    # option, value, complaint
    (
        "dedup_window_s",
        "1d",
        "dedup_window_s must be a whole number of seconds from 0 to 315360000, not '1d'.",
    ),
    ("dedup_window_s", "-1", "not '-1'."),
    ("dedup_window_s", "", "not ''."),
    ("dedup_window_s", "9" * 5000, "dedup_window_s must be"),
    ("dedup_window_s", "1e400", "not '1e400'."),
    ("incident_on_failed_run", "yes", "incident_on_failed_run must be True or False, not 'yes'."),
    ("remember_exceptions", "  ", "remember_exceptions must be True or False, not '  '."),
    ("priority", "URGENT", "priority must be HIGH, MEDIUM or LOW, not 'URGENT'."),
    ("priority", "a\nb" * 100, "priority must be"),
    ("include_tag", "finance", "include_tag is not an option: did you mean include_tags?"),
    ("conn_id_cmd", "cat /secret", "conn_id_cmd is not an option: did you mean conn_id?"),
    ("x\nERROR FORGED", "x", "x error forged is not an option"),
    ("nothing_like_it", "x", "nothing_like_it is not an option: the options are incident_on_failed_run, "),
]


def test_settings_invalid_option_is_ignored_and_named(configure, caplog, monkeypatch):
    """The default is used, and one line in the log and in the note for the incidents says what is allowed."""
    for option, value, complaint in INVALID:
        caplog.clear()
        with monkeypatch.context() as patch:
            patch.setenv(f"AIRFLOW__BZCTRL__{option.upper()}", value)
            configure()
            chosen = settings()
        assert all(getattr(chosen, name) == row.default for name, row in OPTIONS.items())
        (record,) = caplog.records
        for text in (record.getMessage(), chosen.note):
            assert complaint in text
            assert "\n" not in text
            assert len(text) < 1000


def test_settings_several_invalid_options_are_one_error_per_process(configure, caplog):
    """A component that parses a hundred DAGs does not write a hundred errors."""
    with caplog.at_level(logging.ERROR):
        configure(dedup_window_s="1d", priority="URGENT", include_tag="x", conn_id="kept")
        for _ in range(100):
            chosen = settings()
    (record,) = caplog.records
    assert [name in record.getMessage() for name in ("dedup_window_s", "priority", "include_tag")] == [
        True
    ] * 3
    assert "Correct them and restart" in record.getMessage()
    assert chosen.conn_id == "kept"


def test_settings_boolean_is_what_airflow_accepts(configure):
    """The same words as in every other section."""
    words = "t", "TRUE", " 1 ", "True # on", "f", "False", "0", "yes", "no", "on", "off", "", "2", "#"
    for value in words:
        configure(incident_on_failed_run=value)
        try:
            expected = conf.getboolean("bzctrl", "incident_on_failed_run")
        except AirflowConfigException:
            expected = None
        assert settings().incident_on_failed_run is bool(expected)
        assert bool(settings().errors) is (expected is None)


def test_settings_values_are_parsed(configure):
    """Blanks around words do not count, and a blank text means unset."""
    configure(include_tags=" a, b ,", priority=" high ", domain_workspace="  ", dedup_window_s=" 60 ")
    chosen = settings()
    assert (chosen.include_tags, chosen.priority, chosen.domain_workspace) == (("a", "b"), "HIGH", None)
    assert chosen.dedup_window.total_seconds() == 60
    assert chosen.errors == ()


def test_settings_unknown_option_in_the_file_is_named(configure, caplog, monkeypatch):
    """Also one whose name has capitals, which Airflow does not read."""
    monkeypatch.setattr(conf, "has_section", lambda section: section == "bzctrl")
    monkeypatch.setattr(conf, "options", lambda _: ["Include_Tags", "priority", "from_default"])
    monkeypatch.setattr(conf, "defaults", lambda: {"from_default": "x"})
    with caplog.at_level(logging.ERROR):
        configure()
        assert settings().errors == ("Include_Tags is not an option: did you mean include_tags?",)


def test_settings_unreadable_configuration_is_ignored(configure, caplog, monkeypatch):
    """An error of Airflow's own parser, such as one of interpolation, leaves the defaults."""
    configure(priority="HIGH", conn_id="c")
    monkeypatch.setattr(conf, "get", lambda *_, **__: 1 / 0)
    with caplog.at_level(logging.ERROR):
        chosen = settings()
    assert all(getattr(chosen, name) == row.default for name, row in OPTIONS.items())
    assert len(chosen.errors) == 2
    assert len(caplog.records) == 1
    assert "ZeroDivisionError" in chosen.note


SECRET = "sqlite:////srv/hunter2.db"
READ = "import json; from bzctrl_provider.settings import settings as s; print('READ' + json.dumps([s().database, s().errors]))"


@pytest.mark.security
def test_settings_value_of_a_sensitive_option_is_shown_nowhere(configure, caplog, monkeypatch):
    """The database's URL is in no repr, also if it cannot be read; Airflow knows the option as a sensitive one."""
    assert [name for name, option in DESCRIBED.items() if option.get("sensitive")] == ["database"]
    configure(database=SECRET, priority="URGENT")
    chosen = settings()
    assert chosen.database == SECRET
    assert "hunter2" not in f"{chosen!r}{chosen.note}{caplog.text}"

    def fail(section, name, **_):
        raise ValueError(f"{name} is {SECRET}")

    monkeypatch.setattr(conf, "get", fail)
    configure(database=SECRET)
    chosen = settings()
    assert chosen.errors[0].startswith("database cannot be read (ValueError): it must be a URL of SQLAlchemy")
    assert "hunter2" not in f"{chosen!r}{chosen.note}{caplog.text}"


@pytest.mark.parametrize("source", ["", "_cmd", "_secret"])
def test_settings_database_comes_from_a_command_or_a_secret(source, tmp_path):
    """`database_cmd` and `database_secret` are Airflow's ways to a sensitive option, and no unknown options."""
    (tmp_path / "configs.py").write_text(
        "from airflow.secrets.local_filesystem import LocalFilesystemBackend\n"
        "class Backend(LocalFilesystemBackend):\n"
        f"    def get_config(self, key):\n        return {{'bzctrl/url': {SECRET!r}}}.get(key)\n"
    )
    value = {"": SECRET, "_cmd": f"echo {SECRET}", "_secret": "bzctrl/url"}[source]
    environment = {
        **os.environ,
        f"AIRFLOW__BZCTRL__DATABASE{source.upper()}": value,
        "AIRFLOW__SECRETS__BACKEND": "configs.Backend",
        "PYTHONPATH": str(tmp_path),
    }
    command = [sys.executable, "-W", "ignore", "-c", READ]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=120, check=True)
    (line,) = [line for line in done.stdout.splitlines() if line.startswith("READ")]
    assert json.loads(line.removeprefix("READ")) == [SECRET, []]
    assert "hunter2" not in done.stderr
