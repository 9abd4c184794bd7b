from __future__ import annotations

import datetime as dt
from pathlib import Path
from types import SimpleNamespace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bzctrl_provider import failure as failure_module
from bzctrl_provider.failure import (
    FailedTask,
    Failure,
    LazyFailure,
    _group_unambiguous,
    _parse_state_key,
    describe_failure,
    exception_text,
    fill_text,
    remember_exception,
)

GOLDEN = Path(__file__).parent / "golden"
RUN = {
    "dag_id": "customs_daily",
    "run_id": "scheduled__2026-11-21T06:00:00+00:00",
    "logical_date": "2026-11-21T06:00:00+00:00",
    "owner": "data-team",
    "run_url": "https://airflow.example.com/dags/customs_daily/runs/scheduled__2026-11-21T06%3A00%3A00%2B00%3A00",
}
LOG = f"{RUN['run_url']}/tasks/"


def failed(task_id, *, map_index=-1, operator="SQLCheckOperator", exception=None):
    mapped = f"/mapped/{map_index}" if map_index >= 0 else ""
    return FailedTask(
        task_id=task_id,
        map_index=map_index,
        operator=operator,
        exception=exception,
        log_url=f"{LOG}{task_id}{mapped}",
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
    "before_the_checks": Failure(
        kind="checks", checks=3, not_run=3, tasks=(failed("load", operator="@task"),), **RUN
    ),
    "many_checks": Failure(
        kind="checks", checks=60, tasks=tuple(failed(f"check_{i:02}") for i in range(60)), **RUN
    ),
    "one_task": Failure(
        kind="task", tasks=(failed("load", operator="@task", exception="OSError: disk full"),), **RUN
    ),
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
    "a_manual_run_without_owner": Failure(
        kind="checks",
        checks=1,
        tasks=(FailedTask(task_id="totals_match"),),
        dag_id="customs_daily",
        run_id="manual__x",
    ),
}


@pytest.mark.parametrize("shape", SHAPES)
def test_what_failed_is_told_as_written_down(shape):
    """Title and description of each shape are those of its golden file."""
    told = f"{SHAPES[shape].summary}\n\n{SHAPES[shape].description}\n"
    assert told == (GOLDEN / f"{shape}.txt").read_text()


@given(
    st.text(min_size=1, max_size=300), st.lists(st.text(min_size=1, max_size=80), min_size=1, max_size=300)
)
def test_a_title_is_never_too_long(dag_id, task_ids):
    """Whatever the names are, the summary has at most 200 characters."""
    tasks = tuple(FailedTask(task_id=task_id) for task_id in task_ids)
    assert len(Failure(kind="checks", checks=1, tasks=tasks, dag_id=dag_id, run_id="r").summary) <= 200


def test_ten_thousand_failures_are_told_in_a_bounded_text():
    """A text stays readable, and quick to write, however much failed."""
    tasks = tuple(failed(f"check_{i:05}") for i in range(10_000))
    failure = Failure(kind="checks", checks=10_000, tasks=tasks, **RUN)
    assert failure.description.count("\n") < 120
    assert "- and 9950 more" in failure.description
    assert len(failure.summary) <= 200


@pytest.mark.parametrize(
    ("keys", "task_ids", "split"),
    [
        (["a", "b_0", "b_12"], ["a", "b"], [("a", -1), ("b", 0), ("b", 12)]),
        (["b_1"], ["b", "b_1"], [("b_1", -1)]),
        (["b_1_2"], ["b", "b_1"], [("b_1", 2)]),
        (["c_x"], ["c"], [("c_x", -1)]),
    ],
)
def test_a_mapped_instance_is_told_from_a_task_that_looks_like_one(keys, task_ids, split):
    """Exact ids come first, then ids with an index."""
    assert [_parse_state_key(key, task_ids) for key in keys] == split


