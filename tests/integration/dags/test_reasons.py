from __future__ import annotations

from pathlib import Path

import pytest
from support.airflow_versions import CALLBACKS_HAVE_THE_EXCEPTION

FILE = Path(__file__).parent / "files" / "reasons.py"


def get_lines(todo):
    return todo["description"].splitlines()


def test_plain_check_incident_has_exception_consequences_and_owner(run, bzctrl_sandbox):
    """The operator is the only setup: why it failed, what did not run, what was not updated, and who owns it."""
    run(FILE, "plain")
    (todo,) = bzctrl_sandbox.todos
    lines = get_lines(todo)
    if CALLBACKS_HAVE_THE_EXCEPTION:
        assert "  ValueError: the totals differ by 12.50" in lines
    assert "It left no exception" not in todo["description"]
    assert "Did not run: load, publish" in lines
    assert "Not updated: declarations" in lines
    assert todo["assignee"] == "customs@example.com"


def test_mapped_check_incident_has_the_names_of_its_instances(run, bzctrl_sandbox):
    """The names that `map_index_template` gives, and a link for each."""
    run(FILE, "mapped")
    (todo,) = bzctrl_sandbox.todos
    lines = get_lines(todo)
    assert "- carrier_known (@task): 2 of 4 mapped failed (DHL, FedEx)" in lines
    if CALLBACKS_HAVE_THE_EXCEPTION:
        assert "  [DHL] ValueError: DHL has no contract" in lines
    assert todo["description"].count("\nLog of carrier_known[") == 2


def test_task_group_incident_has_exception_and_assets(run, bzctrl_sandbox):
    """A whole group is connected with the operator."""
    run(FILE, "grouped")
    (todo,) = bzctrl_sandbox.todos
    lines = get_lines(todo)
    assert "- checks.totals (@task): failed" in lines
    if CALLBACKS_HAVE_THE_EXCEPTION:
        assert "  ValueError: the totals differ by 12.50" in lines
    assert "Did not run: publish" in lines
    assert "Not updated: declarations" in lines


@pytest.mark.security
def test_sql_checks_incidents_have_their_results(run, bzctrl_sandbox):
    """Each check operator of common.sql: what was expected and found, and no name of a person."""
    run(FILE, "sql")
    todos = {todo["title"].split()[1]: todo for todo in bzctrl_sandbox.todos}
    assert {name: get_lines(todo)[3:-5] for name, todo in todos.items()} == {
        "amounts": [
            "  null_check   d.amount   expected 0, actual 2",
            "  min          d.amount   expected >= 5, actual 1",
        ],
        "names": ["  min   d.name   expected A"],
        "rows": ["  row_count   d   expected true, actual 0", "    COUNT(*) > 100"],
        "complete": [
            "  expected true, actual 0",
            "    SELECT COUNT(*) = 0 FROM d WHERE amount IS NULL",
        ],
        "rows_of_people": ["  expected true", "    SELECT name, amount FROM d"],
        "count": ["  expected 5, actual 4", "    SELECT COUNT(*) FROM d"],
    }
    assert todos["amounts"]["lrn"] == "2"
    assert "Jan" not in str(bzctrl_sandbox.todos)


def test_sql_checks_of_mapped_task_incident_has_names_and_results(run, bzctrl_sandbox):
    """The names come from the rendered parameters of the operator."""
    run(FILE, "mapped_sql")
    (todo,) = bzctrl_sandbox.todos
    lines = get_lines(todo)
    assert "- count (SQLValueCheckOperator): 2 of 3 mapped failed (2, 3)" in lines
    assert "    expected 3, actual 1" in lines


def test_notifier_of_mapped_task_title_has_the_name(run, bzctrl_sandbox):
    """Also what did not run after it; an asset that another instance may update is not named."""
    run(FILE, "notified")
    (todo,) = bzctrl_sandbox.todos
    assert todo["title"] == "notified: carrier_paid[DHL] failed"
    assert "Did not run: publish" in get_lines(todo)


def test_task_marked_as_failed_incident_names_what_is_possible(run, bzctrl_sandbox):
    """Airflow shows a task downstream only the state: not that somebody set it, and not that a process was killed."""
    run(FILE, "marked_by_hand")
    (todo,) = bzctrl_sandbox.todos
    assert "- totals (@task): failed" in get_lines(todo)
    sentence = (
        "It left no exception: its process was killed or never started, a trigger ended it, or somebody marked it as "
        "failed."
    )
    assert f"  {sentence}" in get_lines(todo)
