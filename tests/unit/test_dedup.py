from __future__ import annotations

import datetime as dt
import json
import logging
from types import SimpleNamespace

import pytest
from support.hostile import FORGED, find_one

from bzctrl_provider.dedup import create_unless_seen, default_key, find_window_errors
from bzctrl_provider.exceptions import BzCtrlServerError
from bzctrl_provider.failure import FailedTask, Failure

FIELDS = {"title": "t", "description": "d"}
DAY = dt.timedelta(days=1)


class BzCtrl:
    """Creates todos at a time that a test moves on."""

    def __init__(self):
        self.now = dt.datetime(2026, 11, 21, 6, tzinfo=dt.UTC)
        self.todos = []

    def fail(self, *, after=dt.timedelta(), key="customs//totals", fields=FIELDS, create=None, window=DAY):
        self.now += after
        return create_unless_seen(create or self.create, fields, key=key, window=window, now=lambda: self.now)

    def create(self, fields):
        self.todos.append(fields)
        number = len(self.todos)
        return {
            "key": f"EXA-{number:02}",
            "link": f"https://x/{number}",
            "description": fields["description"],
        }


def test_create_unless_seen_within_the_window_creates_one(variables):
    """Key and link of the first todo are returned, and nothing is sent."""
    bzctrl = BzCtrl()
    first = bzctrl.fail()
    again = bzctrl.fail(after=dt.timedelta(hours=23))
    assert (first["deduplicated"], again["deduplicated"]) == (False, True)
    assert (again["key"], again["link"]) == (first["key"], first["link"])
    assert len(bzctrl.todos) == 1


def test_create_unless_seen_after_the_window_counts(variables):
    """The last line of the description has the number, unless the failure was seen once."""
    bzctrl = BzCtrl()
    for _ in range(14):
        bzctrl.fail(after=dt.timedelta(hours=1))
    bzctrl.fail(after=DAY)
    bzctrl.fail(after=DAY)
    assert [todo["description"] for todo in bzctrl.todos] == [
        "d",
        "d\n\nSeen 14 times since 2026-11-21 07:00:00 UTC, when EXA-01 was raised.",
        "d",
    ]


def test_create_unless_seen_with_another_key_creates_another(variables):
    """Each key has a Variable of its own, which the next window uses again."""
    bzctrl = BzCtrl()
    for key in ("a", "b", "a", "k" * 10_000):
        bzctrl.fail(key=key)
    bzctrl.fail(key="a", after=DAY)
    assert len(bzctrl.todos) == 4
    assert len(variables) == 3


def test_create_unless_seen_after_an_error_creates_one(variables):
    """The next failure raises the incident."""
    bzctrl = BzCtrl()

    def fail(fields):
        raise BzCtrlServerError("out of order", status_code=503)

    with pytest.raises(BzCtrlServerError):
        bzctrl.fail(create=fail)
    assert bzctrl.fail()["deduplicated"] is False


def test_create_unless_seen_with_a_long_text_keeps_a_short_one(variables):
    """A description of megabytes does not become a Variable of megabytes."""
    BzCtrl().fail(fields={"title": "t", "description": "x" * 1_000_000}, key="y" * 1_000_000)
    (text,) = variables.values()
    assert len(text) < 2000


@pytest.mark.parametrize(
    "text",
    [
        "",
        "no json",
        "{}",
        "[]",
        "[" * 100_000,
        '{"created_at": "yesterday"}',
        '{"created_at": 1, "count": 1, "created": {}}',
        '{"created_at": "2026-11-21T06:00:00+00:00"}',
        '{"created_at": "2026-11-21T06:00:00", "count": 1, "created": {}}',
        '{"created_at": "9999-11-21T06:00:00+00:00", "count": 1, "created": {}}',
        '{"created_at": "2026-11-21T06:00:00+00:00", "count": "1", "created": {}}',
        '{"created_at": "2026-11-21T06:00:00+00:00", "count": true, "created": {}}',
        '{"created_at": "2026-11-21T06:00:00+00:00", "count": 1e400, "created": {}}',
        '{"created_at": "2026-11-21T06:00:00+00:00", "count": 1, "created": []}',
    ],
)
def test_create_unless_seen_with_an_invalid_variable_creates_one(variables, text):
    """It counts as none."""
    bzctrl = BzCtrl()
    bzctrl.fail()
    (name,) = variables
    variables[name] = text
    assert bzctrl.fail()["deduplicated"] is False
    assert json.loads(variables[name])["count"] == 1