def test_tasks_that_look_like_instances_are_asked_for_apart():
    """Airflow's answer has one entry for both, so each is asked for in a question of its own."""
    assert _group_unambiguous(["a", "validate", "validate_1", "x_2"]) == [
        ["a", "validate_1", "x_2"],
        ["validate"],
    ]
    assert _group_unambiguous([]) == []


def test_an_exception_is_cut_in_the_middle():
    """2,000 characters at most: the beginning, and the last line."""
    text = exception_text(ValueError("x" * 5000 + "\nthe last line says why"))
    assert len(text) == 2000
    assert text.startswith("ValueError: xxx")
    assert text.endswith("…\nthe last line says why")
    assert exception_text(ValueError("short")) == "ValueError: short"
    assert exception_text("as text") == "as text"
    assert exception_text(None) is None
    assert len(exception_text("y" * 5000)) == 2000


class TaskInstance(SimpleNamespace):
    """A task instance that answers from what it was given, and counts the questions."""

    def __init__(self, states=None, xcoms=None, **kwargs):
        super().__init__(
            task_id="raise_incident",
            map_index=-1,
            try_number=2,
            state="running",
            asked=[],
            pushed=[],
            **kwargs,
        )
        self.states, self.xcoms = states or {}, xcoms or {}

    def get_task_states(self, *, dag_id, task_ids, run_ids):
        self.asked.append(task_ids)
        found = {}
        for key, state in self.states.items():
            task_id, _, index = key.partition("[")
            if task_id in task_ids:
                found[f"{task_id}_{index[:-1]}" if index else task_id] = state
        return {run_ids[0]: found} if found else {}

    def xcom_pull(self, *, task_ids, key, map_indexes):
        return self.xcoms.get((task_ids, map_indexes))

    def xcom_push(self, *, key, value):
        self.pushed.append((key, value))


def new_context(upstream, ti, **more):
    """Return a context of a task behind others; `upstream` has for each task those before it."""
    tasks = {
        name: SimpleNamespace(upstream_task_ids=set(of), task_type="Check") for name, of in upstream.items()
    }
    dag = SimpleNamespace(dag_id="customs", task_ids=list(tasks), get_task=tasks.__getitem__, owner="team")
    when = dt.datetime(2026, 11, 21, tzinfo=dt.UTC)
    return {
        "dag": dag,
        "ti": ti,
        "task": tasks["raise_incident"],
        "run_id": "r 1",
        "logical_date": when,
        **more,
    }


@pytest.fixture(autouse=True)
def _airflow_3(monkeypatch):
    """These contexts are those of Airflow 3.1 and newer, whatever the tests run on."""
    for name in ("AIRFLOW_V_3_0_PLUS", "AIRFLOW_V_3_1_PLUS"):
        monkeypatch.setattr(f"airflow.providers.common.compat.version_compat.{name}", True)


def test_the_checks_before_an_operator_are_told():
    """Which failed, of which operator, with the addresses of their logs and what they raised."""
    ti = TaskInstance(
        states={"a": "success", "b": "failed", "m[0]": "failed", "m[1]": "success"},
        xcoms={("b", None): "ValueError: b", ("m", 0): "ValueError: m"},
    )
    upstream = {"a": [], "b": [], "m": [], "other": [], "raise_incident": ["a", "b", "m"]}
    failure = describe_failure(new_context(upstream, ti))
    assert failure.kind == "checks"
    assert failure.task_ids == ["b", "m"]
    assert [task.label for task in failure.tasks] == ["b", "m[0]"]
    assert [task.exception for task in failure.tasks] == ["ValueError: b", "ValueError: m"]
    assert failure.exception == "ValueError: b"
    assert failure.tasks[0].operator == "Check"
    assert failure.tasks[1].log_url.endswith("/dags/customs/runs/r%201/tasks/m/mapped/0")
    assert failure.summary == "customs: 2 of 3 checks failed (b, m)"
    assert (failure.owner, failure.try_number, failure.logical_date) == (
        "team",
        2,
        "2026-11-21T00:00:00+00:00",
    )
    assert ti.asked == [["a", "b", "m"]]


