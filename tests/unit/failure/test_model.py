from __future__ import annotations

import json
from pathlib import Path

import pytest
from airflow.providers.common.compat.sdk import AirflowFailException
from hypothesis import given
from hypothesis import strategies as st
from support.contexts import TaskInstance

from bzctrl_provider.best_effort import exception_text
from bzctrl_provider.failure import CheckResult, FailedTask, Failure, LazyFailure, remember_exception
from bzctrl_provider.failure.model import fill_text

GOLDEN = Path(__file__).parent / "golden"
RUN = {
    "dag_id": "customs_daily",
    "run_id": "scheduled__2026-11-21T06:00:00+00:00",
    "logical_date": "2026-11-21T06:00:00+00:00",
    "owner": "data-team",
    "run_url": "https://airflow.example.com/dags/customs_daily/runs/scheduled__2026-11-21T06%3A00%3A00%2B00%3A00",
}
LOG = f"{RUN['run_url']}/tasks/"


def failed(task_id, *, map_index=-1, operator="SQLCheckOperator", exception=None, **more):
    mapped = f"/mapped/{map_index}" if map_index >= 0 else ""
    return FailedTask(
        task_id=task_id,
        map_index=map_index,
        operator=operator,
        exception=exception,
        log_url=f"{LOG}{task_id}{mapped}",
        **more,
    )


CHECKS = (
    CheckResult(check="null_check", table="d", column="amount", expected="0", actual="17"),
    CheckResult(check="min", table="d", column="amount", expected=">= 5", actual="1"),
)


SHAPES = {
    "two_of_five_checks": Failure(
        kind="checks", checks=5, tasks=(failed("amounts_present"), failed("totals_match")), **RUN
    ),
    "the_only_check": Failure(
        kind="checks",
        checks=1,
        tasks=(
            failed(
                "totals_match", exception="AirflowException: Test failed.\nQuery:\nSELECT 1\nResults:\n(0,)"
            ),
        ),
        **RUN,
    ),
    "mapped_checks": Failure(
        kind="checks",
        checks=2,
        tasks=tuple(
            failed("validate", map_index=i, operator="@task", exception="ValueError: odd" if i == 3 else None)
            for i in (0, 3, 4, 7, 9, 11, 20, 21, 22, 30, 31, 39)
        ),
        instances={"validate": 40, "totals_match": 1},
        **RUN,
    ),
    "a_single_mapped_check": Failure(
        kind="checks", checks=1, tasks=(failed("validate", map_index=3),), instances={"validate": 5}, **RUN
    ),
    "named_mapped_checks": Failure(
        kind="checks",
        checks=1,
        tasks=(
            failed(
                "carrier_known",
                map_index=1,
                operator="@task",
                name="DHL",
                exception="ValueError: DHL has 3 orders",
            ),
            failed("carrier_known", map_index=3, operator="@task", name="FedEx", lost=True),
            failed("carrier_known", map_index=4, operator="@task"),
        ),
        instances={"carrier_known": 6},
        did_not_run=("load", "publish"),
        not_updated=("declarations",),
        **RUN,
    ),
    "results_of_checks": Failure(
        kind="checks",
        checks=4,
        tasks=(
            failed(
                "amounts",
                operator="SQLColumnCheckOperator",
                checks=CHECKS,
                exception="AirflowException: Test failed.",
            ),
            failed(
                "rows",
                operator="SQLTableCheckOperator",
                checks=(
                    CheckResult(
                        check="row_count", table="d", expected="true", actual="0", statement="COUNT(*) > 100"
                    ),
                ),
            ),
            failed(
                "totals",
                checks=(
                    CheckResult(check="totals", expected="true", statement="SELECT SUM(a) = SUM(b) FROM d"),
                ),
            ),
        ),
        did_not_run=tuple(f"load_{i}" for i in range(25)),
        **RUN,
    ),
    "results_of_mapped_checks": Failure(
        kind="checks",
        checks=1,
        tasks=(failed("amounts", map_index=1, name="DHL", checks=CHECKS),),
        instances={"amounts": 3},
        **RUN,
    ),
    "a_killed_task": Failure(
        kind="checks", checks=1, tasks=(failed("load", operator="@task", lost=True),), **RUN
    ),
    "one_named_mapped_task": Failure(
        kind="task",
        tasks=(failed("load", map_index=7, name="DHL", operator="@task", exception="OSError: disk full"),),
        **RUN,
    ),
    "before_the_checks": Failure(
        kind="checks", checks=3, not_run=3, tasks=(failed("load", operator="@task"),), **RUN
    ),
    "many_checks": Failure(
        kind="checks", checks=60, tasks=tuple(failed(f"check_{i:02}") for i in range(60)), **RUN
    ),
    "one_task": Failure(
        kind="task", tasks=(failed("load", operator="@task", exception="OSError: disk full"),), **RUN
    ),
    "a_killed_task_of_its_own_callback": Failure(
        kind="task", tasks=(failed("load", operator="@task", lost=True),), did_not_run=("publish",), **RUN
    ),
    "a_task_that_succeeded": Failure(
        kind="task", tasks=(failed("load", operator="@task", state="success"),), **RUN
    ),
    "a_task_with_warnings": Failure(
        kind="task",
        tasks=(
            failed(
                "orders.test",
                operator="DbtTestLocalOperator",
                state="warned",
                warnings=(("not_null_orders_amount", "Got 2 results"), ("unique_orders_id", "")),
            ),
        ),
        **RUN,
    ),
    "a_run_that_succeeded": Failure(kind="run", reason="success", **RUN),
    "one_mapped_task": Failure(kind="task", tasks=(failed("load", map_index=7, operator="@task"),), **RUN),
    "a_run": Failure(
        kind="run",
        reason="task_failure",
        tasks=(failed("load", operator="@task"), failed("totals_match")),
        instances={"load": 1, "totals_match": 1, "publish": 1},
        **RUN,
    ),
    "a_run_of_which_nothing_is_known": Failure(kind="run", reason="task_failure", **RUN),
    "a_run_that_timed_out": Failure(kind="run", reason="timed_out", **RUN),
    "a_missed_deadline": Failure(kind="deadline", reason="2026-11-21T07:00:00Z", **RUN),
    "a_broken_dag_file": Failure(
        kind="import",
        dag_id="",
        run_id="",
        file="customs/orders.py",
        bundle="company",
        reason="ModuleNotFoundError: No module named 'pandas'",
        line="orders.py, line 3",
        run_url="https://airflow.example.com",
        broken_since="2026-11-21T12:00:00Z",
        broken_for_s=312,
    ),
    "a_manual_run_without_owner": Failure(
        kind="checks",
        checks=1,
        tasks=(FailedTask(task_id="totals_match"),),
        dag_id="customs_daily",
        run_id="manual__x",
    ),
}


