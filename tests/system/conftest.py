from __future__ import annotations

import secrets
from types import SimpleNamespace

import pytest
from local_airflow import fill_warehouse, write_readme_dag
from support.cluster import PASSWORD, REFUSED_PASSWORD, ROOT, RUN, USERNAME, Cluster, free_ports

from bzctrl_provider.sandbox import Sandbox, app

ROUTES = """
[[route]]
dags = ["backfilled_declarations"]
ignore = false

[[route]]
run_types = ["backfill"]
ignore = true

[[route]]
dags = ["race_runs"]
dedup_window_s = 3600
dedup_key = "race of runs"

[[route]]
dags = ["race_dag_*"]
dedup_window_s = 3600
dedup_key = "race of DAGs"
"""

RACE_DAGS = 50
RACE_DAG = """
from datetime import UTC, datetime

from airflow.providers.common.compat.sdk import DAG, task

from bzctrl_provider.notifications.bzctrl import BzCtrlNotifier


@task
def fails():
    raise ValueError("the totals differ by 7")


ARGS = {{"schedule": None, "start_date": datetime(2026, 1, 1, tzinfo=UTC)}}
with DAG("race_dag_{number:02}", tags=["policy"], **ARGS):
    fails()
with DAG("wake_dag_{number:02}", on_failure_callback=BzCtrlNotifier(), **ARGS):
    fails()
"""
"""In files of their own, because the callbacks of one file are called one after the other."""


def pytest_collection_modifyitems(items):
    """Run the storm first, before the cluster of the other tests takes a part of the machine."""
    items.sort(key=lambda item: "test_storm" not in item.nodeid)


@pytest.fixture(scope="session")
def issued():
    """Collect every token that the sandbox issues."""
    return []


@pytest.fixture(scope="session")
def bzctrl(tmp_path_factory, issued):
    """Serve one sandbox for the whole session; a test may stop and restart it."""
    (port,) = free_ports(1)
    data = tmp_path_factory.mktemp("sandbox") / "todos.sqlite"
    sandbox = Sandbox(port=port, data=data, username=USERNAME, password=PASSWORD)

    def noted(size):
        issued.append(secrets.token_urlsafe(size))
        return issued[-1]

    with pytest.MonkeyPatch.context() as patch, sandbox:
        patch.setattr(app, "secrets", SimpleNamespace(token_urlsafe=noted))
        yield sandbox


@pytest.fixture(scope="session")
def cluster(bzctrl, tmp_path_factory):
    """Start the cluster with the connections in its database; check that none of its processes is left."""
    folder = tmp_path_factory.mktemp("cluster")
    write_readme_dag(folder / "readme")
    fill_warehouse(folder / "dwh.db")
    (folder / "routes.toml").write_text(ROUTES)
    (folder / "races").mkdir()
    for number in range(RACE_DAGS):
        (folder / "races" / f"race_{number:02}.py").write_text(RACE_DAG.format(number=number))
    cluster = Cluster(
        logs=RUN / "logs",
        bundles={
            "system": ROOT / "tests" / "system" / "dags",
            "examples": ROOT / "dags_examples",
            "readme": folder / "readme",
            "races": folder / "races",
        },
        settings={
            "AIRFLOW__BZCTRL__INCIDENT_ON_FAILED_RUN": "True",
            "AIRFLOW__BZCTRL__INCLUDE_TAGS": "policy",
            "AIRFLOW__BZCTRL__REMEMBER_EXCEPTIONS": "True",
            "AIRFLOW__BZCTRL__ROUTES_PATH": str(folder / "routes.toml"),
            # So that each incident is a todo; the storms are about summaries.
            "AIRFLOW__BZCTRL__GROUP_ABOVE": "0",
            "AIRFLOW__DAG_PROCESSOR__MIN_FILE_PROCESS_INTERVAL": "60",
            "AIRFLOW__DAG_PROCESSOR__PARSING_PROCESSES": "8",
        },
    )
    try:
        cluster.start()
        connection = {
            "conn_type": "bzctrl",
            "host": bzctrl.url,
            "login": USERNAME,
            "extra": '{"domain_workspace": "EXA-CON-BUS-WOR"}',
        }
        for conn_id, password in {"bzctrl_default": PASSWORD, "bzctrl_refused": REFUSED_PASSWORD}.items():
            cluster.api(
                "POST", "/connections", json={**connection, "connection_id": conn_id, "password": password}
            )
        for conn_id, file in {"sea_ports_db": "ports.db", "dwh": "dwh.db"}.items():
            cluster.api(
                "POST",
                "/connections",
                json={"connection_id": conn_id, "conn_type": "sqlite", "host": str(folder / file)},
            )
        yield cluster
    finally:
        left = cluster.stop()
    assert not left


@pytest.fixture(scope="session")
def postgres():
    """Start only PostgreSQL."""
    cluster = Cluster(logs=RUN / "postgres", bundles={"none": ROOT}, settings={})
    try:
        cluster.start(only_postgres=True)
        yield cluster
    finally:
        left = cluster.stop()
    assert not left


@pytest.fixture
def todos(bzctrl):
    """Empty the sandbox, and return a function that returns its todos."""
    bzctrl.reset()
    return lambda: bzctrl.todos


@pytest.fixture(scope="session")
def browser():
    """Start Debian's Chromium without requests to other machines."""
    from playwright.sync_api import expect, sync_playwright

    expect.set_options(timeout=20_000)
    quiet = ["background-networking", "component-update", "sync", "quic", "gpu"]
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(
            executable_path="/usr/bin/chromium",
            args=["--no-sandbox", "--no-first-run", *(f"--disable-{what}" for what in quiet)],
        )
        yield browser
        browser.close()


@pytest.fixture
def page(browser, request):
    """Open a page, and keep its last screenshot."""
    context = browser.new_context(viewport={"width": 1280, "height": 900})
    context.set_default_timeout(20_000)
    page = context.new_page()
    yield page
    page.screenshot(path=RUN / "screenshots" / "last" / f"{request.node.name}.png")
    context.close()


@pytest.fixture(scope="session")
def pictures():
    """Return the folder of the pictures for the documentation."""
    return RUN / "screenshots"
