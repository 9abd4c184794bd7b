from __future__ import annotations

import contextlib
import datetime as dt
import itertools
import json
from types import SimpleNamespace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule
from support.hostile import FORGED, RaisingInComparisons, Secretive

from bzctrl_provider.exceptions import (
    BzCtrlError,
    BzCtrlRejectedError,
    BzCtrlTransportError,
    BzCtrlValidationError,
)
from bzctrl_provider.incidents.occurrence import TryState
from bzctrl_provider.operators.memory import (
    BzCtrlOutcomeUnknownError,
    TaskStateMemory,
    VariableMemory,
    _Journal,
    create_all_once,
    create_once,
    open_memory,
    variable_name,
)

NOW = dt.datetime(2026, 11, 21, 19, 15, tzinfo=dt.UTC)
SAID_NOW = "2026-11-21 19:15:00 UTC"
FIELDS = {"title": "t", "description": "d", "order_id": "o"}
NOTE = f"An attempt at {SAID_NOW} had no response, so this may be a duplicate."
UNKNOWN = BzCtrlTransportError("no answer", outcome_unknown=True)
REFUSED = BzCtrlRejectedError("refused", status_code=400)

FIRST = TryState(generation="1", is_first=True, is_last=False)
LAST = TryState(generation="1", is_first=False, is_last=True)


class DictMemory:
    """Keeps the pages of a memory across the tries of a task."""

    def __init__(self):
        self.kept = {}

    def get(self, key):
        return json.loads(self.kept.get(key, "{}"))

    def set(self, key, value):
        self.kept[key] = json.dumps(value)


class BzCtrl:
    """Creates todos, or fails with the given errors, one for each request."""

    def __init__(self, *answers):
        self.answers = list(answers)
        self.todos = []
        self.requests = []

    def create(self, fields):
        self.requests.append(fields)
        answer = self.answers.pop(0) if self.answers else None
        if isinstance(answer, BaseException):
            raise answer
        self.todos.append(fields)
        return {"key": f"EXA-{len(self.todos):02}", "link": f"https://x/{len(self.todos)}"}

    def create_all(self, some):
        results = []
        for fields in some:
            try:
                results.append(self.create(fields))
            except BzCtrlError as exc:
                results.append(exc)
        return results


def attempt(bzctrl, memory, tries=FIRST, policy="retry", fields=FIELDS):
    return create_once(
        bzctrl.create,
        fields,
        memory=memory,
        key="todo",
        tries=tries,
        on_unknown_outcome=policy,
        now=lambda: NOW,
    )


def attempt_all(bzctrl, memory, titles, tries=FIRST, policy="retry", batch_size=2):
    return create_all_once(
        bzctrl.create_all,
        [{**FIELDS, "title": title} for title in titles],
        memory=memory,
        tries=tries,
        on_unknown_outcome=policy,
        batch_size=batch_size,
        now=lambda: NOW,
    )


def test_try_state_tries_between_two_clears_have_one_generation():
    """The generation changes with the number of tries that Airflow allows."""
    for (try_number, max_tries, retries), expected in {
        (1, 0, 0): TryState("0", is_first=True, is_last=True),
        (1, 2, 2): TryState("2", is_first=True, is_last=False),
        (2, 2, 2): TryState("2", is_first=False, is_last=False),
        (3, 2, 2): TryState("2", is_first=False, is_last=True),
        # Cleared after its third try: two more retries.
        (4, 5, 2): TryState("5", is_first=True, is_last=False),
        (6, 5, 2): TryState("5", is_first=False, is_last=True),
        # Cleared while it ran, without retries: max_tries stays, but no retry has such a number.
        (2, 0, 0): TryState("0.2", is_first=True, is_last=True),
        (None, None, None): TryState("0", is_first=True, is_last=True),
    }.items():
        task = SimpleNamespace(retries=retries)
        ti = SimpleNamespace(try_number=try_number, max_tries=max_tries, task=task)
        assert TryState.from_ti(ti) == expected


