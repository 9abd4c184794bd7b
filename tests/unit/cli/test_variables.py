from __future__ import annotations

import json
from datetime import UTC, datetime, timedelta

import pytest

from bzctrl_provider._airflow_internals import StoredVariable
from bzctrl_provider.cli import variables as command
from bzctrl_provider.memory import variable_name


@pytest.fixture(autouse=True)
def database(monkeypatch):
    """Return the Variables of Airflow's database, by name; one that is `changing` is written again by a task."""
    kept = {}

    def listed(prefix):
        found = [StoredVariable(name, text, text) for name, text in kept.items() if name.startswith(prefix)]
        if "changing" in kept:
            kept[kept.pop("changing")] = "{}"
        return found

    def delete(variable):
        return kept[variable.name] == variable.stored and bool(kept.pop(variable.name))

    monkeypatch.setattr(command, "list_stored_variables", listed)
    monkeypatch.setattr(command, "delete_stored_variable", delete)
    return kept


def store(database, kind, part, *, days):
    name = variable_name(kind, part)
    at = datetime.now(UTC) - timedelta(days=days, hours=1)
    database[name] = json.dumps({"created_at": at.isoformat()})
    return name


@pytest.fixture
def mixed(database):
    """Store an old, a new and an unreadable Variable of the provider, and one of a user; return their names."""
    names = {
        "old": store(database, "dedup", "a", days=31),
        "new": store(database, "memory", "b", days=2),
        "unreadable": variable_name("silenced", "c"),
        "user": "bzctrl__mine",
    }
    return names | {
        name: database.setdefault(names[name], "[]") and names[name] for name in ("unreadable", "user")
    }


def test_list_prints_the_oldest_first_and_changes_nothing(mixed, database, run_command):
    """A line has state, kind, age and name; the last one counts them."""
    before = dict(database)
    code, text = run_command("variables", "list")
    assert code == 0
    assert text.splitlines() == [
        f"unused      dedup       31 d  {mixed['old']}",
        f"used        memory       2 d  {mixed['new']}",
        f"unreadable  silenced       -  {mixed['unreadable']}  it is no JSON object",
        "1 used, 1 unused, 1 unreadable.",
    ]
    assert database == before


def test_list_is_bounded(database, run_command):
    """--limit bounds the lines, and the last lines count the rest."""
    for part in "abc":
        store(database, "dedup", part, days=40)
    _, text = run_command("variables", "list", "--limit", "1")
    assert text.splitlines()[1:] == ["and 2 more", "0 used, 3 unused, 0 unreadable."]
    _, report = run_command("variables", "list", "--limit", "2", "--json")
    assert (len(report["variables"]), report["more"], report["counts"]) == (2, 1, {"unused": 3})


def test_prune_removes_only_the_unused(mixed, database, run_command):
    """The new one, the unreadable one and that of a user stay, and the report names what was removed and why one was not."""
    code, text = run_command("variables", "prune")
    assert code == 0
    assert text.splitlines() == [
        f"removed     dedup       31 d  {mixed['old']}",
        f"unreadable  silenced       -  {mixed['unreadable']}  it is no JSON object",
        "1 removed, 1 used, 1 unreadable.",
    ]
    assert set(database) == {mixed[name] for name in ("new", "unreadable", "user")}


def test_prune_takes_another_age(mixed, database, run_command):
    """--older-than-days is the limit."""
    _, report = run_command("variables", "prune", "--older-than-days", "1", "--json")
    assert [row["state"] for row in report["variables"]] == ["removed", "removed", "unreadable"]
    assert report["counts"] == {"removed": 2, "unreadable": 1}
    assert mixed["new"] not in database


def test_prune_dry_run_removes_nothing(mixed, database, run_command):
    """The report has what would be removed."""
    before = dict(database)
    code, text = run_command("variables", "prune", "--dry-run")
    assert code == 0
    assert text.splitlines()[0] == f"unused      dedup       31 d  {mixed['old']}"
    assert text.splitlines()[-1] == "1 unused, 1 used, 1 unreadable. Nothing was removed: --dry-run."
    assert run_command("variables", "prune", "--dry-run", "--json")[1]["dry_run"] is True
    assert database == before


def test_prune_leaves_a_variable_that_a_task_changes_meanwhile(database, run_command):
    """The command does not remove a value that it has not read."""
    name = store(database, "dedup", "a", days=31)
    database["changing"] = name
    code, text = run_command("variables", "prune")
    assert (code, text) == (0, "0 removed, 1 used, 0 unreadable.\n")
    assert database == {name: "{}"}


@pytest.mark.security
def test_list_shows_no_value_and_no_control_character(database, run_command):
    """A name and a value may be written by others: neither reaches the terminal as it is."""
    name = "bzctrl__memory__\x1b[2J\u202e__0123456789abcdef"
    database[name] = '{"r": {"written_at": "2001-01-01T00:00:00+00:00", "title": "secret"}}'
    _, text = run_command("variables", "list")
    assert text.replace("\n", "").isprintable()
    assert "secret" not in text


def test_variables_without_a_database_is_an_error(monkeypatch, run_command):
    """The message has the error and where to run the command."""

    def fail(prefix):
        raise RuntimeError("no such table: variable\n[SQL: SELECT variable.val FROM variable]")

    monkeypatch.setattr(command, "list_stored_variables", fail)
    for action in ("list", "prune"):
        code, text = run_command("variables", action)
        assert (code, "a worker of Airflow 3 has none" in text) == (1, True)
        assert "read or changed: RuntimeError: no such table: variable. Run" in text
        assert run_command("variables", action, "--json")[1]["ok"] is False
