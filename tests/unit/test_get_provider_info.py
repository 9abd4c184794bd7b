from __future__ import annotations

import importlib
import subprocess
import sys

from bzctrl_provider.config import _Extras
from bzctrl_provider.get_provider_info import get_provider_info

FORM = get_provider_info()["connection-types"][0]


def test_every_dotted_path_leads_somewhere():
    """Modules and classes that the provider info names exist."""
    info = get_provider_info()
    for kind in ("hooks", "operators"):
        for entry in info[kind]:
            for module in entry["python-modules"]:
                importlib.import_module(module)
    decorators = [decorator["class-name"] for decorator in info["task-decorators"]]
    for path in [*info["extra-links"], *info["notifications"], *decorators, FORM["hook-class-name"]]:
        module, _, name = path.rpartition(".")
        assert hasattr(importlib.import_module(module), name)


def test_the_form_has_a_field_for_each_extra():
    """What the configuration knows and what the form offers are the same names."""
    assert FORM["conn-fields"].keys() == _Extras.model_fields.keys()


def test_no_field_of_the_form_is_required():
    """Each may be null: the UI would else insist on it."""
    assert all("null" in field["schema"]["type"] for field in FORM["conn-fields"].values())


def test_the_module_imports_nothing():
    """Airflow calls it while it starts itself."""
    code = (
        "import sys; before = set(sys.modules); from bzctrl_provider.get_provider_info import get_provider_info;"
        "get_provider_info(); print(*sorted(set(sys.modules) - before))"
    )
    loaded = subprocess.run(
        [sys.executable, "-c", code], check=True, capture_output=True, text=True
    ).stdout.split()
    assert loaded == ["bzctrl_provider", "bzctrl_provider.get_provider_info"]
