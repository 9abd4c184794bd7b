from __future__ import annotations

import datetime as dt
import json
import logging
import re
from pathlib import Path
from types import SimpleNamespace
from typing import get_args

import pytest
import yaml

from bzctrl_provider.metrics import (
    Outcome,
    count_results,
    count_todos,
    gauge_outbox,
    gauge_unwritten,
    time_create,
)

MONITORING = Path(__file__).parents[2] / "docs" / "monitoring"


@pytest.fixture
def sent(monkeypatch):
    """Return what reaches Airflow's metrics."""
    calls = []

    def record(kind):
        return lambda name, value, tags=None: calls.append((kind, name, value, tags))

    stats = SimpleNamespace(**{kind: record(kind) for kind in ("incr", "timing", "gauge")})
    monkeypatch.setattr("airflow.providers.common.compat.sdk.Stats", stats, raising=False)
    return calls


def test_count_todos_tag_has_few_values(sent):
    """A rendered text that is no type of todo makes no series of its own; a list of no todos is no metric."""
    count_todos("created", todo_type="TASK", number=0)
    for todo_type in ("INCIDENT", "task", "order 5", None, 5):
        count_todos("created", todo_type=todo_type)
    assert {call[:3] for call in sent} == {("incr", "bzctrl.todos.created", 1)}
    tags = [call[3]["todo_type"] for call in sent]
    assert tags == ["INCIDENT", "TASK", "unknown", "unknown", "unknown"]


def test_count_results_bulk_sends_one_metric_for_each_outcome_and_type(sent):
    """A bulk of 300 todos is three counters and not 300; a todo type of any form, such as a list, counts as unknown."""
    results = [SimpleNamespace(todo_type="INCIDENT")] * 200 + [ValueError("refused")] * 100
    count_results(results, todo_types=["INCIDENT"] * 250 + [["TASK"]] * 50)
    assert sent == [
        ("incr", "bzctrl.todos.created", 200, {"todo_type": "INCIDENT"}),
        ("incr", "bzctrl.todos.failed", 50, {"todo_type": "INCIDENT"}),
        ("incr", "bzctrl.todos.failed", 50, {"todo_type": "unknown"}),
    ]


def test_time_create_measures_a_block_that_raises(sent):
    """A create that fails takes its time as well, and its error passes."""
    clock = iter([10.0, 12.5])
    with pytest.raises(KeyError), time_create(todo_type="TASK", clock=lambda: next(clock)):
        raise KeyError
    assert sent == [("timing", "bzctrl.create", dt.timedelta(seconds=2.5), {"todo_type": "TASK"})]


def test_gauge_outbox_is_never_negative(sent):
    """StatsD reads a negative gauge as a difference, and a clock may be set back."""
    gauge_outbox(waiting=3, oldest_s=-5.5)
    gauge_outbox(waiting=3, oldest_s=61.4)
    assert [(name, value) for _, name, value, _ in sent] == [
        ("bzctrl.outbox.waiting", 3),
        ("bzctrl.outbox.oldest_s", 0),
        ("bzctrl.outbox.waiting", 3),
        ("bzctrl.outbox.oldest_s", 61),
    ]


def test_metrics_error_of_airflow_never_reaches_the_caller(monkeypatch, caplog):
    """Metrics that cannot be sent, or have no client installed, cost nothing, and no address of theirs is logged."""

    def fail(*args, **kwargs):
        raise OSError("statsd.internal refused")

    stats = SimpleNamespace(incr=fail, timing=fail, gauge=fail)
    monkeypatch.setattr("airflow.providers.common.compat.sdk.Stats", stats, raising=False)
    with caplog.at_level(logging.DEBUG), time_create(todo_type="INCIDENT"):
        count_todos("failed", todo_type="INCIDENT")
        gauge_outbox(waiting=0, oldest_s=0)
    assert "statsd.internal" not in caplog.text
    assert caplog.text.count("A metric could not be sent: OSError") == 4


def find_metrics(expression):
    """Return the names of metrics in an expression of Prometheus."""
    return set(re.findall(r"\bairflow_\w+", expression))


@pytest.fixture
def names(sent):
    """Return the names that the statsd_exporter makes of what the code sends, by kind; a timer is a summary."""
    for outcome in get_args(Outcome):
        count_todos(outcome, todo_type="INCIDENT")
    with time_create(todo_type="INCIDENT"):
        pass
    gauge_outbox(waiting=1, oldest_s=1)
    gauge_unwritten(1)
    made = {}
    for kind, name, *_ in sent:
        made.setdefault(kind, set()).add(f"airflow.{name}".replace(".", "_"))
    made["timing"] |= {f"{name}_{part}" for name in made["timing"] for part in ("sum", "count")}
    return made


def test_dashboard_uses_metrics_that_are_sent(names):
    """Each expression has at least one metric, each metric of the provider has a panel, and none is unknown."""
    dashboard = json.loads((MONITORING / "grafana-dashboard.json").read_text())
    expressions = [target["expr"] for panel in dashboard["panels"] for target in panel["targets"]]
    assert all(map(find_metrics, expressions))
    assert set().union(*map(find_metrics, expressions)) == set().union(*names.values())
    assert len({panel["id"] for panel in dashboard["panels"]}) == len(dashboard["panels"])
    [variable] = dashboard["templating"]["list"]
    assert (variable["type"], variable["query"]) == ("datasource", "prometheus")
    for panel in dashboard["panels"]:
        for one in (panel, *panel["targets"]):
            assert one["datasource"] == {"type": "prometheus", "uid": f"${{{variable['name']}}}"}


def test_alerts_use_metrics_that_are_sent(names):
    """Each alert of the page is there, with a summary and an action; a counter is compared by its increase."""
    [group] = yaml.safe_load((MONITORING / "prometheus-alerts.yml").read_text())["groups"]
    for rule in group["rules"]:
        found = find_metrics(rule["expr"])
        assert found
        assert found <= names["incr"] | names["gauge"]
        for counter in found & names["incr"]:
            assert f"increase({counter}[" in rule["expr"]
        assert set(rule["annotations"]) == {"summary", "action"}
    page = (
        (MONITORING.parent / "metrics.md").read_text().partition("## Alarms to set")[2].partition("\n## ")[0]
    )
    assert len(re.findall(r"^\| [^|]+ \| `bzctrl", page, re.MULTILINE)) == len(group["rules"])


def test_mapping_of_the_exporter_covers_the_gauges_of_deliveries(names):
    """The mapping gives a gauge the name that it has without a mapping, and lets it end; that of the scheduler stays."""
    [mapping] = yaml.safe_load((MONITORING / "statsd-exporter.yml").read_text())["mappings"]
    prefix = mapping["match"].removesuffix("*").replace(".", "_")
    assert {name for name in names["gauge"] if name.startswith(prefix)} == names["gauge"] - {
        "airflow_bzctrl_failed_runs_unwritten"
    }
    assert mapping["name"] == f"{prefix}${{1}}"
    assert mapping["ttl"] == "15m"


def test_page_has_each_metric(names):
    """The page on metrics names each counter, timer and gauge."""
    page = (MONITORING.parent / "metrics.md").read_text()
    documented = {name.replace(".", "_") for name in re.findall(r"`(bzctrl\.[\w.]+)`", page)}
    sent = {name.removeprefix("airflow_") for kind in names.values() for name in kind}
    assert documented == {name for name in sent if not name.endswith(("_sum", "_count"))}
