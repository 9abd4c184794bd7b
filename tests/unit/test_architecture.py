from __future__ import annotations

import ast
import json
import subprocess
import sys
from pathlib import Path

import pytest

from bzctrl_provider.decorators.bzctrl import BzCtrlTodoDecoratedOperator
from bzctrl_provider.hooks.bzctrl import BzCtrlHook
from bzctrl_provider.links.bzctrl import BzCtrlFurtherTodoLink, BzCtrlIncidentLink
from bzctrl_provider.notifications.bzctrl import BzCtrlNotifier
from bzctrl_provider.operators.bzctrl import IncidentOnFailureOperator

PACKAGE = Path(__file__).parents[2] / "bzctrl_provider"

LAYERS = {
    "bzctrl_provider": set(),
    "bzctrl_provider.exceptions": set(),
    "bzctrl_provider.fields": set(),
    "bzctrl_provider._airflow_internals": {"bzctrl_provider.version_compat"},
    "bzctrl_provider.check_results": {"bzctrl_provider.text"},
    "bzctrl_provider.reason_text": {"bzctrl_provider.text"},
    "bzctrl_provider.reasons": {
        "bzctrl_provider.check_results",
        "bzctrl_provider.reason_text",
        "bzctrl_provider.settings",
        "bzctrl_provider.spool",
        "bzctrl_provider.text",
    },
    "bzctrl_provider.consequences": {"bzctrl_provider.text"},
    "bzctrl_provider.failure": {
        "bzctrl_provider.check_results",
        "bzctrl_provider.reason_text",
        "bzctrl_provider.reasons",
        "bzctrl_provider.text",
    },
    "bzctrl_provider.failure_lookup": {
        "bzctrl_provider.consequences",
        "bzctrl_provider.dag_graph",
        "bzctrl_provider.failure",
        "bzctrl_provider.reasons",
        "bzctrl_provider.spool",
        "bzctrl_provider.version_compat",
    },
    "bzctrl_provider.dag_graph": set(),
    "bzctrl_provider.get_provider_info": set(),
    "bzctrl_provider.limits": set(),
    "bzctrl_provider.metrics": set(),
    "bzctrl_provider.patterns": {"bzctrl_provider.text"},
    "bzctrl_provider.pruning": {"bzctrl_provider.times"},
    "bzctrl_provider.recovery": {"bzctrl_provider.times"},
    "bzctrl_provider.times": set(),
    "bzctrl_provider.routes": {
        "bzctrl_provider.client",
        "bzctrl_provider.exceptions",
        "bzctrl_provider.fields",
        "bzctrl_provider.limits",
        "bzctrl_provider.patterns",
        "bzctrl_provider.text",
    },
    "bzctrl_provider.routing": {
        "bzctrl_provider._airflow_internals",
        "bzctrl_provider.failure",
        "bzctrl_provider.fields",
        "bzctrl_provider.reason_text",
        "bzctrl_provider.routes",
        "bzctrl_provider.settings",
    },
    "bzctrl_provider.settings": {"bzctrl_provider.limits", "bzctrl_provider.text"},
    "bzctrl_provider.silencing": {
        "bzctrl_provider.failure",
        "bzctrl_provider.memory",
        "bzctrl_provider.reason_text",
        "bzctrl_provider.silences",
        "bzctrl_provider.spool",
    },
    "bzctrl_provider.silences": {
        "bzctrl_provider.patterns",
        "bzctrl_provider.text",
        "bzctrl_provider.times",
    },
    "bzctrl_provider.text": set(),
    "bzctrl_provider.version_compat": set(),
    "bzctrl_provider.notes": set(),
    "bzctrl_provider.field_checks": {
        "bzctrl_provider.client",
        "bzctrl_provider.exceptions",
        "bzctrl_provider.text",
    },
    "bzctrl_provider.lost": {"bzctrl_provider.spool", "bzctrl_provider.text"},
    "bzctrl_provider.memory": {
        "bzctrl_provider.exceptions",
        "bzctrl_provider.notes",
        "bzctrl_provider.text",
        "bzctrl_provider.version_compat",
    },
    "bzctrl_provider.dedup": {
        "bzctrl_provider.failure",
        "bzctrl_provider.fields",
        "bzctrl_provider.memory",
        "bzctrl_provider.metrics",
        "bzctrl_provider.reason_text",
        "bzctrl_provider.recovery",
        "bzctrl_provider.text",
        "bzctrl_provider.times",
    },
    "bzctrl_provider.consecutive": {
        "bzctrl_provider.dedup",
        "bzctrl_provider.limits",
        "bzctrl_provider.memory",
        "bzctrl_provider.reason_text",
        "bzctrl_provider.recovery",
        "bzctrl_provider.text",
    },
    "bzctrl_provider.successes": {
        "bzctrl_provider._airflow_internals",
        "bzctrl_provider.failure",
        "bzctrl_provider.memory",
        "bzctrl_provider.reason_text",
        "bzctrl_provider.times",
    },
    "bzctrl_provider.spool": {
        "bzctrl_provider.client",
        "bzctrl_provider.exceptions",
        "bzctrl_provider.hooks",
        "bzctrl_provider.limits",
        "bzctrl_provider.metrics",
        "bzctrl_provider.notes",
        "bzctrl_provider.reason_text",
        "bzctrl_provider.settings",
        "bzctrl_provider.text",
        "bzctrl_provider.times",
    },
    "bzctrl_provider.client": {
        "bzctrl_provider",
        "bzctrl_provider.exceptions",
        "bzctrl_provider.fields",
        "bzctrl_provider.limits",
        "bzctrl_provider.text",
    },
    "bzctrl_provider.config": {
        "bzctrl_provider.client",
        "bzctrl_provider.exceptions",
        "bzctrl_provider.text",
    },
    "bzctrl_provider.links": {"bzctrl_provider.text", "bzctrl_provider.version_compat"},
    "bzctrl_provider.hooks": {
        "bzctrl_provider.metrics",
        "bzctrl_provider.client",
        "bzctrl_provider.config",
        "bzctrl_provider.exceptions",
        "bzctrl_provider.get_provider_info",
        "bzctrl_provider.text",
    },
    "bzctrl_provider.operators": {
        "bzctrl_provider.metrics",
        "bzctrl_provider.limits",
        "bzctrl_provider._airflow_internals",
        "bzctrl_provider.consecutive",
        "bzctrl_provider.dedup",
        "bzctrl_provider.successes",
        "bzctrl_provider.exceptions",
        "bzctrl_provider.failure",
        "bzctrl_provider.failure_lookup",
        "bzctrl_provider.field_checks",
        "bzctrl_provider.fields",
        "bzctrl_provider.hooks",
        "bzctrl_provider.links",
        "bzctrl_provider.lost",
        "bzctrl_provider.memory",
        "bzctrl_provider.notes",
        "bzctrl_provider.reasons",
        "bzctrl_provider.settings",
        "bzctrl_provider.routing",
        "bzctrl_provider.silencing",
        "bzctrl_provider.text",
        "bzctrl_provider.version_compat",
    },
    "bzctrl_provider.notifications": {
        "bzctrl_provider.consecutive",
        "bzctrl_provider.dedup",
        "bzctrl_provider.exceptions",
        "bzctrl_provider.failure",
        "bzctrl_provider.failure_lookup",
        "bzctrl_provider.field_checks",
        "bzctrl_provider.fields",
        "bzctrl_provider.hooks",
        "bzctrl_provider.lost",
        "bzctrl_provider.memory",
        "bzctrl_provider.metrics",
        "bzctrl_provider.notes",
        "bzctrl_provider.reason_text",
        "bzctrl_provider.routing",
        "bzctrl_provider.settings",
        "bzctrl_provider.silencing",
        "bzctrl_provider.spool",
        "bzctrl_provider.successes",
        "bzctrl_provider.text",
        "bzctrl_provider.version_compat",
    },
    "bzctrl_provider.decorators": {"bzctrl_provider.fields", "bzctrl_provider.operators"},
    "bzctrl_provider.policy": {
        "bzctrl_provider._airflow_internals",
        "bzctrl_provider.dag_graph",
        "bzctrl_provider.links",
        "bzctrl_provider.notifications",
        "bzctrl_provider.reasons",
        "bzctrl_provider.settings",
        "bzctrl_provider.version_compat",
    },
    "bzctrl_provider.checks": {"bzctrl_provider.exceptions", "bzctrl_provider.text"},
    "bzctrl_provider.cli": {
        "bzctrl_provider._airflow_internals",
        "bzctrl_provider.exceptions",
        "bzctrl_provider.hooks",
        "bzctrl_provider.pruning",
        "bzctrl_provider.reason_text",
        "bzctrl_provider.routes",
        "bzctrl_provider.settings",
        "bzctrl_provider.silences",
        "bzctrl_provider.silencing",
        "bzctrl_provider.spool",
        "bzctrl_provider.text",
        "bzctrl_provider.version_compat",
    },
    # Its fixture of pytest resets the process of a test.
    "bzctrl_provider.sandbox": {"bzctrl_provider.notifications", "bzctrl_provider.settings"},
    "bzctrl_provider.import_errors": {
        "bzctrl_provider._airflow_internals",
        "bzctrl_provider.failure",
        "bzctrl_provider.field_checks",
        "bzctrl_provider.fields",
        "bzctrl_provider.metrics",
        "bzctrl_provider.notes",
        "bzctrl_provider.notifications",
        "bzctrl_provider.reason_text",
        "bzctrl_provider.routing",
        "bzctrl_provider.settings",
        "bzctrl_provider.spool",
        "bzctrl_provider.text",
        "bzctrl_provider.version_compat",
    },
    "bzctrl_provider.plugin": {
        "bzctrl_provider",
        "bzctrl_provider.import_errors",
        "bzctrl_provider.preload",
    },
    "bzctrl_provider.preload": set(),
}
"""The other parts that each part of the package may import."""