def test_airflow_is_asked_for_its_address_once(monkeypatch):
    """However many tasks failed, each with the address of its log."""
    asked = []

    class Conf:
        def get(self, *args, **_):
            asked.append(args)
            return "http://airflow.example.com"

    monkeypatch.setattr("airflow.providers.common.compat.sdk.conf", Conf(), raising=False)
    checks = [f"check_{number}" for number in range(300)]
    upstream = {**{check: [] for check in checks}, "raise_incident": checks}
    failure = describe_failure(new_context(upstream, TaskInstance(states=dict.fromkeys(checks, "failed"))))
    assert len({task.log_url for task in failure.tasks}) == 300
    assert len(asked) == 1


def test_a_mapped_check_that_looks_like_another_task_is_told_right():
    """`validate` mapped, and a task `validate_1` beside it: both states are known."""
    ti = TaskInstance(states={"validate[0]": "success", "validate[1]": "failed", "validate_1": "success"})
    upstream = {"validate": [], "validate_1": [], "raise_incident": ["validate", "validate_1"]}
    assert [task.label for task in describe_failure(new_context(upstream, ti)).tasks] == ["validate[1]"]


def test_what_failed_before_the_checks_is_told():
    """Through checks that could not run; a failure that was dealt with on the way is none."""
    upstream = {
        "load": [],
        "fast": [],
        "slow": ["fast"],
        "a": ["load"],
        "b": ["slow"],
        "raise_incident": ["a", "b"],
    }
    states = {"load": "failed", "fast": "failed", "slow": "success", "a": "upstream_failed", "b": "success"}
    failure = describe_failure(new_context(upstream, TaskInstance(states=states)))
    assert failure.task_ids == ["load"]
    assert failure.summary == "customs: 1 task failed, so that 1 of 2 checks did not run (load)"


def test_where_nothing_failed_nothing_is_told():
    """No task, and a title or description that is unset stays unset."""
    failure = describe_failure(
        new_context({"a": [], "raise_incident": ["a"]}, TaskInstance(states={"a": "success"}))
    )
    assert failure.tasks == ()
    assert fill_text(failure, {"title": None}) == {"title": None}


def test_states_that_cannot_be_had_are_an_error():
    """To take an error for "nothing failed" would lose an incident."""
    ti = TaskInstance()
    ti.get_task_states = lambda **_: 1 / 0
    with pytest.raises(ZeroDivisionError):
        describe_failure(new_context({"a": [], "raise_incident": ["a"]}, ti))


def test_exceptions_that_cannot_be_had_are_left_out():
    """The incident is worth more than its reason."""
    ti = TaskInstance(states={"a": "failed"})
    ti.xcom_pull = lambda **_: 1 / 0
    assert describe_failure(new_context({"a": [], "raise_incident": ["a"]}, ti)).tasks[0].exception is None


def test_a_tasks_callback_tells_of_the_task():
    """Nothing is asked for: the context has it all."""
    ti = TaskInstance()
    ti.state, ti.map_index = "failed", 3
    failure = describe_failure(new_context({"raise_incident": []}, ti, exception=OSError("disk full")))
    assert failure.kind == "task"
    assert failure.summary == "customs: raise_incident[3] failed"
    assert failure.exception == "OSError: disk full"
    assert ti.asked == []


def test_a_dags_callback_tells_of_the_run():
    """All tasks of the DAG are asked for; without a task instance nothing is."""
    ti = TaskInstance(states={"a": "failed", "b": "upstream_failed", "raise_incident": "success"})
    upstream = {"a": [], "b": ["a"], "raise_incident": ["b"]}
    failure = describe_failure(new_context(upstream, ti, reason="task_failure"))
    assert (failure.kind, failure.task_ids) == ("run", ["a"])
    assert failure.summary == "customs: 1 of 3 tasks failed (a)"
    context = new_context(upstream, ti, reason="task_failure")
    del context["ti"], context["task"], context["logical_date"]
    assert describe_failure(context).summary == "customs: the run failed"


