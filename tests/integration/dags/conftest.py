from __future__ import annotations

import json
import runpy
from pathlib import Path

import pytest


def pytest_collection_modifyitems(items):
    """Let Airflow's own warnings pass where it runs DAGs: with each release there are others."""
    for item in items:
        if Path(__file__).parent in item.path.parents:
            item.add_marker(pytest.mark.filterwarnings("default"))


@pytest.fixture
def run(_database, bzctrl_sandbox, tmp_path, monkeypatch):
    """Return what runs a DAG of a file in this process, and gives its run and the task instances by id."""
    sea_ports_db = {"conn_type": "sqlite", "host": str(tmp_path / "sea_ports.db")}
    monkeypatch.setenv("AIRFLOW_CONN_SEA_PORTS_DB", json.dumps(sea_ports_db))

    def run_dag(file, name="dag"):
        dag_run = runpy.run_path(str(file))[name].test()
        tis = {}
        for ti in dag_run.get_task_instances():
            tis.setdefault(ti.task_id, []).append(ti)
        return dag_run, {task: sorted(of, key=lambda ti: ti.map_index) for task, of in tis.items()}

    return run_dag