def test_create_once_later_try_returns_first_todo():
    """A task that failed after its todo was created does not create it again."""
    bzctrl, memory = BzCtrl(), DictMemory()
    first = attempt(bzctrl, memory)
    assert attempt(bzctrl, memory, LAST) == first
    assert bzctrl.requests == [FIELDS]


def test_create_once_next_try_adds_a_note_only_if_the_outcome_is_unknown():
    """After a refusal there is none; after attempts without a response, or a killed process, it has each of their times."""
    several = f"Attempts at {SAID_NOW}, {SAID_NOW} had no response, so this may be a duplicate."
    for answers, note in [
        ([REFUSED], None),
        ([UNKNOWN], NOTE),
        ([SystemExit()], NOTE),
        ([UNKNOWN, SystemExit()], several),
    ]:
        bzctrl, memory = BzCtrl(*answers), DictMemory()
        for error in answers:
            with pytest.raises(type(error)):
                attempt(bzctrl, memory)
        attempt(bzctrl, memory, LAST)
        assert bzctrl.todos == [{**FIELDS, "description": f"d\n\n{note}"} if note else FIELDS]
    # A todo without a description is invalid, and the client says so.
    bzctrl = BzCtrl(UNKNOWN)
    attempt(bzctrl, DictMemory(), LAST, fields={"title": "t"})
    assert bzctrl.todos == [{"title": "t"}]


def test_create_once_unknown_outcome_on_last_try_sends_a_second_request():
    """No later try would; if the second request has no response either, the task fails."""
    bzctrl = BzCtrl(UNKNOWN)
    attempt(bzctrl, DictMemory(), LAST)
    assert bzctrl.todos[0]["description"].endswith(NOTE)
    bzctrl = BzCtrl(UNKNOWN, UNKNOWN)
    with pytest.raises(BzCtrlTransportError):
        attempt(bzctrl, DictMemory(), LAST)
    assert len(bzctrl.requests) == 2


def test_create_once_policy_fail_sends_one_request():
    """No other request follows in the same or a later try, and the error says which todo to look for."""
    for answer, tries in itertools.product([UNKNOWN, SystemExit()], [FIRST, LAST]):
        bzctrl, memory = BzCtrl(answer), DictMemory()
        with pytest.raises((BzCtrlOutcomeUnknownError, SystemExit)):
            attempt(bzctrl, memory, tries, policy="fail")
        with pytest.raises(BzCtrlOutcomeUnknownError, match="title 't' and the order id 'o'") as caught:
            attempt(bzctrl, memory, LAST, policy="fail")
        assert caught.value.outcome_unknown
        assert len(bzctrl.requests) == 1


class BrokenMemory:
    def get(self, key):
        raise ConnectionError("Airflow's API is gone")

    def set(self, key, value):
        raise ConnectionError("Airflow's API is gone")


def test_create_once_broken_memory_creates_on_first_try_only(caplog):
    """The first try creates the todo with a warning; a later one fails, because it could be a second one."""
    bzctrl = BzCtrl()
    assert attempt(bzctrl, BrokenMemory())["key"] == "EXA-01"
    assert "may create a duplicate" in caplog.text
    with pytest.raises(ConnectionError):
        attempt(bzctrl, BrokenMemory(), LAST)
    assert len(bzctrl.todos) == 1


# --- many ------------------------------------------------------------------------------------------------------------


def titles(bzctrl):
    return [todo["title"] for todo in bzctrl.todos]


def test_create_all_once_later_try_creates_only_the_missing():
    """The results are in the order of the list, and have the todos of the earlier try."""
    bzctrl, memory = BzCtrl(None, REFUSED, None, UNKNOWN), DictMemory()
    first = attempt_all(bzctrl, memory, "abcde")
    assert [type(result) for result in first] == [dict, BzCtrlRejectedError, dict, BzCtrlTransportError, dict]
    second = attempt_all(bzctrl, memory, "abcde", LAST)
    assert titles(bzctrl) == ["a", "c", "e", "b", "d"]
    assert [result["key"] for result in second] == ["EXA-01", "EXA-04", "EXA-02", "EXA-05", "EXA-03"]
    assert [todo["description"].endswith(NOTE) for todo in bzctrl.todos] == [False, False, False, False, True]


