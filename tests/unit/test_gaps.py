"""Gaps in a table, as real numpy and pandas have them: pandas 2 on Airflow 2.11, and pandas 3 on the others."""

from __future__ import annotations

import copy

import numpy as np
import pandas as pd
import pytest
from support.bzctrl import message_of, sent_todos
from support.contexts import TaskInstance, new_dag, new_task_context

from bzctrl_provider.client.todo import FIELDS, Todo, complete_todo
from bzctrl_provider.failure import FailedTask, Failure, LazyFailure
from bzctrl_provider.hooks.bzctrl import BzCtrlHook
from bzctrl_provider.notifications.bzctrl import BzCtrlNotifier
from bzctrl_provider.operators.bzctrl import (
    CreateTodoOperator,
    CreateTodosOperator,
    IncidentOnFailureOperator,
)

pytestmark = pytest.mark.usefixtures("connection")

TABLE = pd.DataFrame(
    {
        "order": [777, None],
        "amount": pd.array([1, None], dtype="Int64"),
        "day": pd.to_datetime(["2026-11-21", None]),
        "text": pd.array(["a", None], dtype="string"),
        "other": pd.Series(["a", None]),
    }
)
GAPS = [
    *(float("nan"), np.nan, np.float64("nan"), np.float32("nan"), np.float16("nan"), np.longdouble("nan")),
    *(np.datetime64("NaT"), np.timedelta64("NaT"), pd.NaT, pd.NA, copy.copy(pd.NaT)),
    *TABLE.iloc[1],
    *TABLE.to_dict("records")[1].values(),
    *(series.tolist()[1] for _, series in TABLE.items()),
]
FAILURE = Failure(
    kind="checks", checks=1, tasks=(FailedTask(task_id="a"),), dag_id="customs", run_id="the run"
)
MANDATORY = {
    "todo_type": "INCIDENT",
    "domain_workspace": "EXA",
    "title": "t",
    "description": "d",
    "reporter": "r@example.com",
    "order_id": "o",
}


def test_gaps_are_those_of_the_libraries():
    """Or this module would prove nothing."""
    assert all(pd.isna(gap) for gap in GAPS)
    assert {type(gap).__name__ for gap in GAPS} >= {"float", "float32", "NaTType", "NAType", "datetime64"}


def test_gap_in_a_field_is_unset():
    """In each field, as None is; and an unset field has its default, or the one of the connection."""
    for gap in GAPS:
        assert Todo(**dict.fromkeys(FIELDS, gap)) == Todo(**dict.fromkeys(FIELDS))
        optional = {name: gap for name in FIELDS if name not in MANDATORY}
        assert complete_todo({**MANDATORY, **optional}, defaults={}) == complete_todo(MANDATORY, defaults={})
        assert complete_todo(dict.fromkeys(MANDATORY, gap), defaults=MANDATORY).title == "t"


def test_gap_in_a_list_is_left_out():
    """As from a column with gaps."""
    for gap in GAPS:
        todo = Todo(category=["a", gap, "b"], sub_category=(gap,))
        assert (todo.category, todo.sub_category) == (("a", "b"), ())


def test_whole_number_of_a_column_with_gaps_is_sent_without_a_point():
    """pandas makes floats of the whole numbers in a column with a gap; a fraction and a text stay."""
    for number, text in [
        *((778.0, "778"), (np.float64(778), "778"), (np.float32(778), "778"), (np.int64(778), "778")),
        *((TABLE["order"][0], "777"), (7.5, "7.5"), (1e22, "10000000000000000000000"), ("778.0", "778.0")),
    ]:
        todo = complete_todo({**MANDATORY, "order_id": number, "category": [number]}, defaults={})
        assert (message_of(todo)["orderID"], message_of(todo)["category"]) == (text, [text])
    assert Todo(financial_impact=np.float32(5)).financial_impact == "5"


def test_hook_gap_in_a_row_is_not_sent(bzctrl):
    """Through the hook, with the row as pandas gives it."""
    (row,) = TABLE.iloc[1:].rename(columns={"order": "lrn", "text": "category"}).to_dict("records")
    fields = {name: row[name] for name in ("lrn", "category")}
    BzCtrlHook().create_todo({**MANDATORY, **fields, "financial_impact": row["amount"]})
    (todo,) = sent_todos(bzctrl)
    assert {"lrn", "category", "financialImpact"}.isdisjoint(todo)


def test_create_todos_gap_in_a_row_has_the_default(bzctrl):
    """As a NULL of a database; a gap among the defaults is none."""
    todos = [{"title": f"t{number}", "priority": gap, "order_id": gap} for number, gap in enumerate(GAPS)]
    operator = CreateTodosOperator(
        task_id="t", todos=todos, description="d", order_id=778.0, priority="HIGH", max_workers=1
    )
    operator.lrn, operator.result = pd.NA, np.nan
    operator.execute({"ti": TaskInstance()})
    sent = sent_todos(bzctrl)
    assert [(todo["orderID"], todo["priority"]) for todo in sent] == [("778", "HIGH")] * len(GAPS)
    assert not any({"lrn", "result"} & todo.keys() for todo in sent)


def test_operator_and_notifier_gap_in_a_field_is_unset(bzctrl):
    """Title, description and order id are generated, and no field is named as invalid."""
    for gap in GAPS:
        given = {
            **dict.fromkeys(["title", "description", "order_id", "priority", "financial_impact"], gap),
            "category": ["a", gap],
        }
        context = {**new_task_context(), "failure": LazyFailure({}, lambda _: FAILURE), "dag": new_dag()}
        IncidentOnFailureOperator(task_id="t", **given).execute({**context, "run_id": "the run"})
        BzCtrlNotifier(**given)(new_task_context())
        CreateTodoOperator(task_id="t", **{**given, "order_id": 778.0}).execute(context)
        roll_up, notified, single = sent_todos(bzctrl)[-3:]
        assert [roll_up["title"], notified["title"], single["title"]] == [
            FAILURE.summary,
            "customs: load failed",
            FAILURE.summary,
        ]
        assert [roll_up["orderID"], notified["orderID"], single["orderID"]] == ["the run", "r", "778"]
        for todo in (roll_up, notified, single):
            assert "Left out" not in todo["description"]
            assert {"priority", "financialImpact"}.isdisjoint(todo)
            assert todo["category"] == ["a"]
