from __future__ import annotations

import ast
import json
import subprocess
import sys
from collections import Counter
from importlib import import_module
from pathlib import Path

import pytest

from bzctrl_provider.decorators.bzctrl import BzCtrlTodoDecoratedOperator
from bzctrl_provider.hooks.bzctrl import BzCtrlHook
from bzctrl_provider.links.bzctrl import BzCtrlFurtherTodoLink, BzCtrlIncidentLink
from bzctrl_provider.notifications.bzctrl import BzCtrlNotifier
from bzctrl_provider.operators.bzctrl import IncidentOnFailureOperator

PACKAGE = Path(__file__).parents[2] / "bzctrl_provider"

FLOORS = [
    {"decorators", "plugin", "policy", "sandbox"},
    {"cli", "failed_runs", "import_errors", "notifications", "operators"},
    {"incidents"},
    {"failure", "links", "outbox"},
    {"airflow_compat", "hooks", "rules", "store"},
    {"best_effort", "checks", "client", "settings"},
    {"exceptions", "fields", "get_provider_info", "metrics", "text"},
]
"""The rooms of the package, from the top floor down: a room imports only rooms of the floors below its own."""

WITH_A_DAG_FILE = {
    "airflow_compat",
    "best_effort",
    "exceptions",
    "fields",
    "links",
    "links.bzctrl",
    "metrics",
    "rules",
    "rules.field_checks",
    "text",
}
"""The modules that the parts for DAG files may load when they are imported, besides each other."""

PUBLIC = {
    "checks": ["checks_from_dbt", "checks_from_gx"],
    "client.api": ["BzCtrlClient"],
    "client.config": ["BzCtrlConfig", "Endpoints"],
    "client.todo": ["CreatedTodo", "Todo"],
    "decorators.bzctrl": ["bzctrl_todo_task"],
    "exceptions": [
        "BzCtrlAPIError",
        "BzCtrlAuthError",
        "BzCtrlBadAnswerError",
        "BzCtrlConfigError",
        "BzCtrlError",
        "BzCtrlRateLimitError",
        "BzCtrlRejectedError",
        "BzCtrlServerError",
        "BzCtrlTransportError",
        "BzCtrlValidationError",
    ],
    "failure": ["CheckResult", "FailedTask", "Failure", "LazyFailure", "remember_exception"],
    "get_provider_info": ["get_provider_info"],
    "hooks.bzctrl": ["BzCtrlHook"],
    "links.bzctrl": ["BzCtrlTodoLink"],
    "notifications.bzctrl": ["BzCtrlNotifier", "send_bzctrl_notification"],
    "operators.bzctrl": ["CreateTodoOperator", "CreateTodosOperator", "IncidentOnFailureOperator"],
    "outbox": [
        "DeliveryResult",
        "Incident",
        "NotRaised",
        "Repeats",
        "create_delivery_dag",
        "deliver",
        "deliver_soon",
        "identify",
        "write",
    ],
    "plugin": ["BzCtrlPlugin"],
    "policy": ["dag_policy", "task_policy"],
    "sandbox": ["FaultName", "FaultTarget", "RecordedRequest", "Sandbox"],
    "sandbox.pytest_plugin": ["bzctrl_sandbox"],
}
"""The names that users import, and entry points name."""


def read_imports(path):
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path} has a relative import"
            yield node.module
            # A name that is imported from a package may be a module.
            yield from (f"{node.module}.{alias.name}" for alias in node.names)


def count_code_lines(path):
    """Return the number of lines that are neither blank nor comment nor docstring."""
    text = path.read_text()
    strings = {
        line
        for node in ast.walk(ast.parse(text))
        if isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant)
        for line in range(node.lineno, node.end_lineno + 1)
    }
    lines = enumerate(text.splitlines(), 1)
    return sum(
        bool(line.strip()) and not line.strip().startswith("#") and n not in strings for n, line in lines
    )


MODULES = sorted(path.relative_to(PACKAGE.parent) for path in PACKAGE.rglob("*.py"))


def test_room_imports_only_rooms_below():
    """Imports go down: each room is on one floor, and imports only rooms of lower ones."""
    floor = {room: number for number, rooms in enumerate(FLOORS) for room in rooms}
    rooms = {module.parts[1].removesuffix(".py") for module in MODULES} - {"__init__"}
    assert sorted(floor) == sorted(rooms)
    assert len(floor) == sum(map(len, FLOORS))
    wrong = [
        f"{module} imports {name}"
        for module in MODULES
        if (own := module.parts[1].removesuffix(".py")) in floor
        for name in read_imports(PACKAGE.parent / module)
        if name.startswith("bzctrl_provider.")
        and (other := name.split(".")[1]) != own
        and floor[other] <= floor[own]
    ]
    assert wrong == []


def test_modules_import_each_other_in_no_circle():
    """No module imports, at its top or inside a function, one that imports it; packages only pass names on."""
    names = {".".join(m.with_suffix("").parts): m for m in MODULES if m.stem != "__init__"}
    left = {name: set(read_imports(PACKAGE.parent / path)) & names.keys() for name, path in names.items()}
    while ready := [name for name, imports in left.items() if not imports & left.keys()]:
        for name in ready:
            del left[name]
    assert left == {}


