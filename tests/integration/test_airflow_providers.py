"""The provider info as Airflow reads it: `airflow providers …`, and the form of its UI."""

from __future__ import annotations

import json
import os
import subprocess
import sys

import pytest
from support.airflow_versions import VERSION

from bzctrl_provider import __version__
from bzctrl_provider.get_provider_info import get_provider_info

INFO = get_provider_info()
FORM = INFO["connection-types"][0]
NAME = "airflow-provider-bzctrl"

COMMANDS = {
    "list": [],
    "get": [NAME],
    "hooks": [],
    "links": [],
    "notifications": [],
    "behaviours": [],
    "widgets": [],
    "configs": [],
}
"""Every version from 2.11 to 3.3 has them all."""

FORM_IS_READ = VERSION < (3, 0) or VERSION >= (3, 2)
"""3.0 and 3.1 have no wtforms outside of their UI, so that the command shows no provider's form there."""

# One process for all of them: Airflow takes seconds to start. The parser is that of the command `airflow`.
RUN = """
import contextlib, json, sys
from airflow.cli import cli_parser
commands = json.loads(sys.argv[1])
parser = cli_parser.get_parser()
for command, arguments in commands.items():
    given = parser.parse_args(["providers", command, *arguments, "--output", "json"])
    with open(f"{command}.out", "w") as out, contextlib.redirect_stdout(out):
        given.func(given)
"""

# As the API server asks for it; not in this process, in which it would leave its stand-ins for wtforms.
FORM_OF_THE_UI = """
import json
from airflow.api_fastapi.core_api.services.ui.connections import HookMetaService
(found,) = [hook for hook in HookMetaService.hook_meta_data() if hook.connection_type == "bzctrl"]
with open("form.json", "w") as file:
    json.dump(found.model_dump(), file)
"""


def run(folder, *command):
    environment = {name: value for name, value in os.environ.items() if not name.startswith("AIRFLOW")}
    result = subprocess.run(
        command,
        cwd=folder,
        env={**environment, "AIRFLOW_HOME": str(folder), "AIRFLOW__CORE__LOAD_EXAMPLES": "False"},
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert result.returncode == 0, result.stdout[-2000:] + result.stderr[-2000:]
    return result


@pytest.fixture(scope="module")
def said(tmp_path_factory):
    """Return for each command the rows that it prints and that are ours, and the lines about us beside them."""
    folder = tmp_path_factory.mktemp("airflow")
    result = run(folder, sys.executable, "-c", RUN, json.dumps(COMMANDS))
    rows, logged = {}, (result.stdout + result.stderr).splitlines()
    for command in COMMANDS:
        # Some versions log to the standard output.
        lines = (folder / f"{command}.out").read_text().splitlines()
        (line,) = [line for line in lines if line.startswith(("[{", "[]"))]
        logged += [other for other in lines if other != line]
        rows[command] = [row for row in json.loads(line) if "bzctrl" in json.dumps(row)]
    return {**rows, "complaints": [line for line in logged if "bzctrl" in line]}


def test_airflow_providers_list_shows_the_provider(said):
    """With its description and its version; without an error of any provider's schema."""
    (row,) = said["list"]
    assert row["package_name"] == NAME
    assert row["version"] == __version__
    assert "a failed check becomes an incident by itself" in row["description"]
    assert [list(row.values()) for row in said["get"]] == [[NAME, __version__]]


def test_airflow_providers_complain_of_nothing(said):
    """No command, and no import before it, has printed a warning about the provider."""
    assert said["complaints"] == []


def test_airflow_providers_hooks_shows_the_hook(said):
    """Under its connection type, with the parameter that names the connection."""
    (row,) = said["hooks"]
    assert row == {
        "connection_type": "bzctrl",
        "class": "bzctrl_provider.hooks.bzctrl.BzCtrlHook",
        "conn_id_attribute_name": "bzctrl_conn_id",
        "package_name": NAME,
        "hook_name": "BzCtrl",
    }


def test_airflow_providers_links_shows_link_and_notifier(said):
    """Both by their dotted paths."""
    assert [list(row.values()) for row in said["links"]] == [INFO["extra-links"]]
    assert [list(row.values()) for row in said["notifications"]] == [INFO["notifications"]]


def test_airflow_providers_configs_shows_the_options(said):
    """The section [bzctrl] as the provider info has it."""
    (row,) = said["configs"]
    # The table of the command has texts only.
    shown, expected = (
        str(one).replace("True", "'True'") for one in (row["provider_config"], [NAME, INFO["config"]])
    )
    assert shown.replace("''", "'") == expected.replace("''", "'")


@pytest.mark.skipif(not FORM_IS_READ, reason="3.0 and 3.1 read no form outside of their UI")
def test_airflow_providers_widgets_shows_the_form(said):
    """A widget for each field of the table, of a fitting kind."""
    assert said["behaviours"] == [{"field_behaviours": "bzctrl"}]
    kinds = {row["connection_parameter_name"]: row["field_type"] for row in said["widgets"]}
    table = {f"extra__bzctrl__{name}": field["schema"]["type"] for name, field in FORM["conn-fields"].items()}
    if VERSION < (3, 0):
        wtforms = {"string": "StringField", "boolean": "BooleanField", "integer": "IntegerField"}
        # Airflow allows no field for decimal numbers here: timeout_s is text.
        table = {name: wtforms.get(types[0], "StringField") for name, types in table.items()}
    assert kinds == table


@pytest.mark.skipif(
    VERSION < (3, 1), reason="2.11 has another UI, and 3.0 shows forms where FAB is installed"
)
def test_airflow_ui_receives_the_form(tmp_path):
    """Labels, descriptions, choices, defaults, and what is hidden, renamed and suggested, as in the table."""
    run(tmp_path, sys.executable, "-c", FORM_OF_THE_UI)
    form = json.loads((tmp_path / "form.json").read_text())
    assert (form["hook_name"], form["hook_class_name"]) == ("BzCtrl", FORM["hook-class-name"])
    given = form["extra_fields"]
    assert given.keys() == FORM["conn-fields"].keys()
    for name, field in FORM["conn-fields"].items():
        schema = given[name]["schema"]
        # Their text field takes the number of seconds as well.
        kinds = ["string", "null"] if name == "timeout_s" and VERSION < (3, 2) else field["schema"]["type"]
        assert schema["type"] == kinds
        assert schema["title"] == field["label"]
        assert schema.get("enum") == field["schema"].get("enum")
        assert given[name]["value"] == field["schema"].get("default")
        assert field["description"] in (given[name].get("description"), schema.get("description"))
    standard = form["standard_fields"]
    behaviour = FORM["ui-field-behaviour"]
    for field, title in behaviour["relabeling"].items():
        assert standard[field]["title"] == title
    for field, placeholder in behaviour["placeholders"].items():
        assert standard["url_schema" if field == "schema" else field]["placeholder"] == placeholder