def test_create_all_once_changed_list_creates_what_is_new():
    """By content, also at other positions and in other batches; todos with the same content are counted."""
    for before, after, created in [
        ("aaa", "aaa", "aaa"),
        ("ab", "ax", "abx"),
        ("12345", "23456", "123456"),
    ]:
        bzctrl, memory = BzCtrl(), DictMemory()
        first = attempt_all(bzctrl, memory, before)
        second = attempt_all(bzctrl, memory, after, LAST)
        assert titles(bzctrl) == list(created)
    assert [result["key"] for result in second[:4]] == [result["key"] for result in first[1:]]


@settings(max_examples=200, deadline=None)
@given(
    lists=st.lists(st.lists(st.sampled_from("abc"), max_size=8), min_size=1, max_size=4),
    batch_size=st.integers(1, 4),
)
def test_create_all_once_any_order_creates_each_occurrence_once(lists, batch_size):
    """After several tries with other lists, there are as many todos of a content as the longest list had."""
    bzctrl, memory = BzCtrl(), DictMemory()
    for contents in lists:
        results = attempt_all(bzctrl, memory, contents, batch_size=batch_size)
        assert len(results) == len(contents)
    for title in "abc":
        assert titles(bzctrl).count(title) == max(contents.count(title) for contents in lists)


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(max_size=5),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(
            st.sampled_from(["page", "todos", "todo", "pending", "intent", "created", "unanswered", "x"]),
            inner,
            max_size=4,
        )
    ),
    max_leaves=12,
)


@settings(max_examples=300, deadline=None)
@given(page=JSON, first=st.booleans())
def test_create_once_any_json_in_memory_creates_or_reuses(page, first):
    """Others can write Variables: whatever is there, the todo is created or reused, and nothing raises an own error."""

    class Odd(DictMemory):
        def get(self, key):
            return self.kept.get(key, page)

    memory = Odd()
    result = attempt(BzCtrl(), memory, FIRST if first else LAST)
    assert isinstance(result, dict)


def test_variable_memory_odd_json_can_be_read_and_replaced(variables):
    """Content of another form counts as none, and the next write replaces it."""
    for text in ["", "x", "[1]", '{"run": 5}', '{"run": {"todo": 5}}', "[" * 100_000, '"x"', None]:
        variables["name"] = text
        memory = VariableMemory("name", "run")
        assert memory.get("todo") == {}
        memory.set("todo", {"a": 1})
        assert memory.get("todo") == {"a": 1}


def test_create_all_once_killed_batch_gets_notes():
    """Earlier batches are remembered, its own todos have the note, and later ones are created without it."""
    bzctrl, memory = BzCtrl(None, None, None, SystemExit()), DictMemory()
    with pytest.raises(SystemExit):
        attempt_all(bzctrl, memory, "abcdef")
    attempt_all(bzctrl, memory, "abcdef", LAST)
    assert titles(bzctrl) == ["a", "b", "c", "c", "d", "e", "f"]
    assert [todo["title"] for todo in bzctrl.todos if NOTE in todo["description"]] == ["c", "d"]


def test_create_all_once_last_try_repeats_only_the_unanswered():
    """A refused todo is not sent again."""
    bzctrl = BzCtrl(UNKNOWN, REFUSED)
    results = attempt_all(bzctrl, DictMemory(), "ab", LAST)
    assert titles(bzctrl) == ["a"]
    assert isinstance(results[1], BzCtrlRejectedError)
    assert len(bzctrl.requests) == 3


def test_create_all_once_policy_fail_sends_each_once():
    """The error of each names the todo to look for."""
    bzctrl, memory = BzCtrl(UNKNOWN), DictMemory()
    attempt_all(bzctrl, memory, "ab", policy="fail")
    (error, created) = attempt_all(bzctrl, memory, "ab", LAST, policy="fail")
    assert isinstance(error, BzCtrlOutcomeUnknownError)
    assert created["key"] == "EXA-01"
    assert len(bzctrl.requests) == 2