CLIENT_LAYERS = [
    "todo",
    "endpoints",
    "deadline",
    "retry",
    "redaction",
    "sockets",
    "auth",
    "transport",
    "request",
    "response",
    "requester",
    "bulk",
    "api",
]
"""The modules of the client; each imports only modules before it in this list."""


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
def test_module_imports_only_layers_below(module):
    """Each part of the package imports only the parts that LAYERS allows it."""
    own = get_part(".".join(module.with_suffix("").parts).removesuffix(".__init__"))
    ours = {
        get_part(name) for name in read_imports(PACKAGE.parent / module) if name.startswith("bzctrl_provider")
    }
    assert ours - {own} <= LAYERS[own]


@pytest.mark.parametrize("module", [m for m in MODULES if m.parts[1] in ("client", "sandbox")], ids=str)
def test_client_and_sandbox_import_no_airflow(module):
    """Client and sandbox can be used and tested without Airflow."""
    assert not any(name.split(".")[0] == "airflow" for name in read_imports(PACKAGE.parent / module))


@pytest.mark.parametrize(
    ("name", "allowed"),
    [
        ("policy", {"airflow.policies", "bzctrl_provider.settings"}),
        ("settings", {"bzctrl_provider.limits"}),
        ("import_errors/listener", {"airflow.listeners", "bzctrl_provider.settings"}),
        ("preload", {"airflow.listeners"}),
    ],
)
def test_policy_at_its_top_imports_only_the_hook_marker(name, allowed):
    """The policy is loaded during `import airflow` in each process, so that it imports nothing else of Airflow."""
    tree = ast.parse((PACKAGE / f"{name}.py").read_text())
    modules = {node.module for node in tree.body if isinstance(node, ast.ImportFrom)}
    assert {module for module in modules if module.startswith(("airflow", "bzctrl"))} == allowed


