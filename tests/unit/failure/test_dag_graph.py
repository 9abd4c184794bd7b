from __future__ import annotations

import pytest
from airflow.providers.common.compat.sdk import DAG, BaseOperator

from bzctrl_provider.failure.dag_graph import with_all_before


@pytest.fixture
def diamond() -> DAG:
    with DAG("diamond", schedule=None) as dag:
        first, left, right, last = (BaseOperator(task_id=name) for name in ("first", "left", "right", "last"))
        BaseOperator(task_id="beside")
        first >> [left, right] >> last
    return dag


def test_with_all_before_diamond_names_each_task_once(diamond: DAG) -> None:
    """The tasks before a task are found through all of its branches, sorted and without the ones beside it."""
    assert with_all_before(diamond, ["last"]) == ["first", "last", "left", "right"]


def test_with_all_before_no_task_is_empty(diamond: DAG) -> None:
    """A task with nothing before it has no checks."""
    assert with_all_before(diamond, []) == []