# --- where it is kept ------------------------------------------------------------------------------------------------


def test_task_state_memory_other_generation_finds_nothing():
    """The store keeps its content over a clear, and the records from before the clear are not found."""
    store = {}
    accessor = SimpleNamespace(get=store.get, set=store.__setitem__)
    TaskStateMemory(accessor, "0").set("todo", {"created": 1})
    assert TaskStateMemory(accessor, "0").get("todo") == {"created": 1}
    assert TaskStateMemory(accessor, "1").get("todo") == {}


def test_variable_memory_50_runs_keeps_the_last_20(variables):
    """The Variable does not grow with the runs, and the generation in use is never the one that is dropped."""
    for run in range(50):
        memory = VariableMemory("name", f"run {run}")
        memory.set("todo", {"intent": run})
        memory.set("other", {"created": run})
    kept = json.loads(variables["name"])
    assert list(kept) == [f"run {run}" for run in range(30, 50)]
    assert VariableMemory("name", "run 49").get("todo") == {"intent": 49}
    assert VariableMemory("name", "run 1").get("todo") == {}


def test_variable_name_any_ids_is_short_and_unique():
    """At most the 250 characters that Airflow allows, whatever the ids are."""
    assert variable_name("memory", "dag", "task", "3").startswith("bzctrl__memory__dag__task__3__")
    assert variable_name("memory", "a__b", "c") != variable_name("memory", "a", "b__c")
    assert variable_name("memory", "d", "t", "3") != variable_name("memory", "d", "t__3")
    long = [variable_name("memory", "d" * 250, "t" * 250, str(index)) for index in range(3)]
    assert len(set(long)) == 3
    assert max(map(len, long)) <= 250


def test_open_memory_each_airflow_version_has_its_own(set_airflow_version, variables):
    """The state store if there is one, a Variable on older versions, and none outside Airflow."""
    set_airflow_version(3, 2)
    ti = SimpleNamespace(dag_id="d", task_id="t", run_id="r", map_index=2, try_number=1, max_tries=0)
    assert isinstance(open_memory({"ti": ti, "task_state_store": {}}), TaskStateMemory)
    memory = open_memory({"ti": ti})
    memory.set("todo", {"created": 1})
    kept = json.loads(variables[variable_name("memory", "d", "t", "2")])
    assert dt.datetime.fromisoformat(kept["r 0"].pop("written_at")).tzinfo
    assert kept == {"r 0": {"todo": {"created": 1}}}
    assert open_memory({"ti": SimpleNamespace()}) is None
    ti.map_index = -1
    open_memory({"ti": ti}).set("x", {})
    assert variable_name("memory", "d", "t") in variables
    set_airflow_version(3, 3)
    assert open_memory({"ti": ti}) is None


# --- any course of events --------------------------------------------------------------------------------------------


class Crash(BaseException):
    """The process is killed."""


class CrashingMemory(DictMemory):
    """A memory that raises before or after the chosen write."""

    crash_at: int | None = None
    writes = 0

    def set(self, key, value):
        self.writes += 1
        if self.crash_at == 2 * self.writes - 1:
            raise Crash
        super().set(key, value)
        if self.crash_at == 2 * self.writes:
            raise Crash


FAULTS = ["fine", "refused", "unknown, created", "unknown, not created", "crash before", "crash after"]