def test_failure_of_a_file_with_a_long_path_keeps_its_name():
    """The name of the file is at the end of its path."""
    failure = Failure(kind="import", dag_id="", run_id="", file=f"{'folder/' * 100}orders.py")
    assert failure.summary.startswith("…")
    assert failure.summary.endswith("/orders.py: the DAG file cannot be imported")
    assert len(failure.summary) == 200


def test_failure_of_a_file_says_how_long_it_is_broken():
    """In the unit that a person would use."""
    for seconds, span in {0: "0 s", 119: "119 s", 120: "2 min", 7_200: "2 h", 200_000: "2 d"}.items():
        file = {"file": "a.py", "broken_since": "noon", "broken_for_s": seconds}
        failure = Failure(kind="import", dag_id="", run_id="", **file)
        assert f"Broken: for {span}, since noon" in failure.description


def test_failure_each_shape_matches_golden_text():
    """Title and description of each shape are those of its golden file."""
    for shape, failure in SHAPES.items():
        text = f"{failure.summary}\n\n{failure.description}\n"
        assert text == (GOLDEN / f"{shape}.txt").read_text()


def test_description_leaves_out_the_owner_that_is_airflows_default():
    """It says nothing: Airflow gives it to each task that has no owner. Any other one stays."""
    for owner, shown in (("airflow", False), ("airflow, customs", True), ("customs", True)):
        failure = Failure(kind="run", dag_id="d", run_id="r", owner=owner)
        assert (f"\nOwner: {owner}" in failure.description) is shown


def test_description_ends_with_its_addresses():
    """They are long, and percent-encoded: no text follows the first one."""
    for failure in SHAPES.values():
        lines = failure.description.splitlines()
        is_address = [": http" in line for line in lines]
        assert is_address == sorted(is_address)


@given(
    st.text(min_size=1, max_size=300), st.lists(st.text(min_size=1, max_size=80), min_size=1, max_size=300)
)
def test_summary_any_names_has_at_most_200_characters(dag_id, task_ids):
    """The summary has at most 200 characters for any names of DAG and tasks."""
    tasks = tuple(FailedTask(task_id=task_id) for task_id in task_ids)
    assert len(Failure(kind="checks", checks=1, tasks=tasks, dag_id=dag_id, run_id="r").summary) <= 200


def test_failure_of_10000_tasks_has_bounded_text():
    """The text stays readable however many tasks failed."""
    tasks = tuple(failed(f"check_{i:05}") for i in range(10_000))
    failure = Failure(kind="checks", checks=10_000, tasks=tasks, **RUN)
    assert failure.description.count("\n") < 120
    assert "- and 9980 more" in failure.description
    assert len(failure.summary) <= 200


def test_summary_names_of_instances_without_room_are_left_out():
    """The title then has the ids of the tasks."""

    def title(names):
        tasks = tuple(FailedTask(task_id="t", map_index=i, name=name) for i, name in enumerate(names))
        return Failure(kind="checks", checks=1, tasks=tasks, dag_id="d", run_id="r").summary

    assert title(["DHL", None, "GLS"]) == "d: t[DHL, 1, GLS] failed"
    assert title(["x" * 80] * 3) == "d: t failed"


