from __future__ import annotations

import itertools
import logging
import time

import pytest
from airflow.providers.common.compat.sdk import DAG, BaseOperator, task
from support.airflow_versions import VERSION

from bzctrl_provider import policy
from bzctrl_provider.airflow_compat import read_marks
from bzctrl_provider.failure import remember_exception
from bzctrl_provider.links.bzctrl import BzCtrlFurtherTodoLink
from bzctrl_provider.notifications.bzctrl import BzCtrlNotifier
from bzctrl_provider.operators.bzctrl import CreateTodoOperator, IncidentOnFailureOperator


def new_dag(dag_id="customs_daily", **kwargs):
    return DAG(dag_id, schedule=None, **kwargs)


def test_policy_without_configuration_changes_nothing(configure):
    """A deployment that only installs the provider gets no incidents from it."""
    configure()
    dag = new_dag()
    policy.dag_policy(dag)
    task = BaseOperator(task_id="t", dag=dag)
    policy.task_policy(task)
    assert not dag.on_failure_callback
    assert not dag.has_on_failure_callback
    assert not task.on_failure_callback


def mine(context):
    """Replace a callback of the DAG's own."""


def test_policy_switched_on_adds_no_callback(configure):
    """A DAG keeps its own callbacks, and Airflow calls none that it would not call without the policy."""
    configure(incident_on_failed_run="True")
    for own in (None, mine, [mine, mine]):
        dag = new_dag(on_failure_callback=own)
        policy.dag_policy(dag)
        assert dag.on_failure_callback == own
        assert dag.has_on_failure_callback is bool(own)
        assert read_marks(dag) == {}


def test_policy_marks_what_the_scheduler_cannot_see(configure):
    """Two incidents for one failure would be a duplicate: its roll-ups and a notifier of the DAG itself, once."""
    configure(incident_on_failed_run="True")
    with new_dag() as single:
        BaseOperator(task_id="check") >> IncidentOnFailureOperator(task_id="raise_incident")
    with new_dag() as mapped:
        BaseOperator(task_id="check") >> IncidentOnFailureOperator.partial(task_id="raise").expand(
            domain_workspace=["A", "B"]
        )
    with new_dag() as other:
        BaseOperator(task_id="load") >> CreateTodoOperator(task_id="create")
    with new_dag(on_failure_callback=[mine, BzCtrlNotifier()]) as notified:
        BaseOperator(task_id="check") >> IncidentOnFailureOperator(task_id="raise_incident")
    dags = (single, mapped, other, notified)
    for dag in dags * 2:
        policy.dag_policy(dag)
    assert [read_marks(dag) for dag in dags] == [
        {"roll_ups": ["raise_incident"]},
        {"roll_ups": ["raise"]},
        {},
        {"has_notifier": True},
    ]


def test_policy_marks_of_a_dag_are_its_own(configure):
    """DAGs of one file may share their default arguments."""
    configure(incident_on_failed_run="True")
    shared = {"retries": 2}
    with new_dag("a", default_args=shared) as dag:
        BaseOperator(task_id="check") >> IncidentOnFailureOperator(task_id="raise_incident")
    other = new_dag("b", default_args=shared)
    for each in (dag, other):
        policy.dag_policy(each)
    assert (read_marks(other), shared) == ({}, {"retries": 2})
    assert dag.default_args["retries"] == 2


def test_policy_tags_and_patterns_choose_the_dags(configure):
    """Included by tag or by id, unless excluded by either; with neither, all are."""
    kinds = ("include_tags", "include_dags", "exclude_tags", "exclude_dags")
    for *values, applies in [
        ("", "", "", "", True),
        ("finance, customs", "", "", "", True),
        ("finance", "", "", "", False),
        ("", "customs_*", "", "", True),
        ("", "feeds_*, *_hourly", "", "", False),
        ("finance", "customs_?aily", "", "", True),
        ("", "", "customs", "", False),
        ("", "*", "", "*_daily", False),
        ("", "", "other", "other", True),
    ]:
        configure(incident_on_failed_run="True", **dict(zip(kinds, values, strict=True)))
        with new_dag(tags=["customs", "daily"]) as dag:
            task = BaseOperator(task_id="t")
        policy.dag_policy(dag)
        assert bool(task.on_failure_callback) is applies