def test_package_is_small_enough_to_know():
    """At most 70 modules have code, of which 14 are at the top; but for packages, none is smaller than 20 lines."""
    lines = {module: count_code_lines(PACKAGE.parent / module) for module in MODULES}
    assert sum(number > 2 for number in lines.values()) <= 70
    assert sum(len(module.parts) == 2 for module in MODULES) <= 14
    assert [str(m) for m, number in lines.items() if number < 20 and m.stem != "__init__"] == []


def test_name_of_a_module_and_of_a_class_is_unique():
    """A name leads to one place, but for the modules `bzctrl`, whose names Airflow's conventions give."""
    stems = Counter(module.stem for module in MODULES if module.stem not in ("__init__", "bzctrl"))
    classes = Counter(
        node.name
        for module in MODULES
        for node in ast.walk(ast.parse((PACKAGE.parent / module).read_text()))
        if isinstance(node, ast.ClassDef)
    )
    assert [name for name, number in (*stems.items(), *classes.items()) if number > 1] == []


@pytest.mark.parametrize("module", PUBLIC)
def test_public_name_can_be_imported(module):
    """The paths of the documentation stay, whatever is moved."""
    found = import_module(f"bzctrl_provider.{module}")
    assert [name for name in PUBLIC[module] if not hasattr(found, name)] == []


@pytest.mark.parametrize("module", [m for m in MODULES if m.parts[1] in ("client", "sandbox")], ids=str)
def test_client_and_sandbox_import_no_airflow(module):
    """Client and sandbox can be used and tested without Airflow."""
    assert not any(name.split(".")[0] == "airflow" for name in read_imports(PACKAGE.parent / module))


@pytest.mark.parametrize(
    ("name", "allowed"),
    [
        ("policy", {"airflow.policies", "bzctrl_provider.settings"}),
        ("plugin", {"airflow.listeners", "airflow.plugins_manager", "bzctrl_provider.settings"}),
        ("settings", {"bzctrl_provider.fields", "bzctrl_provider.text"}),
        ("text", set()),
    ],
)
def test_policy_and_plugin_at_their_tops_import_only_the_hook_marker(name, allowed):
    """Airflow loads them in each process, the policy during `import airflow`, so that they import nothing else of Airflow."""
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


FOR_DAG_FILES = ("decorators", "hooks", "links", "notifications", "operators")

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
from bzctrl_provider.outbox import create_delivery_dag
create_delivery_dag()
loaded["create_delivery_dag"] = sorted(set(sys.modules) - before)
print(json.dumps(loaded))
"""


@pytest.fixture(scope="module")
def loaded_modules():
    """Return the modules that each part loads when it is imported after Airflow, from one process for all of them."""
    result = subprocess.run(
        [sys.executable, "-W", "ignore", "-c", REPORT_LOADED, *FOR_DAG_FILES],
        check=True,
        capture_output=True,
        text=True,
    )
    return json.loads(result.stdout.splitlines()[-1])


@pytest.mark.parametrize("part", FOR_DAG_FILES)
def test_import_in_a_dag_file_loads_only_light_modules(loaded_modules, part):
    """Importing a part loads only light modules of the package, and none of another package."""
    loaded = set(loaded_modules[part])
    ours = {name for name in loaded if name.split(".")[0] == "bzctrl_provider"}
    short = {name.removeprefix("bzctrl_provider.") for name in ours - {"bzctrl_provider"}}
    parts = {name for each in FOR_DAG_FILES for name in (each, f"{each}.bzctrl")}
    assert short <= WITH_A_DAG_FILE | parts
    assert loaded - ours <= {"__future__"}


def test_create_delivery_dag_loads_neither_the_store_nor_an_http_library(loaded_modules):
    """A DAG file with the one line is parsed without the store, hook and client; of the outbox it loads the DAG only."""
    loaded = loaded_modules["create_delivery_dag"]
    assert [name for name in loaded if name.startswith(("requests", "urllib3", "aiohttp"))] == []
    ours = {name.removeprefix("bzctrl_provider.") for name in loaded if name.startswith("bzctrl_provider.")}
    assert ours <= {"outbox", "outbox.dag", "text"}


def test_store_and_its_statements_import_nothing_of_airflow_but_its_configuration():
    """Its schema and statements are tested without Airflow; nothing but the default URL and the executor is asked of it."""
    found = {
        (module.name, name)
        for module in MODULES
        if module.parts[1] == "store"
        for name in read_imports(PACKAGE.parent / module)
        if name.split(".")[0] == "airflow"
    }
    assert found == {
        ("database.py", "airflow.configuration"),
        ("database.py", "airflow.configuration.get_airflow_home"),
        ("database.py", "airflow.providers.common.compat.sdk"),
        ("database.py", "airflow.providers.common.compat.sdk.conf"),
    }


@pytest.mark.parametrize("module", ["rules/routes", "rules/silences", "store/repeats"])
def test_pure_rules_import_no_storage(module):
    """The rules of routes, silences and repeated failures are functions of their arguments."""
    names = set(read_imports(PACKAGE / f"{module}.py"))
    assert not any(name.startswith(("airflow", "sqlalchemy", "bzctrl_provider.store")) for name in names)
