from __future__ import annotations

import datetime as dt
from types import SimpleNamespace
from urllib.parse import urlencode

import pytest
from airflow.providers.common.compat.sdk import TriggerRule

from bzctrl_provider.failure import remember_exception
from bzctrl_provider.failure.dag_graph import find_consequences
from bzctrl_provider.failure.lookup import _parse_state_key, _split, describe_failure


@pytest.mark.parametrize(
    ("keys", "task_ids", "split"),
    [
        (["a", "b_0", "b_12"], ["a", "b"], [("a", -1), ("b", 0), ("b", 12)]),
        (["b_1"], ["b", "b_1"], [("b_1", -1)]),
        (["b_1_2"], ["b", "b_1"], [("b_1", 2)]),
        (["c_x"], ["c"], [("c_x", -1)]),
    ],
)
def test_parse_state_key_lookalike_task_id_prefers_exact_id(keys, task_ids, split):
    """A key that is a task id is that task; any other is a task id with an index."""
    assert [_parse_state_key(key, task_ids) for key in keys] == split


def test_split_lookalikes_are_in_parts_of_their_own():
    """Airflow's response has one entry for both, so each is in a request of its own."""
    assert list(_split(["a", "validate", "validate_1", "x_2"], 1000)) == [
        ["a", "validate_1", "x_2"],
        ["validate"],
    ]
    assert list(_split([], 1000)) == []


class TaskInstance(SimpleNamespace):
    """A task instance that responds with the given states, and keeps the task ids of each request."""

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
        name: SimpleNamespace(
            task_id=name,
            upstream_task_ids=set(of),
            downstream_task_ids={after for after, before in upstream.items() if name in before},
            trigger_rule="all_success",
            is_setup=False,
            is_teardown=False,
            task_type="Check",
        )
        for name, of in upstream.items()
    }
    dag = SimpleNamespace(
        dag_id="customs",
        task_ids=list(tasks),
        tasks=list(tasks.values()),
        get_task=tasks.__getitem__,
        owner="team",
    )
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
def _airflow_3(set_airflow_version):
    """Let the contexts be those of Airflow 3.1, whatever version the tests run on."""
    set_airflow_version(3, 1)


