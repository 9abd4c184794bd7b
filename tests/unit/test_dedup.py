from __future__ import annotations

import datetime as dt
import json
import logging
from types import SimpleNamespace

import pytest
from support.hostile import FORGED, find_one

from bzctrl_provider.dedup import create_unless_seen, full_key
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
    assert len(text) < 5000


def test_create_unless_seen_with_an_invalid_variable_creates_one(variables):
    """It counts as none."""
    valid = {"created_at": "2026-11-21T06:00:00+00:00", "count": 1, "created": {}}
    for text in [
        *("", "no json", "{}", "[]", "[" * 100_000),
        *(json.dumps({**valid, "created_at": at}) for at in ("yesterday", 1, "2026-11-21T06:00:00")),
        json.dumps({**valid, "created_at": "9999-11-21T06:00:00+00:00"}),
        *(json.dumps({**valid, "count": count}) for count in ("1", True, 0, float("inf"), None)),
        json.dumps({**valid, "created": []}),
    ]:
        variables.clear()
        bzctrl = BzCtrl()
        bzctrl.fail()
        (name,) = variables
        variables[name] = text
        assert bzctrl.fail()["deduplicated"] is False, text
        assert json.loads(variables[name])["count"] == 1


def test_create_unless_seen_without_variables_creates_one(break_variables, caplog):
    """At worst there is one too many."""
    assert BzCtrl().fail()["key"] == "EXA-01"
    assert "Skipped the memory of this failure, so the next one creates another todo" in caplog.text


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


def test_create_unless_seen_at_the_same_moment_creates_two(variables):
    """Never one too few: the second one finds nothing yet, and both are created."""
    bzctrl = BzCtrl()

    def create_while_another_looks(fields):
        bzctrl.fail()
        return bzctrl.create(fields)

    bzctrl.fail(create=create_while_another_looks)
    bzctrl.fail()
    assert len(bzctrl.todos) == 2


def test_full_key_names_what_failed():
    """The connection, the workspace, the DAG, the task that raises it, and the ids of what failed, or a key of the user's own."""
    failed = (FailedTask(task_id="b"), *(FailedTask(task_id="m", map_index=index) for index in (1, 2)))
    failure = Failure(kind="checks", dag_id="customs", run_id="r", tasks=failed)
    given = {"bzctrl_conn_id": "bz", "key": None, "failure": failure}
    assert full_key({"domain_workspace": "EXA"}, **given, task_id="raise") == "bz:EXA:customs/raise/b/m"
    assert full_key({}, **given) == "bz::customs//b/m"
    assert full_key({}, **{**given, "key": "own"}) == "bz::own"


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