def test_create_unless_seen_without_variables_creates_one(monkeypatch, caplog):
    """At worst there is one too many."""

    def fail(*_):
        raise ConnectionError("Airflow's API is gone")

    monkeypatch.setattr(
        "airflow.providers.common.compat.sdk.Variable", SimpleNamespace(get=fail, set=fail), raising=False
    )
    bzctrl = BzCtrl()
    assert bzctrl.fail()["key"] == "EXA-01"
    assert "could not be written" in caplog.text


def test_create_unless_seen_with_the_longest_window_creates_one(variables):
    """`timedelta.max` means for ever."""
    bzctrl = BzCtrl()
    results = [bzctrl.fail(after=1000 * DAY, window=dt.timedelta.max) for _ in range(3)]
    assert [result["deduplicated"] for result in results] == [False, True, True]


def test_create_unless_seen_with_a_time_of_another_zone_reads_it(variables):
    """The Variable may have been written on a machine in another zone, or by hand."""
    bzctrl = BzCtrl()
    bzctrl.fail()
    (name,) = variables
    kept = json.loads(variables[name])
    variables[name] = json.dumps({**kept, "created_at": "2026-11-21T01:00:00-05:00", "count": 3})
    assert bzctrl.fail(after=dt.timedelta(hours=23))["deduplicated"] is True
    bzctrl.fail(after=dt.timedelta(hours=1))
    assert "Seen 4 times since 2026-11-21 06:00:00 UTC" in bzctrl.todos[-1]["description"]


@pytest.mark.parametrize("window", [3600, "1d", dt.timedelta(seconds=-1)])
def test_find_window_errors_invalid_value_is_named_with_an_example(window):
    """The error says which parameter is invalid and what to write."""
    ((name, error),) = find_window_errors(window)
    assert name == "dedup_window"
    assert error.startswith("must be a timedelta, such as timedelta(days=1), not ")


@pytest.mark.parametrize("window", [None, dt.timedelta(0), dt.timedelta(days=1)])
def test_find_window_errors_valid_value_has_none(window):
    """No window, and one of any length, are valid."""
    assert find_window_errors(window) == []


def test_create_unless_seen_at_the_same_moment_creates_two(variables):
    """Never one too few: the second one finds nothing yet, and both are created."""
    bzctrl = BzCtrl()

    def create_while_another_looks(fields):
        bzctrl.fail()
        return bzctrl.create(fields)

    bzctrl.fail(create=create_while_another_looks)
    bzctrl.fail()
    assert len(bzctrl.todos) == 2


def test_default_key_names_what_failed():
    """The DAG, the task that raises it, and the ids of what failed."""
    failed = (
        FailedTask(task_id="b"),
        FailedTask(task_id="m", map_index=1),
        FailedTask(task_id="m", map_index=2),
    )
    failure = Failure(kind="checks", dag_id="customs", run_id="r", tasks=failed)
    assert default_key(failure, task_id="raise_incident") == "customs/raise_incident/b/m"
    assert default_key(failure) == "customs//b/m"


@pytest.mark.security
def test_create_unless_seen_poisoned_variable_forges_no_line(monkeypatch, caplog):
    """The same holds for the memory of a failure that repeats."""
    now = dt.datetime(2026, 11, 21, tzinfo=dt.UTC)
    seen = {
        "created_at": now.isoformat(),
        "count": 1,
        "created": {"key": f"EXA{FORGED}", "link": "javascript:x"},
    }
    variable = SimpleNamespace(get=lambda *_: json.dumps(seen), set=lambda *_: None)
    monkeypatch.setattr("airflow.providers.common.compat.sdk.Variable", variable, raising=False)
    with caplog.at_level(logging.INFO):
        create_unless_seen(None, {}, key="k", window=dt.timedelta(days=1), now=lambda: now)
    assert find_one(caplog.records, "for the same failure").isprintable()