def test_describe_failure_checks_before_operator_lists_the_failed():
    """Each failed instance has its operator, the address of its log and its exception."""
    ti = TaskInstance(
        states={"a": "success", "b": "failed", "m[0]": "failed", "m[1]": "success"},
        xcoms={("b", None): {"exception": "ValueError: b"}, ("m", 0): {"exception": "ValueError: m"}},
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


def test_describe_failure_300_failures_read_the_base_url_once(monkeypatch):
    """Each failed task has the address of its own log, and the configuration is read once."""
    asked = []

    class Conf:
        def get(self, *args, **_):
            asked.append(args)
            return "http://airflow.example.com"

    monkeypatch.setattr("bzctrl_provider.failure.lookup.conf", Conf())
    checks = [f"check_{number}" for number in range(300)]
    upstream = {**{check: [] for check in checks}, "raise_incident": checks}
    failure = describe_failure(new_context(upstream, TaskInstance(states=dict.fromkeys(checks, "failed"))))
    assert len({task.log_url for task in failure.tasks}) == 300
    assert len(asked) == 1


def test_describe_failure_mapped_check_like_another_task_finds_the_instance():
    """`validate` mapped, and a task `validate_1` beside it: both states are known."""
    ti = TaskInstance(states={"validate[0]": "success", "validate[1]": "failed", "validate_1": "success"})
    upstream = {"validate": [], "validate_1": [], "raise_incident": ["validate", "validate_1"]}
    assert [task.label for task in describe_failure(new_context(upstream, ti)).tasks] == ["validate[1]"]


def test_describe_failure_checks_did_not_run_finds_root_failure():
    """The task before the checks is named; a failure that a task between handled is not."""
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


def test_describe_failure_nothing_failed_has_no_tasks():
    """The states of the checks are looked up, and none of them is a failure."""
    failure = describe_failure(
        new_context({"a": [], "raise_incident": ["a"]}, TaskInstance(states={"a": "success"}))
    )
    assert failure.tasks == ()


def test_describe_failure_states_unavailable_raises():
    """To take an error for "nothing failed" would lose an incident."""
    ti = TaskInstance()
    ti.get_task_states = lambda **_: 1 / 0
    with pytest.raises(ZeroDivisionError):
        describe_failure(new_context({"a": [], "raise_incident": ["a"]}, ti))


def test_describe_failure_exceptions_unavailable_leaves_them_out():
    """The incident is worth more than its reason."""
    ti = TaskInstance(states={"a": "failed"})
    ti.xcom_pull = lambda **_: 1 / 0
    assert describe_failure(new_context({"a": [], "raise_incident": ["a"]}, ti)).tasks[0].exception is None


def test_describe_failure_task_callback_describes_the_task():
    """No request is sent: the context has everything."""
    ti = TaskInstance()
    ti.state, ti.map_index = "failed", 3
    failure = describe_failure(new_context({"raise_incident": []}, ti, exception=OSError("disk full")))
    assert failure.kind == "task"
    assert failure.summary == "customs: raise_incident[3] failed"
    assert failure.exception == "OSError: disk full"
    assert ti.asked == []


def test_describe_failure_dag_callback_describes_the_run():
    """The states of all tasks are requested; without a task instance there is no request."""
    ti = TaskInstance(states={"a": "failed", "b": "upstream_failed", "raise_incident": "success"})
    upstream = {"a": [], "b": ["a"], "raise_incident": ["b"]}
    failure = describe_failure(new_context(upstream, ti, reason="task_failure"))
    assert (failure.kind, failure.task_ids) == ("run", ["a"])
    assert failure.summary == "customs: 1 of 3 tasks failed (a)"
    context = new_context(upstream, ti, reason="task_failure")
    del context["ti"], context["task"], context["logical_date"]
    assert describe_failure(context).summary == "customs: the run failed"


def test_describe_failure_dag_callback_on_airflow_3_0_sends_no_request(set_airflow_version):
    """There the request would hang until the process is killed."""
    set_airflow_version(3, 0)
    ti = TaskInstance(states={"a": "failed"})
    failure = describe_failure(new_context({"a": [], "raise_incident": []}, ti, reason="task_failure"))
    assert failure.tasks == ()
    assert ti.asked == []


def test_describe_failure_airflow_2_reads_states_from_the_run(monkeypatch, set_airflow_version):
    """The run returns its task instances, and its address is that of the grid."""
    set_airflow_version(2, 11)
    conf = SimpleNamespace(get=lambda *_, **__: "https://airflow.example.com/")
    monkeypatch.setattr("bzctrl_provider.failure.lookup.conf", conf)
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


def test_describe_failure_deadline_context_describes_the_deadline():
    """Its context has a run as a mapping, and no DAG."""
    run = {"dag_id": "customs", "dag_run_id": "r", "logical_date": "2026-11-21T00:00:00Z"}
    failure = describe_failure(
        {"dag_run": run, "deadline": {"id": 1, "deadline_time": "2026-11-21T07:00:00Z"}}
    )
    assert failure.summary == "customs: the deadline 2026-11-21T07:00:00Z was missed"
    assert describe_failure({"deadline": {}}).summary == ": a deadline was missed"


def test_describe_failure_without_dag_has_no_tasks():
    """An operator that is executed outside Airflow has no checks before it."""
    assert describe_failure({"ti": None}).tasks == ()


@pytest.mark.parametrize(
    ("count", "task_id"),
    [(2000, "t" * 195), (1000, "check_of_a_long_name"), (300, "控" * 195)],
    ids=["2000 ids of 200", "1000 ids", "ids that are percent-encoded"],
)
def test_describe_failure_large_dag_requests_are_below_4_kib(count, task_id):
    """Airflow's client refuses a URL of more than 65,536 characters; each request stays far below, and none is missing."""
    checks = [f"{task_id}{number:05}" for number in range(count)]
    ti = TaskInstance(states=dict.fromkeys(checks, "failed"))
    failure = describe_failure(new_context({**{check: [] for check in checks}, "raise_incident": checks}, ti))
    assert len(failure.tasks) == count
    assert sorted(task_id for group in ti.asked for task_id in group) == sorted(checks)
    queries = [
        urlencode({"dag_id": "customs", "task_ids": group, "run_ids": ["r 1"]}, doseq=True)
        for group in ti.asked
    ]
    assert max(map(len, queries)) < 4096 - 200
    assert len(queries) < 2 * sum(map(len, queries)) / 3000 + 2


def new_mapped_group_context(map_index, states):
    """Return the context of a roll-up in a mapped task group with a check, and a task before the group."""
    upstream = {"load": [], "group.check": ["load"], "raise_incident": ["group.check"]}
    ti = TaskInstance(states=states)
    ti.map_index = map_index
    context = new_context(upstream, ti)
    for task_id in ("group.check", "raise_incident"):
        context["dag"].get_task(task_id).get_closest_mapped_task_group = lambda: "the group"
    return context


@pytest.mark.parametrize(("map_index", "expected"), [(0, []), (7, ["group.check[7]"])])
def test_describe_failure_in_mapped_group_looks_at_own_map_index(map_index, expected):
    """Of 20 instances of the group one check fails, and only the roll-up of that instance has a failure."""
    states = {f"group.check[{index}]": "failed" if index == 7 else "success" for index in range(20)}
    failure = describe_failure(new_mapped_group_context(map_index, {"load": "success", **states}))
    assert [task.label for task in failure.tasks] == expected
    if expected:
        assert "- group.check[7] (Check): failed" in failure.description


@pytest.mark.parametrize(
    ("map_index", "is_mapped", "expected"),
    [
        (0, True, ["load"]),
        (1, True, []),
        (-1, False, ["load"]),
        (0, False, ["load"]),
        (1, False, []),
    ],
)
def test_describe_failure_before_mapped_group_belongs_to_first_instance(map_index, is_mapped, expected):
    """A failure before the group is one failure, and not one for each instance, also if Airflow mapped no check because of it."""
    checks = [f"group.check[{index}]" for index in (0, 1)] if is_mapped else ["group.check"]
    states = {"load": "failed", **dict.fromkeys(checks, "upstream_failed")}
    failure = describe_failure(new_mapped_group_context(map_index, states))
    assert failure.task_ids == expected


def new_dag_of(edges, **changes):
    """Return a DAG like Airflow's; `edges` has for each task those after it, and `changes` other attributes of tasks."""
    tasks = {
        name: SimpleNamespace(
            task_id=name,
            downstream_task_ids=set(after),
            upstream_task_ids={other for other, of in edges.items() if name in of},
            trigger_rule="all_success",
            outlets=[],
        )
        for name, after in edges.items()
    }
    for name, values in changes.items():
        vars(tasks[name]).update(values)
    return SimpleNamespace(get_task=tasks.__getitem__)


CHAIN = {"check": ["load"], "other": ["load"], "load": ["publish"], "publish": []}
ASSET = SimpleNamespace(name="declarations", uri="s3://bucket/declarations")


@pytest.mark.parametrize(
    ("rule", "blocked"),
    [
        ("all_success", ("load", "publish")),
        ("none_failed", ("load", "publish")),
        ("none_failed_min_one_success", ("load", "publish")),
        (TriggerRule.ALL_SUCCESS, ("load", "publish")),
        ("one_success", ()),
        ("all_done", ()),
        ("one_failed", ()),
        ("all_done_setup_success", ()),
        ("always", ()),
    ],
    ids=str,
)
def test_find_consequences_trigger_rule_decides_what_runs(rule, blocked):
    """Only the tasks that need a success of the failed one, and those after them, do not run."""
    dag = new_dag_of(CHAIN, load={"trigger_rule": rule})
    assert find_consequences(dag, {"check": True})["did_not_run"] == blocked


def test_find_consequences_one_success_after_failures_only_does_not_run():
    """A task that needs one success has none if all tasks before it failed."""
    dag = new_dag_of(CHAIN, load={"trigger_rule": "one_success"})
    assert find_consequences(dag, {"check": True, "other": True})["did_not_run"] == ("load", "publish")


@pytest.mark.parametrize(("whole", "names"), [(True, ("orders", "declarations")), (False, ("declarations",))])
def test_find_consequences_assets_of_failed_and_blocked_tasks_are_named(whole, names):
    """Once each; the asset of a mapped task of which an instance succeeded is updated."""
    dag = new_dag_of(
        CHAIN,
        check={"outlets": [SimpleNamespace(uri="orders")]},
        load={"outlets": [ASSET, object()]},
        publish={"outlets": [ASSET]},
        other={"outlets": [SimpleNamespace(name="elsewhere")]},
    )
    assert find_consequences(dag, {"check": whole})["not_updated"] == names


def test_find_consequences_same_mapped_group_is_left_out():
    """In a mapped task group, the tasks of other indexes do run."""
    group = object()
    of_group = {"get_closest_mapped_task_group": lambda: group}
    dag = new_dag_of(CHAIN, check=of_group, load=of_group)
    assert find_consequences(dag, {"check": False})["did_not_run"] == ()


def test_find_consequences_dag_that_cannot_be_read_has_none():
    """The incident is worth more than its consequences."""
    dag = SimpleNamespace(get_task=lambda _: 1 / 0)
    assert find_consequences(dag, {"check": True}) == {"did_not_run": (), "not_updated": ()}


@pytest.mark.parametrize(
    ("callbacks", "lost"), [([remember_exception], True), (remember_exception, True), ([], False)]
)
def test_describe_failure_missing_reason_of_a_remembering_task_is_a_lost_process(callbacks, lost):
    """A failed task whose callback left nothing had no exception; of a task without the callback, nothing is known."""
    ti = TaskInstance(states={"a": "failed"})
    context = new_context({"a": [], "raise_incident": ["a"]}, ti)
    context["dag"].get_task("a").on_failure_callback = callbacks
    (task,) = describe_failure(context).tasks
    assert task.lost is lost


TRIES = {"try_number": 1, "max_tries": 2}
LAST = {"try_number": 3, "max_tries": 2}
RUN = {"dag_run": SimpleNamespace()}
COSMOS = {"test_names": ["not_null", "unique"], "test_results": ["Got 2 results", None]}


@pytest.mark.parametrize(
    ("ti", "more", "end"),
    [
        # In the process of the task.
        ({"state": "failed"}, {"exception": OSError("why")}, "failed"),
        ({"state": "failed"}, {**COSMOS, "exception": OSError("why")}, "failed"),
        ({"state": "up_for_retry"}, {"exception": OSError("why")}, "is tried again"),
        ({"state": "success"}, {}, "succeeded"),
        ({"state": SimpleNamespace(value="skipped")}, {}, "was skipped"),
        ({"state": "running"}, {}, "is running"),
        # Under `dag.test()` of Airflow 2.
        ({"state": "scheduled"}, {}, "is running"),
        ({"state": "running"}, {"exception": OSError("why")}, "failed"),
        ({"state": "running"}, COSMOS, "has 2 warnings (not_null, unique)"),
        ({"state": "running"}, {"test_names": [], "test_results": []}, "is running"),
        ({"state": "success"}, COSMOS, "has 2 warnings (not_null, unique)"),
        # In the DAG processor of Airflow 3.
        ({"state": None, **TRIES}, RUN, "is tried again"),
        ({"state": None, **LAST}, RUN, "failed"),
        ({"state": None, "try_number": 1, "max_tries": 0}, {}, "failed"),
        ({"state": None}, RUN, "failed"),
    ],
)
def test_describe_failure_of_a_callback_says_the_state_of_its_task(ti, more, end):
    """A task that did not fail blocks nothing, and no text says that it failed."""
    instance = TaskInstance()
    vars(instance).update(ti)
    upstream = {"raise_incident": [], "publish": ["raise_incident"]}
    failure = describe_failure(new_context(upstream, instance, **more), in_callback=True)
    assert failure.kind == "task"
    assert failure.summary == f"customs: raise_incident {end}"
    has_failed = end == "failed"
    assert failure.did_not_run == (("publish",) if has_failed else ())
    assert failure.state in ("success", "skipped", "running", "warned", "up_for_retry", "failed")
    assert (failure.state == "failed") is has_failed
    assert ("failed" in failure.description) is has_failed
    assert ("not_null: Got 2 results\n  unique\n" in failure.description) is ("warnings" in end)


def test_describe_failure_success_of_a_dag_is_no_failure():
    """Its context has a task instance of any task; Airflow is not asked for states, which in some processes would hang."""
    ti = TaskInstance(states={"a": "failed", "raise_incident": "success"})
    context = new_context({"a": [], "raise_incident": ["a"]}, ti, reason="success")
    failure = describe_failure(context, in_callback=True)
    assert (failure.kind, failure.state, failure.tasks) == ("run", "success", ())
    assert failure.summary == "customs: the run succeeded"
    assert "failed" not in failure.description
    assert ti.asked == []


def test_describe_failure_skipped_checks_are_counted():
    """Those of which each instance was skipped."""
    states = {"a": "skipped", "m[0]": "skipped", "m[1]": "success", "b": "success"}
    upstream = {"a": [], "m": [], "b": [], "raise_incident": ["a", "b", "m"]}
    assert describe_failure(new_context(upstream, TaskInstance(states=states))).skipped == 1
