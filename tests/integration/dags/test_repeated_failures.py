from __future__ import annotations

from pathlib import Path

import pytest
from support.airflow_versions import VERSION

from bzctrl_provider.notifications.callback import WaitingTime

FILE = Path(__file__).parent / "files" / "repeated.py"

# Under `dag.test()` of Airflow 3, the callback of a DAG has no Variables.
KINDS = ["of_a_task", "of_a_masked_task", "of_a_roll_up", *(["of_a_run"] if VERSION < (3, 0) else [])]


@pytest.fixture
def run_all(run, monkeypatch):
    """Return what runs a DAG of the file once for each letter, of which ``f`` is a failure and ``s`` a success."""

    def run_outcomes(kind, outcomes):
        for outcome in outcomes:
            # As in a process of its own.
            monkeypatch.setattr("bzctrl_provider.notifications.callback.budget", WaitingTime())
            monkeypatch.setenv("OUTCOME", "fail" if outcome == "f" else "pass")
            run(FILE, f"repeated_{kind}")

    return run_outcomes


@pytest.mark.parametrize("kind", KINDS)
def test_second_failure_in_a_row_raises_one_until_a_success(run_all, bzctrl_sandbox, kind):
    """A success begins the count again, a further failure is in the window of the incident, and a success ends the window."""
    for outcomes, number in (("fsf", 0), ("f", 1), ("f", 1), ("sff", 2)):
        run_all(kind, outcomes)
        assert len(bzctrl_sandbox.todos) == number