def test_policy_remember_exceptions_adds_the_callback(configure):
    """Before the task's own callbacks, and once."""
    configure(remember_exceptions="True")
    task = BaseOperator(task_id="t", on_failure_callback=mine)
    policy.task_policy(task)
    policy.task_policy(task)
    assert list(task.on_failure_callback) == [remember_exception, mine]


def test_policy_dag_that_is_not_chosen_costs_microseconds(configure):
    """The configuration is read once, not for each DAG."""
    configure(incident_on_failed_run="True", include_tags="finance")
    dag = new_dag(tags=["customs"])
    policy.dag_policy(dag)
    began = time.perf_counter()
    for _ in range(1000):
        policy.dag_policy(dag)
    assert (time.perf_counter() - began) / 1000 < 1e-4


def test_policy_of_the_delivery_dag_adds_nothing(configure):
    """While BzCtrl is away, each failed delivery would add an incident to the outbox that it delivers."""
    configure(incident_on_failed_run="True", include_tags="bzctrl_delivery")
    with new_dag(tags=["bzctrl_delivery"]) as dag:
        task = BaseOperator(task_id="t")
    policy.dag_policy(dag)
    assert not task.on_failure_callback


def test_policy_invalid_option_breaks_no_dag(configure, monkeypatch):
    """The DAG is parsed, and its tasks keep their exceptions if the policy is switched on."""
    for (name, value), on in itertools.product(
        [
            *(("dedup_window_s", text) for text in ("1d", "9" * 20)),
            *(("remember_exceptions", text) for text in ("", "yes")),
            *(("priority", "URGENT"), ("include_tag", "finance")),
        ],
        ("True", "False"),
    ):
        configure(incident_on_failed_run=on, **{name: value})
        dag = new_dag()
        task = BaseOperator(task_id="t", dag=dag)
        policy.task_policy(task)
        assert not task.on_failure_callback
        policy.dag_policy(dag)
        assert bool(task.on_failure_callback) is (on == "True")
        monkeypatch.delenv(f"AIRFLOW__BZCTRL__{name.upper()}")


def test_policy_exception_breaks_no_dag(configure, monkeypatch, caplog):
    """The DAG is parsed, and the log has the exception once per process and hook."""
    monkeypatch.setattr(policy, "settings", lambda: 1 / 0)
    monkeypatch.setattr(policy, "_failed_hooks", set())
    with caplog.at_level(logging.ERROR):
        for hook in ("dag_policy", "task_policy") * 3:
            getattr(policy, hook)(new_dag())
    assert [record.args for record in caplog.records] == [("dag_policy",), ("task_policy",)]
    assert caplog.text.count("ZeroDivisionError: ") == 2


@pytest.mark.skipif(VERSION < (3, 0), reason="Airflow 2 would show a disabled button")
def test_policy_task_with_a_notifier_gets_the_link(configure):
    """Once, beside its own links, also a mapped task and for a retry; the other tasks and the class get none."""
    configure()
    own = BzCtrlFurtherTodoLink(2)
    with new_dag() as dag:
        plain = BaseOperator(task_id="plain", on_failure_callback=[mine, BzCtrlNotifier()])
        plain.operator_extra_links = [own]
        BaseOperator(task_id="retry", on_retry_callback=BzCtrlNotifier())
        mapped = CreateTodoOperator.partial(task_id="mapped", on_failure_callback=BzCtrlNotifier())
        mapped.expand(title=["a"])
        task(task_id="function", on_failure_callback=BzCtrlNotifier())(mine).expand(context=[1])
        CreateTodoOperator(task_id="created", title="t", on_failure_callback=BzCtrlNotifier())
        BaseOperator(task_id="other", on_failure_callback=mine)
    policy.dag_policy(dag)
    policy.dag_policy(dag)
    names = {task.task_id: [link.name for link in task.operator_extra_links] for task in dag.tasks}
    assert names == {
        "plain": ["BzCtrl todo 02", "BzCtrl todo"],
        "retry": ["BzCtrl todo"],
        "mapped": ["BzCtrl todo"],
        "function": ["BzCtrl todo"],
        "created": ["BzCtrl todo"],
        "other": [],
    }
    assert not BaseOperator.operator_extra_links
