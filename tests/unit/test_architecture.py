from __future__ import annotations

import ast
import subprocess
import sys
from pathlib import Path

import pytest

PACKAGE = Path(__file__).parents[2] / "bzctrl_provider"

LAYERS = {
    "bzctrl_provider": set(),
    "bzctrl_provider.exceptions": set(),
    "bzctrl_provider.fields": set(),
    "bzctrl_provider.failure": {"bzctrl_provider.text"},
    "bzctrl_provider.get_provider_info": set(),
    "bzctrl_provider.text": set(),
    "bzctrl_provider.memory": {"bzctrl_provider.exceptions", "bzctrl_provider.text"},
    "bzctrl_provider.dedup": {"bzctrl_provider.failure", "bzctrl_provider.memory"},
    "bzctrl_provider.spool": {
        "bzctrl_provider.client",
        "bzctrl_provider.exceptions",
        "bzctrl_provider.failure",
        "bzctrl_provider.hooks",
        "bzctrl_provider.text",
    },
    "bzctrl_provider.client": {
        "bzctrl_provider",
        "bzctrl_provider.exceptions",
        "bzctrl_provider.fields",
        "bzctrl_provider.text",
    },
    "bzctrl_provider.config": {
        "bzctrl_provider.client",
        "bzctrl_provider.exceptions",
        "bzctrl_provider.text",
    },
    "bzctrl_provider.links": {"bzctrl_provider.text"},
    "bzctrl_provider.hooks": {
        "bzctrl_provider.client",
        "bzctrl_provider.config",
        "bzctrl_provider.exceptions",
        "bzctrl_provider.get_provider_info",
        "bzctrl_provider.text",
    },
    "bzctrl_provider.operators": {
        "bzctrl_provider.dedup",
        "bzctrl_provider.exceptions",
        "bzctrl_provider.failure",
        "bzctrl_provider.fields",
        "bzctrl_provider.hooks",
        "bzctrl_provider.links",
        "bzctrl_provider.memory",
        "bzctrl_provider.text",
    },
    "bzctrl_provider.notifications": {
        "bzctrl_provider.dedup",
        "bzctrl_provider.exceptions",
        "bzctrl_provider.memory",
        "bzctrl_provider.spool",
        "bzctrl_provider.failure",
        "bzctrl_provider.fields",
        "bzctrl_provider.hooks",
        "bzctrl_provider.text",
    },
    "bzctrl_provider.decorators": {"bzctrl_provider.fields", "bzctrl_provider.operators"},
    "bzctrl_provider.policy": {"bzctrl_provider.failure", "bzctrl_provider.notifications"},
    "bzctrl_provider.sandbox": set(),
}
"""For each part of the package the other parts that it may import."""

CLIENT_LAYERS = ["todo", "endpoints", "retry", "auth", "transport", "response", "api"]
"""Within the client, each module imports only those that stand before it."""


def read_imports(path):
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path} has a relative import"
            yield node.module


def get_part(module):
    return ".".join(module.split(".")[:2])


MODULES = sorted(path.relative_to(PACKAGE.parent) for path in PACKAGE.rglob("*.py"))


@pytest.mark.parametrize("module", MODULES, ids=str)
def test_imports_go_one_way(module):
    """Each part of the package imports only what stands below it."""
    own = get_part(".".join(module.with_suffix("").parts).removesuffix(".__init__"))
    ours = {
        get_part(name) for name in read_imports(PACKAGE.parent / module) if name.startswith("bzctrl_provider")
    }
    assert ours - {own} <= LAYERS[own]


@pytest.mark.parametrize("module", [m for m in MODULES if m.parts[1] in ("client", "sandbox")], ids=str)
def test_client_and_sandbox_know_no_airflow(module):
    """Both can be used, and tested, without it."""
    assert not any(name.split(".")[0] == "airflow" for name in read_imports(PACKAGE.parent / module))


def test_the_policy_imports_no_more_of_airflow_than_its_mark():
    """It is loaded while Airflow itself is, in each of its processes."""
    tree = ast.parse((PACKAGE / "policy.py").read_text())
    modules = {node.module for node in tree.body if isinstance(node, ast.ImportFrom)}
    assert {module for module in modules if module.startswith(("airflow", "bzctrl"))} == {"airflow.policies"}


@pytest.mark.parametrize("name", CLIENT_LAYERS)
def test_the_clients_modules_stand_in_layers(name):
    """No module of the client imports one that is built on it."""
    ours = {m.rpartition(".")[2] for m in read_imports(PACKAGE / "client" / f"{name}.py") if ".client." in m}
    assert ours <= set(CLIENT_LAYERS[: CLIENT_LAYERS.index(name)])


OF_A_DAG_FILE = {
    "operators": {"exceptions", "fields", "links", "links.bzctrl", "text"},
    "notifications": {"exceptions", "fields"},
    "hooks": {"exceptions", "text"},
    "links": {"text"},
    "decorators": {
        "operators",
        "operators.bzctrl",
        "exceptions",
        "fields",
        "links",
        "links.bzctrl",
        "text",
    },
}
"""What a DAG file may name, and which modules of ours that loads besides."""


@pytest.mark.parametrize(("part", "others"), OF_A_DAG_FILE.items(), ids=OF_A_DAG_FILE)
def test_importing_what_a_dag_file_names_is_light(part, others):
    """Exactly these modules are loaded, none of them of anybody else: the rest waits for a task to run."""
    module = f"bzctrl_provider.{part}.bzctrl"
    code = (
        "import sys\n"
        "from airflow.providers.common.compat.sdk import BaseHook, BaseOperator, BaseOperatorLink, XCom, "
        "AirflowFailException, AirflowSkipException, BaseNotifier, DecoratedOperator, context_merge, "
        "determine_kwargs, mask_secret, redact, task_decorator_factory\n"
        "import airflow.policies, jinja2\n"
        "before = set(sys.modules)\n"
        f"import {module}\n"
        "print(*sorted(set(sys.modules) - before))"
    )
    result = subprocess.run(
        [sys.executable, "-W", "ignore", "-c", code], check=True, capture_output=True, text=True
    )
    loaded = set(result.stdout.splitlines()[-1].split())
    ours = {name.removeprefix("bzctrl_provider.") for name in loaded if name.startswith("bzctrl_provider")}
    assert ours - {"bzctrl_provider"} == {part, f"{part}.bzctrl", *others}
    assert {name for name in loaded if not name.startswith("bzctrl_provider")} <= {"__future__"}
