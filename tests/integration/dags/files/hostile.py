"""DAGs whose data means harm: templates in it, line breaks, control characters, megabytes."""

from __future__ import annotations

import datetime as dt
from typing import Any

from airflow.providers.common.compat.sdk import DAG, task

from bzctrl_provider.notifications.bzctrl import BzCtrlNotifier
from bzctrl_provider.operators.bzctrl import CreateTodoOperator, CreateTodosOperator

ARGS: dict[str, Any] = {"schedule": None, "start_date": dt.datetime(2026, 1, 1, tzinfo=dt.UTC)}

TEMPLATE = "{{ 7 * 7 }} {{ conn.bzctrl_default.password }} {% for x in 'ab' %}{# x #}{{ x }}{% endfor %} {0.__class__} %s"
CONTROL = "a\r\nb\x00c\x1b[31m\x85\u2028\u202ed"


def make_data(text: str) -> dict[str, Any]:
    """Return the fields of a todo as somebody else's data fills them."""
    return {"title": f"T {text}", "description": text, "order_id": text, "category": [text]}


@task
def one() -> dict[str, Any]:
    """Return one todo's data."""
    return make_data(TEMPLATE)


@task
def many() -> list[dict[str, Any]]:
    """Return the data of several."""
    return [make_data(TEMPLATE)] * 2


@task
def strange() -> list[dict[str, Any]]:
    """Return data of strange characters, and markup."""
    return [make_data(CONTROL), make_data("<script>alert(1)</script>")]


@task
def one_title() -> list[dict[str, Any]]:
    """Return what replaces a title of the DAG file."""
    return [{"title": TEMPLATE}]


with DAG("hostile_templates", **ARGS) as hostile_templates:
    found, all_found = one(), many()
    (
        CreateTodoOperator(
            task_id="by_template",
            title="T {{ ti.xcom_pull('one')['description'] }}",
            description="{{ ti.xcom_pull('one')['description'] }}",
            order_id="{{ ti.xcom_pull('one')['description'] }}",
            category=["{{ ti.xcom_pull('one')['description'] }}"],
        )
        << found
    )
    CreateTodosOperator(task_id="by_list", todos=all_found, link_to_run=False)
    CreateTodoOperator.partial(task_id="mapped").expand_kwargs(all_found)

    @task.bzctrl_todo(link_to_run=False)
    def by_function(todo: dict[str, Any]) -> dict[str, Any]:
        """Return what it was given."""
        return todo

    @task.bzctrl_todo(link_to_run=False)
    def from_fields(title: str, description: str, order_id: str, category: list[str]) -> dict[str, Any]:
        """Return what it was given, field by field."""
        return {"title": title, "description": description, "order_id": order_id, "category": category}

    by_function(found)
    by_function.override(task_id="functions").expand(todo=all_found)
    from_fields.expand_kwargs(all_found)

with DAG("mapped_templates", **ARGS) as mapped_templates:
    # Templates of the DAG file are rendered in mapped and in plain operators, with and without data.
    CreateTodoOperator.partial(
        task_id="beside", description="{{ dag.dag_id }}", title="{{ 1 }}"
    ).expand_kwargs(one_title(), strict=False)
    CreateTodoOperator.partial(task_id="only_templates").expand_kwargs(
        [{"title": "{{ dag.dag_id }}", "description": "d", "category": ["{{ 6 * 7 }}"]}]
    )
    CreateTodoOperator.partial(task_id="single", description="{{ dag.dag_id }}").expand(title=["{{ 6 * 7 }}"])

with DAG("hostile_native", render_template_as_native_obj=True, **ARGS) as hostile_native:
    CreateTodosOperator(task_id="by_list", todos="{{ ti.xcom_pull('many') }}", link_to_run=False) << many()


@task
def fails() -> None:
    """Fail with a template in the message."""
    raise ValueError(TEMPLATE)


with DAG("hostile_exception", **ARGS, on_failure_callback=None) as hostile_exception:
    fails.override(on_failure_callback=BzCtrlNotifier(lrn="{{ failure.task_ids | join }}"))()

with DAG("hostile_characters", **ARGS) as hostile_characters:
    CreateTodosOperator(task_id="create", todos=strange(), link_to_run=False)

with DAG("hostile_size", **ARGS) as hostile_size:
    CreateTodoOperator(task_id="create", title="t", description="{{ 'x' * 3000000 }}", retries=0)