def test_on_airflow_3_0_a_dags_callback_asks_nothing(monkeypatch):
    """There the question would hang until the process is killed."""
    monkeypatch.setattr("airflow.providers.common.compat.version_compat.AIRFLOW_V_3_1_PLUS", False)
    ti = TaskInstance(states={"a": "failed"})
    failure = describe_failure(new_context({"a": [], "raise_incident": []}, ti, reason="task_failure"))
    assert failure.tasks == ()
    assert ti.asked == []


def test_airflow_2_has_the_states_in_the_run(monkeypatch):
    """There the run is asked, and its address is that of the grid."""
    monkeypatch.setattr("airflow.providers.common.compat.version_compat.AIRFLOW_V_3_0_PLUS", False)
    conf = SimpleNamespace(get=lambda *_: "https://airflow.example.com/")
    monkeypatch.setattr("airflow.providers.common.compat.sdk.conf", conf, raising=False)
    instances = [
        SimpleNamespace(task_id="m", map_index=1, state="failed"),
        SimpleNamespace(task_id="other", map_index=-1, state="failed"),
    ]
    dag_run = SimpleNamespace(get_task_instances=lambda: instances)
    context = new_context({"m": [], "raise_incident": ["m"]}, TaskInstance(), dag_run=dag_run)
    failure = describe_failure(context)
    assert [task.label for task in failure.tasks] == ["m[1]"]
    grid = "https://airflow.example.com/dags/customs/grid?dag_run_id=r%201"
    assert failure.run_url == grid
    assert failure.tasks[0].log_url == f"{grid}&task_id=m&map_index=1&tab=logs"


def test_a_missed_deadline_is_told():
    """Its context has a run as a mapping, and no DAG."""
    run = {"dag_id": "customs", "dag_run_id": "r", "logical_date": "2026-11-21T00:00:00Z"}
    failure = describe_failure(
        {"dag_run": run, "deadline": {"id": 1, "deadline_time": "2026-11-21T07:00:00Z"}}
    )
    assert failure.summary == "customs: the deadline 2026-11-21T07:00:00Z was missed"
    assert describe_failure({"deadline": {}}).summary == ": a deadline was missed"


def test_an_operator_that_is_executed_by_hand_knows_of_no_failure():
    """Without a DAG in the context there is nothing to look at."""
    assert describe_failure({"ti": None}).tasks == ()


def test_a_lazy_failure_is_told_when_it_is_looked_at(monkeypatch):
    """Once, and not before; what Jinja and pickle ask of every object does not count."""
    told = []
    failure = SHAPES["a_run"]
    monkeypatch.setattr(failure_module, "describe_failure", lambda context: told.append(context) or failure)
    lazy = LazyFailure({"a": "context"})
    assert not hasattr(lazy, "__html__")
    assert told == []
    assert lazy.task_ids == ["load", "totals_match"]
    assert str(lazy) == failure.summary == str(failure)
    assert told == [{"a": "context"}]


def test_title_and_description_are_told_only_where_they_are_unset():
    """What the user wrote stays."""
    failure = SHAPES["a_run"]
    told = fill_text(failure, {"title": " ", "description": "mine", "lrn": None})
    assert told == {"title": failure.summary, "description": "mine", "lrn": None}


def test_an_exception_is_remembered_for_the_incident():
    """As an XCom of the failed task; without an exception there is none, and its own errors it keeps to itself."""
    ti = TaskInstance()
    remember_exception({"ti": ti, "exception": ValueError("why")})
    remember_exception({"ti": ti, "exception": None})
    remember_exception({"exception": ValueError("no ti")})
    assert ti.pushed == [("bzctrl_exception", "ValueError: why")]
