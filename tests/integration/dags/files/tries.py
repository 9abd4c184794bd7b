"""DAGs for the tests of what a task remembers."""

from __future__ import annotations

import datetime as dt
from typing import Any

from airflow.providers.common.compat.sdk import DAG

from bzctrl_provider.operators.bzctrl import CreateTodoOperator, CreateTodosOperator

ARGS = {"schedule": None, "start_date": dt.datetime(2026, 1, 1, tzinfo=dt.UTC)}
TWICE = {"retries": 1, "retry_delay": dt.timedelta(0)}


class DiesAfterwards(CreateTodoOperator):
    """Creates its todo, and fails on its first try."""

    def execute(self, context: Any) -> Any:
        created = super().execute(context)
        if context["ti"].try_number == 1:
            raise RuntimeError("after the creation")
        return created


with DAG("reuses", **ARGS) as reuses:
    DiesAfterwards(task_id="create", title="t", description="d", **TWICE)

with DAG("mapped_reuses", **ARGS) as mapped_reuses:
    DiesAfterwards.partial(task_id="create", title="t", description="d", **TWICE).expand(order_id=["1", "2"])

with DAG("no_answer", **ARGS) as no_answer:
    CreateTodoOperator(task_id="create", title="t", description="d", **TWICE)

with DAG("no_answer_and_no_retry", **ARGS) as no_answer_and_no_retry:
    CreateTodoOperator(task_id="create", title="t", description="d")

with DAG("no_answer_fails", **ARGS) as no_answer_fails:
    CreateTodoOperator(task_id="create", title="t", description="d", on_unknown_outcome="fail", **TWICE)

with DAG("many", **ARGS) as many:
    CreateTodosOperator(
        task_id="create",
        todos=[{"title": f"t{n}"} for n in range(6)],
        description="d",
        max_workers=1,
        **TWICE,
    )

with DAG("repeated", **ARGS) as repeated:
    CreateTodoOperator(task_id="create", title="t", description="d", dedup_window=dt.timedelta(hours=1))

with DAG("own_key", **ARGS, params={"case": "a"}) as own_key:
    CreateTodoOperator(
        task_id="create",
        title="t",
        description="d",
        dedup_window=dt.timedelta(hours=1),
        dedup_key="case {{ params.case }} of {{ dag.dag_id }}",
    )
