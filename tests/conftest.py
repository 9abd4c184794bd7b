from __future__ import annotations

import json
import os
import random
import tempfile
from pathlib import Path
from types import SimpleNamespace

import coverage
import pytest
from hypothesis import settings as hypothesis_settings

# Hypothesis loads its own profile `ci`, with 100 examples a test, where CI is set; there is no time for so many after each change.
hypothesis_settings.register_profile("local", max_examples=25, deadline=None)
if not os.environ.get("CI"):
    hypothesis_settings.load_profile("local")

# The processes of pytest-xdist have to collect the same tests, some of which have a set in their id.
os.environ.setdefault("PYTHONHASHSEED", str(random.randrange(2**32)))
IS_WORKER = "PYTEST_XDIST_WORKER" in os.environ
if IS_WORKER:
    # Coverage measures this process by then; it would make each process that a test starts slower.
    os.environ.pop("COVERAGE_PROCESS_CONFIG", None)

# This has to run before the import of Airflow, which reads its configuration then; the user's own deployment is not used.
# Each process of pytest-xdist gets a home of its own.
ROOT = Path(__file__).parent.parent
_home = tempfile.TemporaryDirectory(prefix="bzctrl-tests-")
BUNDLES = {
    "examples": ROOT / "dags_examples",
    "tests": ROOT / "tests" / "integration" / "dags" / "files",
    "docs": Path(_home.name) / "dags_of_docs",
}
for name in [name for name in os.environ if name.startswith("AIRFLOW")]:
    del os.environ[name]
os.environ |= {
    "AIRFLOW_HOME": _home.name,
    "AIRFLOW__CORE__DAGS_FOLDER": str(BUNDLES["examples"]),
    "AIRFLOW__CORE__LOAD_EXAMPLES": "False",
    # It cannot be used, so that callbacks send directly. A test that is about the store sets one of its own.
    "AIRFLOW__BZCTRL__DATABASE": "sqlite:////dev/null/bzctrl.db",
    "AIRFLOW__DATABASE__SQL_ALCHEMY_CONN": f"sqlite:///{_home.name}/airflow.db",
    "AIRFLOW__DAG_PROCESSOR__DAG_BUNDLE_CONFIG_LIST": json.dumps(
        [
            {
                "name": name,
                "classpath": "airflow.dag_processing.bundles.local.LocalDagBundle",
                "kwargs": {"path": str(path)},
            }
            for name, path in BUNDLES.items()
        ]
    ),
}


@pytest.hookimpl(tryfirst=True)
def pytest_sessionfinish():
    """Write what coverage has measured in a process of pytest-xdist, which is killed if its exit takes too long."""
    if IS_WORKER and (measured := coverage.Coverage.current()):
        measured.stop()
        measured.save()


@pytest.hookimpl(wrapper=True, tryfirst=True)
def pytest_runtest_makereport(item, call):
    """Let a report be sent as UTF-8 to another process: Airflow 2 logs half a surrogate pair as it is."""
    report = yield
    report.sections = [
        (name, content.encode(errors="backslashreplace").decode()) for name, content in report.sections
    ]
    return report


@pytest.fixture(autouse=True)
def _fresh_process(monkeypatch):
    """Let each test begin as a process does: with no token, with options that are not read yet, and with no time spent."""
    from bzctrl_provider.client import auth
    from bzctrl_provider.notifications import callback
    from bzctrl_provider.outbox import runner
    from bzctrl_provider.settings import settings

    # A server of this test may have the port of an earlier one, whose token would spare it the login.
    auth._sources.clear()
    settings.cache_clear()
    monkeypatch.setattr(callback, "budget", callback.WaitingTime())
    runner.budget = runner.Budget()
    # No thread of one test delivers into the next one.
    monkeypatch.setattr(callback, "_delivery", SimpleNamespace(request=lambda: None))


@pytest.fixture
def fields() -> dict[str, object]:
    """Return the fields of a valid todo."""
    return {
        "todo_type": "INCIDENT",
        "domain_workspace": "EXA-CON-BUS-WOR",
        "title": "Potential Customs claim",
        "description": "Operation started without proper approvals",
        "reporter": "reporter@example.com",
        "order_id": "ORDER 777",
    }