@pytest.mark.parametrize(
    "state", ["success", "skipped", "up_for_retry", "running", "deferred", "warned", "failed"]
)
def test_failure_state_of_a_task_is_its_text(state):
    """No text says "failed" of a task that did not fail; each names its state, and its title is one line."""
    task = failed("load", state=state, warnings=(("t" * 90, "r"),) * 30 if state == "warned" else ())
    failure = Failure(kind="task", tasks=(task,), **RUN)
    ends = {
        "success": "succeeded",
        "skipped": "was skipped",
        "up_for_retry": "is tried again",
        "failed": "failed",
    }
    ends["warned"] = f"has 30 warnings ({'t' * 90}, …)"
    assert failure.summary == f"customs_daily: load {ends.get(state, f'is {state}')}"
    assert failure.state == state
    assert ("failed" in failure.description) is (state == "failed")
    assert failure.description.count("\n") < 40


def test_exception_text_of_airflow_has_no_module():
    """The module differs with the version of Airflow; that of other errors stays."""
    assert exception_text(AirflowFailException("no")) == "AirflowFailException: no"
    assert exception_text(json.JSONDecodeError("no", "", 0)).startswith("json.decoder.JSONDecodeError: no")


def test_exception_text_long_exception_keeps_beginning_and_end():
    """A text has at most 2,000 characters: the beginning, and the last line or its end; no part of it twice."""
    text = exception_text(ValueError("x" * 5000 + "\nthe last line says why"))
    assert len(text) == 2000
    assert text.startswith("ValueError: xxx")
    assert text.endswith("…\nthe last line says why")
    assert exception_text(ValueError("short")) == "ValueError: short"
    assert exception_text("as text") == "as text"
    assert exception_text(None) is None
    for before in ("", "first line\n"):
        numbers = " ".join(map(str, range(2000)))
        text = exception_text(f"{before}{numbers}")
        start, end = text.split("\n…\n")
        assert len(text) == 2000
        assert f"{before}{numbers}".startswith(start)
        assert numbers.endswith(end)
        assert len(end) == 1000


def test_lazy_failure_used_by_a_template_looks_up_once():
    """The look-up happens at the first use and only then; private names, which Jinja and pickle ask for, cause none."""
    contexts = []
    failure = SHAPES["a_run"]
    lazy = LazyFailure({"a": "context"}, lambda context: contexts.append(context) or failure)
    assert not hasattr(lazy, "__html__")
    assert contexts == []
    assert lazy.task_ids == ["load", "totals_match"]
    assert str(lazy) == failure.summary == str(failure)
    assert contexts == [{"a": "context"}]


def test_fill_text_fills_what_is_unset_if_something_failed():
    """A description that the user wrote stays, and a blank title is generated; without a failed task nothing is."""
    failure = SHAPES["a_run"]
    filled = fill_text(failure, {"title": " ", "description": "mine", "lrn": None})
    assert filled == {"title": failure.summary, "description": "mine", "lrn": None}
    assert fill_text(Failure(kind="checks", checks=1, **RUN), {"title": None}) == {"title": None}


def test_failure_owner_that_is_an_address_is_the_assignee():
    """The owner of the failed tasks, otherwise that of the DAG; with none or several, the connection's assignee counts."""
    a, b, c = (f"{name}@example.com" for name in "abc")
    for of_tasks, of_dag, assignee in [
        (["airflow"], "airflow", None),
        ([a], f"{a}, {b}", a),
        ([a, a], "airflow", a),
        ([a, b], f"{a}, {b}", None),
        ([a, b], c, c),
        ([None], f"airflow, {c}", c),
        ([], c, c),
        (["not an address@"], None, None),
    ]:
        tasks = tuple(failed(f"t{i}", owner=owner) for i, owner in enumerate(of_tasks))
        failure = Failure(kind="run", tasks=tasks, dag_id="d", run_id="r", owner=of_dag)
        assert failure.assignee == assignee


def test_fill_text_without_link_to_run_leaves_the_address_out():
    """`link_to_run=False` leaves out the address of the run, and nothing more."""
    failure = SHAPES["a_run"]
    filled = fill_text(failure, {}, link_to_run=False)
    assert f"{filled['description']}\nAirflow: {RUN['run_url']}" == failure.description


def test_remember_exception_failed_task_pushes_it_to_xcom(set_airflow_version):
    """The exception becomes an XCom of the failed task; without an exception it is empty, and nothing is raised."""
    set_airflow_version(3, 0)
    ti = TaskInstance()
    remember_exception({"ti": ti, "exception": ValueError("why")})
    remember_exception({"ti": ti, "exception": None})
    remember_exception({"exception": ValueError("no ti")})
    assert ti.pushed == [("bzctrl_exception", {"exception": "ValueError: why"}), ("bzctrl_exception", {})]