@pytest.mark.parametrize(
    "ours",
    [
        BzCtrlFurtherTodoLink,
        BzCtrlHook,
        BzCtrlIncidentLink,
        BzCtrlNotifier,
        BzCtrlTodoDecoratedOperator,
        IncidentOnFailureOperator,
    ],
)
def test_class_for_airflow_overrides_no_private_name(ours):
    """A private method of ours with the name of one of Airflow's would be called in its place."""
    private = {
        name: base
        for base in reversed(ours.__mro__)
        for name in vars(base)
        if name.startswith("_") and not name.endswith("__") and name != "_abc_impl"
    }
    overridden = [
        f"{name} of {base.__qualname__}"
        for base in ours.__mro__
        if not base.__module__.startswith("bzctrl_provider")
        for name in vars(base)
        if name in private and private[name].__module__.startswith("bzctrl_provider")
    ]
    assert overridden == []


@pytest.mark.parametrize("name", CLIENT_LAYERS)
def test_client_module_imports_only_modules_before_it(name):
    """No module of the client imports one that is built on it."""
    ours = {m.rpartition(".")[2] for m in read_imports(PACKAGE / "client" / f"{name}.py") if ".client." in m}
    assert ours <= set(CLIENT_LAYERS[: CLIENT_LAYERS.index(name)])


