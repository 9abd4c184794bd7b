from __future__ import annotations

import json
from datetime import UTC, datetime, timedelta

from bzctrl_provider import dedup
from bzctrl_provider.memory import VariableMemory, variable_name
from bzctrl_provider.pruning import VARIABLE_PREFIX, read_age
from bzctrl_provider.silences import Silence, count_silenced

NOW = datetime(2026, 11, 30, 12, tzinfo=UTC)
MONTH = timedelta(days=30)
NAME = variable_name("memory", "customs", "raise_incident")


def test_read_age_knows_only_the_names_that_the_provider_gives():
    """Also with a line break in the id of a DAG; the silences and a user's own Variables are never removed."""
    for kind in ("memory", "dedup", "failures", "passed", "silenced"):
        name = variable_name(kind, "customs\nnl", "t")
        assert name.startswith(VARIABLE_PREFIX)
        assert read_age(name, "{}").kind == kind
    for name in (
        "bzctrl_silences",
        "bzctrl__memory",
        "bzctrl__other__a__0123456789abcdef",
        f"x{NAME}",
        f"{NAME}0",
    ):
        assert read_age(name, '{"created_at": "2001-01-01T00:00:00+00:00"}') is None


def test_read_age_of_a_memory_is_that_of_its_last_write(variables):
    """A Variable whose task is still remembered by one run is used."""
    for run, days in (("old", 90), ("new", 3)):
        VariableMemory(NAME, run, now=lambda days=days: NOW - timedelta(days=days)).set("todo.0", {"page": 0})
    age = read_age(NAME, variables[NAME])
    assert age.last_used_at == NOW - timedelta(days=3)
    assert age.age_s(NOW) == 3 * 86_400


def test_read_age_of_a_window_is_that_of_its_incident(variables):
    """The time is that at which the first incident was raised."""
    dedup.create_unless_seen(
        lambda todo: {"key": "K"},
        {},
        key="k",
        window=timedelta(days=1),
        now=lambda: NOW - timedelta(days=40),
    )
    [(name, text)] = variables.items()
    assert read_age(name, text).state(now=NOW, older_than=MONTH) == "unused"


def test_read_age_of_silenced_failures_is_that_of_the_last_one():
    """A silence that began long ago and still counts is used."""
    silence = Silence(until=NOW)
    first = count_silenced(None, silence, now=NOW - timedelta(days=90))
    second = count_silenced(first, silence, now=NOW - timedelta(days=1))
    age = read_age(variable_name("silenced", "customs"), json.dumps({"since": first, "b": second}))
    assert age.last_used_at == NOW - timedelta(days=1)


def test_state_depends_on_the_age():
    """From the limit on it is unused, also if it holds nothing; a time in the future, by a clock set back, is used."""
    for age, state in [(timedelta(days=29, hours=23), "used"), (MONTH, "unused"), (-MONTH, "used")]:
        read = read_age(NAME, json.dumps({"r 0": {"written_at": (NOW - age).isoformat()}}))
        assert read.state(now=NOW, older_than=MONTH) == state
    assert read_age(NAME, "{}").state(now=NOW, older_than=MONTH) == "unused"


def test_state_of_an_unreadable_one_is_not_unused():
    """It is never removed, and the reason is named; the text of a todo is no time."""
    no_times = (5, "2001-01-01T00:00:00", "yesterday", "0001-01-01T00:00:00+23:00")
    for text, reason in [
        (None, "cannot be decrypted"),
        ("", "not JSON"),
        ("[" * 100_000, "not JSON"),
        ("[]", "no JSON object"),
        ('{"a": 1}', "has no time"),
        *((json.dumps({"created_at": time}), "has no time") for time in no_times),
        ('{"created": {"created_at": "2001-01-01T00:00:00+00:00"}}', "has no time"),
    ]:
        age = read_age(NAME, text)
        assert reason in age.reason
        assert age.state(now=NOW, older_than=MONTH) == "unreadable"
        assert age.age_s(NOW) is None
