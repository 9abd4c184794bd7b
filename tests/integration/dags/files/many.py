"""DAGs for the tests of CreateTodosOperator and @task.bzctrl_todo."""

from __future__ import annotations

import datetime as dt

from airflow.providers.common.compat.sdk import DAG, task

from bzctrl_provider.decorators.bzctrl import bzctrl_todo_task
from bzctrl_provider.operators.bzctrl import CreateTodosOperator

ARGS = {"schedule": None, "start_date": dt.datetime(2026, 1, 1, tzinfo=dt.UTC)}

with DAG("a_list", **ARGS) as a_list:

    @task
    def find() -> list[dict[str, str]]:
        return [{"title": f"t{n}", "order_id": f"ORDER {n}"} for n in range(5)]

    CreateTodosOperator(
        task_id="create", todos=find(), max_workers=3, description="run {{ run_id }}", priority="high"
    )

with DAG("more_than_ten", **ARGS) as more_than_ten:
    CreateTodosOperator(
        task_id="create", todos=[{"title": f"t{n}", "order_id": f"o{n}"} for n in range(11)], description="d"
    )

with DAG("an_empty_list", **ARGS) as an_empty_list:
    CreateTodosOperator(task_id="create", todos=[])

with DAG("partly_faulty", **ARGS) as partly_faulty:
    CreateTodosOperator(
        task_id="create",
        todos=[{"title": "good"}, {"title": "bad", "impact": "urgent"}, {"title": "{{ dag.dag_id }}"}],
        description="d",
        retries=3,
    )

with DAG("no_list", **ARGS) as no_list:
    CreateTodosOperator(task_id="text", todos="{{ [1] }}")
    CreateTodosOperator(task_id="mapping", todos={"title": "t"})

with DAG("decorated", **ARGS) as decorated:

    @task.bzctrl_todo(description="d", category=["Customs"])
    def one():
        return {"title": "one"}

    @task.bzctrl_todo(description="d")
    def several(count):
        return [{"title": f"several {n}"} for n in range(count)]

    @task.bzctrl_todo
    def nothing():
        return None

    @task.bzctrl_todo(description="d")
    def each(name, **context):
        return {"title": f"{name} of {context['dag'].dag_id}"}

    one()
    several(2)
    nothing()
    each.expand(name=["a", "b"])
    each.override(task_id="once_more", priority="LOW")("c")

    @bzctrl_todo_task(description="{{ dag.dag_id }}")
    def imported():
        return {"title": "imported"}

    imported()
