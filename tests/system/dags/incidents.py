"""The DAGs of the cluster's tests."""

from __future__ import annotations

import os
from datetime import UTC, datetime, timedelta

from airflow.providers.common.compat.sdk import DAG, task
from airflow.sdk.definitions.deadline import AsyncCallback, DeadlineAlert, DeadlineReference

from bzctrl_provider.notifications.bzctrl import BzCtrlNotifier
from bzctrl_provider.operators.bzctrl import CreateTodoOperator, IncidentOnFailureOperator

START = datetime(2026, 1, 1, tzinfo=UTC)


@task
def fails():
    raise ValueError("the totals differ by 7")


@task
def passes(): ...


@task
def odd(number):
    if number % 2:
        raise ValueError(f"{number} is odd")


@task.bash
def lasts():
    return "sleep 25"


def worker():
    """Return which worker this is: rendered where the task runs."""
    return os.environ.get("BZCTRL_TESTS_WORKER", "no worker")


with DAG(
    "forty", schedule=None, start_date=START, max_active_tasks=40, user_defined_macros={"worker": worker}
):
    CreateTodoOperator.partial(
        task_id="raise_incident", title="One of forty", description="d", lrn="{{ worker() }}"
    ).expand(order_id=[f"ORDER {number}" for number in range(40)])

with DAG("failed_checks", schedule=None, start_date=START):
    checks = [fails(), passes(), odd.expand(number=[0, 1, 2, 3])]
    checks >> IncidentOnFailureOperator(task_id="raise_incident", priority="HIGH")

with DAG("under_the_policy", schedule=None, start_date=START, tags=["policy"]):
    fails() >> passes()

with DAG(
    "late",
    schedule=None,
    start_date=START,
    deadline=DeadlineAlert(
        reference=DeadlineReference.DAGRUN_QUEUED_AT,
        interval=timedelta(seconds=3),
        callback=AsyncCallback(
            BzCtrlNotifier,
            kwargs={"title": "{{ dag_run.dag_id }} is late", "description": "{{ dag_run.dag_run_id }}"},
        ),
    ),
):
    lasts()

with DAG("through_an_outage", schedule=None, start_date=START, max_active_tasks=4):
    CreateTodoOperator.partial(
        task_id="raise_incident",
        title="In spite of the outage",
        description="d",
        retries=20,
        retry_delay=timedelta(seconds=3),
    ).expand(order_id=[f"ORDER {number}" for number in range(10)])

with DAG("under_the_policy_in_an_outage", schedule=None, start_date=START, tags=["policy"]):
    fails()

for policy in ("retry", "fail"):
    with DAG(f"killed_{policy}", schedule=None, start_date=START):
        CreateTodoOperator(
            task_id="create",
            title="Killed",
            description="d",
            on_unknown_outcome=policy,
            retries=2,
            retry_delay=timedelta(seconds=1),
        )

with DAG("refused_login", schedule=None, start_date=START):
    CreateTodoOperator(task_id="create", title="t", description="d", bzctrl_conn_id="bzctrl_refused")

with DAG("mapped", schedule=None, start_date=START):
    CreateTodoOperator.partial(task_id="create", description="d").expand(title=["First", "Second", "Third"])

with DAG("checked_in_an_outage", schedule=None, start_date=START, tags=["policy"]):
    fails() >> IncidentOnFailureOperator(task_id="raise_incident", retries=0)

with DAG("notified_in_an_outage", schedule=None, start_date=START):
    fails.override(on_failure_callback=BzCtrlNotifier())()

with DAG("in_pods", schedule=None, start_date=START):
    pod = {"executor": "pods"}
    failing = fails.override(on_failure_callback=BzCtrlNotifier(), **pod)()
    failing >> IncidentOnFailureOperator(task_id="raise_incident", retries=0, **pod)
