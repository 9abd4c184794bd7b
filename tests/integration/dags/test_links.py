from __future__ import annotations

from pathlib import Path

import pytest
from support.airflow_versions import VERSION

FILE = Path(__file__).parent / "files" / "callbacks.py"

pytestmark = pytest.mark.skipif(VERSION < (3, 2), reason="older API servers have other ways to log in")


@pytest.fixture
def links(monkeypatch):
    """Return what asks Airflow's API for the links of a task."""
    monkeypatch.setenv("AIRFLOW__CORE__SIMPLE_AUTH_MANAGER_ALL_ADMINS", "True")
    monkeypatch.setenv("AIRFLOW__API_AUTH__JWT_SECRET", "a secret of this test, of some length")
    from airflow.api_fastapi.app import create_app
    from fastapi.testclient import TestClient

    with TestClient(create_app(apps="core")) as client:
        token = client.get("/auth/token").json()["access_token"]

        def ask(dag_run, task_id):
            path = f"/api/v2/dags/{dag_run.dag_id}/dagRuns/{dag_run.run_id}/taskInstances/{task_id}/links"
            return client.get(path, headers={"Authorization": f"Bearer {token}"}).json()["extra_links"]

        yield ask


def test_task_whose_callback_raised_an_incident_has_its_link(
    run, bzctrl_sandbox, links, monkeypatch, tmp_path
):
    """Airflow's API returns it for that task, and nothing for another one, which the UI does not show."""
    monkeypatch.setenv("AIRFLOW__BZCTRL__SPOOL_PATH", str(tmp_path / "spool"))
    dag_run, tasks = run(FILE, "of_a_task")
    (todo,) = bzctrl_sandbox.todos
    by_task = {task_id: links(dag_run, task_id) for task_id in tasks}
    assert by_task.pop("totals") == {"BzCtrl todo": todo["taskLink"]}
    assert by_task
    assert all(found == {"BzCtrl todo": None} for found in by_task.values())