LOADED_WITH_OPERATORS = {
    "_airflow_internals",
    "exceptions",
    "field_checks",
    "fields",
    "links",
    "links.bzctrl",
    "text",
    "version_compat",
}

LOADED_WITH = {
    "operators": LOADED_WITH_OPERATORS,
    "notifications": {"exceptions", "field_checks", "fields", "text"},
    "hooks": {"exceptions", "metrics", "text"},
    "links": {"text", "version_compat"},
    "decorators": LOADED_WITH_OPERATORS | {"operators", "operators.bzctrl"},
}
"""The parts that a DAG file may import, each with the modules of this package that this loads as well."""

REPORT_LOADED = """
import importlib, json, sys
from airflow.providers.common.compat.sdk import (
    DAG, BaseHook, BaseOperator, BaseOperatorLink, XCom, AirflowException, AirflowFailException, AirflowSkipException,
    BaseNotifier, DecoratedOperator, context_merge, determine_kwargs, mask_secret, redact, task_decorator_factory,
)
import airflow.policies, jinja2

before = set(sys.modules)
loaded = {}
for part in sys.argv[1:]:
    importlib.import_module(f"bzctrl_provider.{part}.bzctrl")
    loaded[part] = sorted(set(sys.modules) - before)
    for name in loaded[part]:
        del sys.modules[name]
from bzctrl_provider.spool import create_delivery_dag
create_delivery_dag()
loaded["create_delivery_dag"] = sorted(set(sys.modules) - before)
print(json.dumps(loaded))
"""


@pytest.fixture(scope="module")
def loaded_modules():
    """Return the modules that each part loads when it is imported after Airflow, from one process for all of them."""
    result = subprocess.run(
        [sys.executable, "-W", "ignore", "-c", REPORT_LOADED, *LOADED_WITH],
        check=True,
        capture_output=True,
        text=True,
    )
    return json.loads(result.stdout.splitlines()[-1])


@pytest.mark.parametrize(("part", "others"), LOADED_WITH.items(), ids=LOADED_WITH)
def test_import_in_a_dag_file_loads_only_listed_modules(loaded_modules, part, others):
    """Importing a part loads exactly these modules of the package, and none of another package."""
    loaded = set(loaded_modules[part])
    ours = {name for name in loaded if name.split(".")[0] == "bzctrl_provider"}
    short = {name.removeprefix("bzctrl_provider.") for name in ours - {"bzctrl_provider"}}
    assert short == {part, f"{part}.bzctrl", *others}
    assert loaded - ours <= {"__future__"}


def test_create_delivery_dag_loads_no_http_library(loaded_modules):
    """A DAG file with the one line is parsed without requests, pydantic models of ours, hook and client."""
    heavy = ("requests", "urllib3", "aiohttp", "fsspec", "bzctrl_provider.client", "bzctrl_provider.hooks")
    assert [name for name in loaded_modules["create_delivery_dag"] if name.startswith(heavy)] == []
