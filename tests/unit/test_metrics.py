from __future__ import annotations

import datetime as dt
import logging
from types import SimpleNamespace

import pytest

from bzctrl_provider.metrics import count_todos, gauge_spool, time_create


@pytest.fixture
def sent(monkeypatch):
    """Return what reaches Airflow's metrics."""
    calls = []

    def record(kind):
        return lambda name, value, tags=None: calls.append((kind, name, value, tags))

    stats = SimpleNamespace(**{kind: record(kind) for kind in ("incr", "timing", "gauge")})
    monkeypatch.setattr("airflow.providers.common.compat.sdk.Stats", stats, raising=False)
    return calls


@pytest.mark.parametrize(
    ("todo_type", "tag"),
    [("INCIDENT", "INCIDENT"), ("task", "TASK"), ("order 5", "unknown"), (None, "unknown"), (5, "unknown")],
)
def test_count_todos_tag_has_few_values(sent, todo_type, tag):
    """A rendered text that is no type of todo makes no series of its own."""
    count_todos("created", todo_type=todo_type)
    assert sent == [("incr", "bzctrl.todos.created", 1, {"todo_type": tag})]


def test_count_todos_of_none_sends_nothing(sent):
    """A list of no todos is no metric."""
    count_todos("created", todo_type="TASK", number=0)
    assert sent == []


def test_time_create_measures_a_block_that_raises(sent):
    """A create that fails takes its time as well, and its error passes."""
    clock = iter([10.0, 12.5])
    with pytest.raises(KeyError), time_create(todo_type="TASK", clock=lambda: next(clock)):
        raise KeyError
    assert sent == [("timing", "bzctrl.create", dt.timedelta(seconds=2.5), {"todo_type": "TASK"})]


def test_gauge_spool_is_never_negative(sent):
    """StatsD reads a negative gauge as a difference, and a clock may be set back."""
    gauge_spool(waiting=3, oldest_s=-5.5)
    gauge_spool(waiting=3, oldest_s=61.4)
    assert [(name, value) for _, name, value, _ in sent] == [
        ("bzctrl.spool.waiting", 3),
        ("bzctrl.spool.oldest_s", 0),
        ("bzctrl.spool.waiting", 3),
        ("bzctrl.spool.oldest_s", 61),
    ]


def test_metrics_error_of_airflow_never_reaches_the_caller(monkeypatch, caplog):
    """Metrics that cannot be sent, or have no client installed, cost nothing, and no address of theirs is logged."""

    def fail(*args, **kwargs):
        raise OSError("statsd.internal refused")

    stats = SimpleNamespace(incr=fail, timing=fail, gauge=fail)
    monkeypatch.setattr("airflow.providers.common.compat.sdk.Stats", stats, raising=False)
    with caplog.at_level(logging.DEBUG), time_create(todo_type="INCIDENT"):
        count_todos("failed", todo_type="INCIDENT")
        gauge_spool(waiting=0, oldest_s=0)
    assert "statsd.internal" not in caplog.text
    assert caplog.text.count("A metric could not be sent: OSError") == 4
