from __future__ import annotations

import itertools
from typing import Any

import pytest
from airflow.providers.common.compat.sdk import DAG, BaseOperator
from hypothesis import given, settings
from hypothesis import strategies as st

from bzctrl_provider.dag_graph import excludes_other_failures, with_all_before


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


NAMES = "abcde"
"""The tasks of a small DAG, in the order in which they can run."""

PAIRS = list(itertools.combinations(NAMES, 2))


def new_dag(edges: set[tuple[str, str]], **rules: str) -> DAG:
    """Return a DAG with these edges, in which tasks have other trigger rules than ``all_success``."""
    with DAG("small", schedule=None) as dag:
        tasks = {
            name: BaseOperator(task_id=name, trigger_rule=rules.get(name, "all_success")) for name in NAMES
        }
        for before, after in edges:
            tasks[before] >> tasks[after]
    return dag


CHAIN = set(itertools.pairwise(NAMES))


@pytest.mark.parametrize(
    ("edges", "rules", "failed", "excludes"),
    [
        (CHAIN, {}, "a", True),
        (CHAIN, {}, "c", True),
        (CHAIN | {("a", "c"), ("b", "e")}, {}, "e", True),
        (CHAIN, {"d": "all_done"}, "c", False),
        (CHAIN, {"d": "none_failed"}, "e", False),
        ({("a", "c"), ("b", "c"), ("c", "d"), ("d", "e")}, {}, "c", True),
        ({("a", "c"), ("b", "c"), ("c", "d"), ("d", "e")}, {}, "a", False),
        (CHAIN - {("d", "e")}, {}, "a", False),
    ],
    ids=[
        "first of a chain",
        "middle of a chain",
        "last of a chain with shortcuts",
        "runs after failures",
        "runs after skipped tasks",
        "behind all branches",
        "in a branch",
        "a task beside it",
    ],
)
def test_excludes_other_failures_is_true_of_a_task_between_all_others(
    edges: set[tuple[str, str]], rules: dict[str, str], failed: str, excludes: bool
) -> None:
    """Tasks before a failed one succeeded, and those after it did not run, but only with ``all_success``."""
    assert excludes_other_failures(new_dag(edges, **rules), failed) is excludes


@pytest.mark.parametrize("kind", ["setup", "teardown"])
def test_excludes_other_failures_teardown_can_fail_as_well(kind: str) -> None:
    """A teardown runs although the task before it failed."""
    dag = new_dag(CHAIN)
    task: Any = dag.get_task("e")
    getattr(task, f"as_{kind}")()
    assert excludes_other_failures(dag, "c") is False


@settings(deadline=None)
@given(
    edges=st.sets(st.sampled_from(PAIRS)),
    rules=st.dictionaries(st.sampled_from(NAMES), st.sampled_from(["all_done", "none_failed"]), max_size=1),
    outcomes=st.fixed_dictionaries(
        {name: st.sampled_from(["success", "failed", "skipped"]) for name in NAMES}
    ),
)
def test_excludes_other_failures_any_run_of_any_dag_is_right(
    edges: set[tuple[str, str]], rules: dict[str, str], outcomes: dict[str, str]
) -> None:
    """In no run in which a failed task excludes other failures, another one failed."""
    dag = new_dag(edges, **rules)
    states: dict[str, str] = {}
    for name in NAMES:
        before = {states[task_id] for task_id in dag.get_task(name).upstream_task_ids}
        rule = rules.get(name, "all_success")
        if before & {"failed", "upstream_failed"} and rule != "all_done":
            states[name] = "upstream_failed"
        elif "skipped" in before and rule == "all_success":
            states[name] = "skipped"
        else:
            states[name] = outcomes[name]
    failed = [name for name, state in states.items() if state == "failed"]
    assert len(failed) < 2 or not any(excludes_other_failures(dag, name) for name in failed)
