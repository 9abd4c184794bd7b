from __future__ import annotations

import importlib
import json
import subprocess
import sys
from importlib.metadata import distribution
from pathlib import Path

import airflow
import pytest
from airflow.providers.common.compat.sdk import BaseHook, BaseNotifier, BaseOperatorLink
from jsonschema import Draft7Validator

from bzctrl_provider.get_provider_info import get_provider_info
from bzctrl_provider.hooks.bzctrl import BzCtrlHook
from bzctrl_provider.hooks.connection import EXTRAS

FORM = get_provider_info()["connection-types"][0]


def named(path):
    """Return what a dotted path leads to."""
    module, _, name = path.rpartition(".")
    return getattr(importlib.import_module(module), name)


def schema_of_airflow(name):
    """Return a checker of a JSON schema that the installed Airflow brings."""
    schema = json.loads((Path(airflow.__file__).parent / name).read_text())
    Draft7Validator.check_schema(schema)
    return Draft7Validator(schema)


def test_provider_info_dotted_paths_lead_to_the_right_kind():
    """Each module exists, and each class is of the kind that Airflow expects there."""
    info = get_provider_info()
    for kind in ("hooks", "operators"):
        for entry in info[kind]:
            for module in entry["python-modules"]:
                importlib.import_module(module)
    assert issubclass(named(FORM["hook-class-name"]), BaseHook)
    assert all(issubclass(named(path), BaseOperatorLink) for path in info["extra-links"])
    assert all(issubclass(named(path), BaseNotifier) for path in info["notifications"])
    assert all(callable(named(decorator["class-name"])) for decorator in info["task-decorators"])


def test_entry_points_can_be_loaded():
    """Airflow's, pytest's and the command; the plugin is one module with all listeners, and gives no link to the tasks of other DAGs."""
    points = distribution("airflow-provider-bzctrl").entry_points
    assert {point.group for point in points} == {
        "apache_airflow_provider",
        "airflow.plugins",
        "airflow.policy",
        "pytest11",
        "console_scripts",
    }
    loaded = {point.group: point.load() for point in points}
    assert loaded["apache_airflow_provider"] is get_provider_info
    assert loaded["airflow.plugins"].global_operator_extra_links == []
    assert [module.__name__ for module in loaded["airflow.plugins"].listeners] == [
        "bzctrl_provider.plugin",
    ]


def test_provider_info_and_form_fit_airflows_schemas():
    """Those of the installed version, which leaves out a provider, or before 3.2 a behaviour, that does not fit."""
    assert list(schema_of_airflow("provider_info.schema.json").iter_errors(get_provider_info())) == []
    schema = schema_of_airflow("customized_form_field_behaviours.schema.json")
    assert list(schema.iter_errors(BzCtrlHook.get_ui_field_behaviour())) == []


def test_form_has_an_optional_field_for_each_extra():
    """The UI of 3.2 and newer makes its fields of them; it would require one that cannot be null."""
    assert FORM["conn-fields"].keys() == EXTRAS.keys()
    for field in FORM["conn-fields"].values():
        Draft7Validator.check_schema(field["schema"])
        default = field["schema"].get("default")
        assert default is None or Draft7Validator(field["schema"]).is_valid(default)
        assert "null" in field["schema"]["type"]


def test_form_of_2_11_equals_the_table():
    """In real wtforms, which that version brings: labels, descriptions, defaults, and what each field takes."""
    wtforms = pytest.importorskip("wtforms", reason="Airflow 3 brings no wtforms")
    flask = pytest.importorskip("flask")
    flask_babel = pytest.importorskip("flask_babel")
    multidict = importlib.import_module("werkzeug.datastructures").MultiDict
    app = flask.Flask(__name__)
    flask_babel.Babel(app)
    form_class = type("ConnectionForm", (wtforms.Form,), BzCtrlHook.get_connection_form_widgets())
    with app.test_request_context():
        form = form_class()
        assert list(form._fields) == list(FORM["conn-fields"])
        for name, field in FORM["conn-fields"].items():
            assert str(form[name].label.text) == field["label"]
            assert form[name].description == field["description"]
            assert form[name].default == field["schema"].get("default")
            choices = field["schema"].get("enum", [])
            for typed, taken in [("", True), *((choice, True) for choice in choices)] + (
                [("no such choice", False)] if choices else []
            ):
                filled = form_class(multidict({name: typed}))
                assert filled.validate() is taken, (name, typed, filled.errors)


def test_provider_info_module_imports_nothing():
    """Airflow calls it while it starts itself."""
    code = (
        "import sys; before = set(sys.modules); from bzctrl_provider.get_provider_info import get_provider_info;"
        "get_provider_info(); print(*sorted(set(sys.modules) - before))"
    )
    loaded = subprocess.run(
        [sys.executable, "-c", code], check=True, capture_output=True, text=True
    ).stdout.split()
    assert loaded == ["bzctrl_provider", "bzctrl_provider.get_provider_info"]
