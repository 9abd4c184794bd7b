from __future__ import annotations

import datetime as dt

import pytest
from airflow.providers.common.compat.sdk import DAG
from support.bzctrl import sent_todos
from support.contexts import TaskInstance, new_task_context

from bzctrl_provider.failure import FailedTask, Failure, LazyFailure
from bzctrl_provider.notifications.bzctrl import BzCtrlNotifier
from bzctrl_provider.operators.bzctrl import (
    CreateTodoOperator,
    CreateTodosOperator,
    IncidentOnFailureOperator,
)

pytestmark = pytest.mark.usefixtures("connection")

IDS = [
    *("2026_0117", "2026.10", "1E5", "0x1F", "10,5", "725462J", "True", "None", "007", "1_000.50", "0b11"),
    *("'quoted'", "[1, 2]", "{'a': 1}", "(1)", "1-2", "+5", "-0", "b'x'", "...", "NL 26"),
]
FAILURE = Failure(
    kind="checks", checks=1, tasks=(FailedTask(task_id="a"),), dag_id="customs", run_id="the run"
)


def run(kind, **fields):
    """Render and execute one operator, or call a notifier, in a DAG with native rendering."""
    start = dt.datetime(2026, 1, 1, tzinfo=dt.UTC)
    with DAG("customs", schedule=None, start_date=start, render_template_as_native_obj=True) as dag:
        owner = kind(**fields) if kind is BzCtrlNotifier else kind(task_id="create", **fields)
    context = new_task_context(dag=dag, ti=TaskInstance(), params=PARAMS, nothing=None)
    if kind is BzCtrlNotifier:
        owner(context)
    else:
        context["failure"] = LazyFailure({}, lambda _: FAILURE)
        owner.render_template_fields(context)
        owner.execute({**context, "failure": LazyFailure({}, lambda _: FAILURE)})


PARAMS = {"ids": IDS, "flag": True, "found": {"a": [1]}, "words": ["2026_0117", "1E5"], "amount": 7.5}

ONE_EACH = [CreateTodoOperator, IncidentOnFailureOperator, BzCtrlNotifier]


@pytest.mark.parametrize("kind", ONE_EACH)
def test_native_rendering_text_is_sent_letter_by_letter(bzctrl, kind):
    """Literals, templates and texts of both, in the tags, in text of any length, and in an item of a list."""
    for number, text in enumerate(IDS):
        run(
            kind,
            title=text,
            description=f"{{{{ params.ids[{number}] }}}}",
            order_id=text,
            lrn=f"{{{{ params.ids[{number}] }}}}",
            category=[text, f"{{{{ params.ids[{number}] }}}}"],
            sub_category=f"id {{{{ params.ids[{number}] }}}}",
        )
        todo = sent_todos(bzctrl)[-1]
        names = ("title", "description", "orderID", "lrn")
        assert {name: todo[name] for name in names} == dict.fromkeys(names, text)
        assert (todo["category"], todo["subCategory"]) == ([text, text], [f"id {text}"])


def test_native_rendering_text_in_todos_is_sent_letter_by_letter(bzctrl):
    """In the mappings of a list that is written in the DAG file."""
    run(
        CreateTodosOperator,
        todos=[
            {"title": text, "description": f"{{{{ params.ids[{number}] }}}}", "order_id": text}
            for number, text in enumerate(IDS)
        ],
        link_to_run=False,
        max_workers=1,
    )
    assert [(todo["title"], todo["description"], todo["orderID"]) for todo in sent_todos(bzctrl)] == [
        (text, text, text) for text in IDS
    ]


@pytest.mark.parametrize("kind", ONE_EACH)
def test_native_rendering_object_in_text_field_is_its_text(bzctrl, kind):
    """As without native rendering; only nothing stays nothing."""
    run(
        kind,
        title="{{ params.flag }}",
        description="{{ params.found }}",
        order_id="{{ 2026 }}",
        lrn="{{ nothing }}",
    )
    (todo,) = sent_todos(bzctrl)
    assert (todo["title"], todo["description"], todo["orderID"]) == ("True", "{'a': [1]}", "2026")
    assert "lrn" not in todo


@pytest.mark.parametrize("kind", ONE_EACH)
def test_native_rendering_list_and_amount_keep_their_type(bzctrl, kind):
    """A list comes as an object, or as the text of one, whose items stay as they are written; other text is one item."""
    for category, sent in [
        ("{{ params.words }}", ["2026_0117", "1E5"]),
        ("[{% for word in params.words %}'{{ word }}',{% endfor %}]", ["2026_0117", "1E5"]),
        ("10,5", ["10,5"]),
        ("{{ nothing }}", None),
    ]:
        run(
            kind,
            title="{{ params.words }}",  # the same object as one of the categories
            description="d",
            category=category,
            financial_impact="{{ params.amount }}",
        )
        todo = sent_todos(bzctrl)[-1]
        assert (todo["title"], todo["financialImpact"]) == ("['2026_0117', '1E5']", "7.5")
        assert todo.get("category") == sent


def test_native_rendering_of_a_serialized_dag_keeps_text(bzctrl):
    """As `airflow dags test` passes it to a callback of the DAG: without an environment."""
    context = new_task_context(params=PARAMS)
    context["dag"].render_template_as_native_obj = True
    BzCtrlNotifier(order_id="2026_0117", lrn="{{ params.ids[4] }}", category="{{ params.words }}")(context)
    (todo,) = sent_todos(bzctrl)
    assert (todo["orderID"], todo["lrn"], todo["category"]) == ("2026_0117", "10,5", ["2026_0117", "1E5"])


@pytest.mark.parametrize("kind", [IncidentOnFailureOperator, BzCtrlNotifier])
def test_native_rendering_text_of_a_route_is_sent_letter_by_letter(bzctrl, configure, tmp_path, kind):
    """A route's values are rendered with the environment of the DAG."""
    path = tmp_path / "routes.toml"
    path.write_text("[[route]]\nworkspace = '1E5'\ndomain = '0x1F'\ncategory = '{{ params.words }}'")
    configure(routes_path=str(path))
    run(kind)
    (todo,) = sent_todos(bzctrl)
    assert (todo["domainWorkSpace"], todo["category"]) == ("0x1F-1E5", ["2026_0117", "1E5"])