class AnyCourseOfEvents(RuleBasedStateMachine):
    """Tries, crashes at every step, clears and faults, in any order."""

    @initialize(policy=st.sampled_from(["retry", "fail"]))
    def begin(self, policy):
        self.policy = policy
        self.memory = CrashingMemory()
        self.todos = []
        self.open = 0  # how many requests of this generation have no result in the memory
        self.created = None
        self.certain_start = 0

    def create(self, fields):
        fault = self.fault
        self.sent += 1
        if fault == "refused":
            raise BzCtrlValidationError("refused", [("title", "is wrong")])
        if fault == "unknown, not created":
            raise UNKNOWN
        if fault == "crash before":
            raise Crash
        self.todos.append(fields)
        if fault == "unknown, created":
            raise UNKNOWN
        if fault == "crash after":
            raise Crash
        return {"key": f"EXA-{len(self.todos)}", "link": None}

    @rule(fault=st.sampled_from(FAULTS), crash_at=st.integers(1, 8) | st.none(), is_last=st.booleans())
    def try_once(self, fault, crash_at, is_last):
        self.fault, self.sent = fault, 0
        self.memory.crash_at, self.memory.writes = crash_at, 0
        before, had = len(self.todos), self.created
        tries = TryState("g", is_first=False, is_last=is_last)
        try:
            result = attempt(self, self.memory, tries, self.policy)
        except BzCtrlOutcomeUnknownError:
            assert self.policy == "fail"
            assert self.open or self.sent, "no task fails for an attempt that was not made"
        except (Crash, BzCtrlError):
            pass
        else:
            assert len(self.todos) >= 1
            if had:
                assert result == had, "a later try gives the first todo"
                assert self.sent == 0
            self.created = result
        made = self.todos[before:]
        for todo in made[1:] if self.open == 0 else made:
            assert "may be a duplicate" in todo["description"], "never a duplicate in silence"
        if self.policy == "fail":
            assert len(self.todos) - self.certain_start <= 1, "with fail never more than one"
        # The next try may know only what the memory has now.
        journal = _Journal(self.memory, "todo", tries, "retry", None)
        self.open = len(journal.get_unanswered("todo"))
        with contextlib.suppress(KeyError):
            self.created = journal.get_result("todo")

    @rule()
    def clear(self):
        self.memory = CrashingMemory()
        self.open, self.created, self.certain_start = 0, None, len(self.todos)

    @invariant()
    def nothing_is_forgotten(self):
        """A todo that was created and is not remembered as created left at least the trace of an attempt."""
        if getattr(self, "memory", None) and len(self.todos) > self.certain_start and not self.created:
            assert self.open, "a todo was made, and the memory knows of no attempt"


TestAnyCourseOfEvents = AnyCourseOfEvents.TestCase
TestAnyCourseOfEvents.settings = settings(max_examples=300, stateful_step_count=12, deadline=None)


@pytest.mark.security
def test_create_once_hostile_title_is_one_short_line():
    """Title and order id are data, of any length."""

    def no_answer(_):
        raise BzCtrlTransportError("no answer", outcome_unknown=True)

    memory = SimpleNamespace(get=lambda _: {}, set=lambda *_: None)
    with pytest.raises(BzCtrlOutcomeUnknownError) as caught:
        create_once(
            no_answer,
            {"title": f"t{FORGED}" + "x" * 1_000_000, "order_id": Secretive()},
            memory=memory,
            key="k",
            tries=TryState("1", is_first=True, is_last=True),
            on_unknown_outcome="fail",
        )
    assert str(caught.value).isprintable()
    assert len(str(caught.value)) < 1000
    assert "hunter2" not in str(caught.value)


@pytest.mark.security
def test_create_all_once_todo_without_identity_is_tried():
    """Keys of several kinds, an object that raises, a list in itself: BzCtrl's client says what is wrong with them."""
    itself = []
    itself.append(itself)
    todos = [{5: "x", "title": "t"}, {"title": RaisingInComparisons()}, {"category": itself}]
    refused = BzCtrlValidationError("refused", [])
    tried = []
    results = create_all_once(
        lambda some: tried.extend(some) or [refused] * len(some),
        todos,
        memory=SimpleNamespace(get=lambda _: {}, set=lambda *_: None),
        tries=TryState("1", is_first=True, is_last=True),
        on_unknown_outcome="retry",
        batch_size=10,
    )
    assert results == [refused] * 3
    assert len(tried) == 3
