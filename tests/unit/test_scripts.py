"""The scripts by which somebody tries the provider: what they print, and how many runs they start."""

from __future__ import annotations

import io
from types import SimpleNamespace

import demo
import pytest
import ui

RED, END = "\033[31m", "\033[0m"
ADDRESS = "http://127.0.0.1:8080"


@pytest.mark.parametrize("is_terminal", [True, False])
def test_demo_prints_one_state_a_line_and_the_failed_one_in_red_on_a_terminal(monkeypatch, is_terminal):
    """A file and a pipe get no control characters."""
    terminal = io.StringIO()
    monkeypatch.setattr(terminal, "isatty", lambda: is_terminal)
    monkeypatch.setattr(demo, "terminal", terminal, raising=False)
    states = {"totals": "success", "amounts": "failed"}
    tasks = [SimpleNamespace(task_id=name, state=state) for name, state in states.items()]
    demo.show(SimpleNamespace(state="failed", get_task_instances=lambda: tasks), [])
    red = f"{RED}failed{END}" if is_terminal else "failed"
    lines = terminal.getvalue().splitlines()
    assert lines[:3] == [f"  the run  {red}", f"  amounts  {red}", "  totals   success"]


@pytest.mark.parametrize(("next_run", "triggered"), [("2026-11-27T00:00:00Z", 0), (None, 1)])
def test_ui_starts_one_run_of_each_dag(requests_mock, monkeypatch, next_run, triggered):
    """Airflow starts a run of a DAG with a schedule as soon as it is unpaused: a second one would be a second incident."""
    monkeypatch.setattr(ui.time, "sleep", lambda _: None)
    requests_mock.get(f"{ADDRESS}/auth/token", json={"access_token": "t"})
    requests_mock.patch(f"{ADDRESS}/api/v2/dags/d", json={"next_dagrun_run_after": next_run})
    runs = requests_mock.post(f"{ADDRESS}/api/v2/dags/d/dagRuns", json={})
    ui.run_once(ADDRESS, "d")
    assert runs.call_count == triggered
