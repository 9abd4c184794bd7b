from __future__ import annotations

import datetime as dt
import itertools
import json
from types import SimpleNamespace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule
from support.hostile import FORGED, RaisingInComparisons, Secretive

from bzctrl_provider.client.todo import CreatedTodo
from bzctrl_provider.exceptions import (
    BzCtrlError,
    BzCtrlRejectedError,
    BzCtrlTransportError,
    BzCtrlValidationError,
)
from bzctrl_provider.incidents.occurrence import TryState
from bzctrl_provider.operators.memory import (
    BzCtrlOutcomeUnknownError,
    Journal,
    VariableStore,
    name_variable,
    open_journal,
)

NOW = dt.datetime(2026, 11, 21, 19, 15, tzinfo=dt.UTC)
SAID_NOW = "2026-11-21 19:15:00 UTC"
FIELDS = {"title": "t", "description": "d", "order_id": "o"}
NOTE = f"An attempt at {SAID_NOW} had no response, so this may be a duplicate."
UNKNOWN = BzCtrlTransportError("no answer", outcome_unknown=True)
REFUSED = BzCtrlRejectedError("refused", status_code=400)

FIRST = TryState(generation="1", is_first=True, is_last=False)
LAST = TryState(generation="1", is_first=False, is_last=True)


def new_todo(key):
    return CreatedTodo(key=key, link=None, title="t", todo_type="TASK", description="d", tags=[])


class DictStore:
    """Keeps the pages of a journal across the tries of a task."""

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
        return new_todo(f"EXA-{len(self.todos):02}")

    def create_all(self, some):
        results = []
        for fields in some:
            try:
                results.append(self.create(fields))
            except BzCtrlError as exc:
                results.append(exc)
        return results


def attempt(bzctrl, store, tries=FIRST, policy="retry", fields=FIELDS):
    return Journal(store, tries, policy, now=lambda: NOW).create_one(bzctrl.create, fields)


def attempt_all(bzctrl, store, titles, tries=FIRST, policy="retry", batch_size=2):
    todos = [{**FIELDS, "title": title} for title in titles]
    journal = Journal(store, tries, policy, now=lambda: NOW)
    return journal.create_many(bzctrl.create_all, todos, batch_size=batch_size)


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


def test_create_one_later_try_returns_first_todo():
    """A task that failed after its todo was created does not create it again."""
    bzctrl, store = BzCtrl(), DictStore()
    first = attempt(bzctrl, store)
    assert attempt(bzctrl, store, LAST) == first
    assert bzctrl.requests == [FIELDS]


def test_create_one_next_try_adds_a_note_only_if_the_outcome_is_unknown():
    """After a refusal there is none; after attempts without a response, or a killed process, it has each of their times."""
    several = f"Attempts at {SAID_NOW}, {SAID_NOW} had no response, so this may be a duplicate."
    for answers, note in [
        ([REFUSED], None),
        ([UNKNOWN], NOTE),
        ([SystemExit()], NOTE),
        ([UNKNOWN, SystemExit()], several),
    ]:
        bzctrl, store = BzCtrl(*answers), DictStore()
        for error in answers:
            with pytest.raises(type(error)):
                attempt(bzctrl, store)
        attempt(bzctrl, store, LAST)
        assert bzctrl.todos == [{**FIELDS, "description": f"d\n\n{note}"} if note else FIELDS]
    # A todo without a description is invalid, and the client says so.
    bzctrl = BzCtrl(UNKNOWN)
    attempt(bzctrl, DictStore(), LAST, fields={"title": "t"})
    assert bzctrl.todos == [{"title": "t"}]


def test_create_one_unknown_outcome_on_last_try_sends_a_second_request():
    """No later try would; if the second request has no response either, the task fails."""
    bzctrl = BzCtrl(UNKNOWN)
    attempt(bzctrl, DictStore(), LAST)
    assert bzctrl.todos[0]["description"].endswith(NOTE)
    bzctrl = BzCtrl(UNKNOWN, UNKNOWN)
    with pytest.raises(BzCtrlTransportError):
        attempt(bzctrl, DictStore(), LAST)
    assert len(bzctrl.requests) == 2


def test_create_one_policy_fail_sends_one_request():
    """No other request follows in the same or a later try, and the error says which todo to look for."""
    for answer, tries in itertools.product([UNKNOWN, SystemExit()], [FIRST, LAST]):
        bzctrl, store = BzCtrl(answer), DictStore()
        with pytest.raises((BzCtrlOutcomeUnknownError, SystemExit)):
            attempt(bzctrl, store, tries, policy="fail")
        with pytest.raises(BzCtrlOutcomeUnknownError, match="title 't' and the order id 'o'") as caught:
            attempt(bzctrl, store, LAST, policy="fail")
        assert caught.value.outcome_unknown
        assert len(bzctrl.requests) == 1


class BrokenStore:
    def get(self, key):
        raise ConnectionError("Airflow's API is gone")

    def set(self, key, value):
        raise ConnectionError("Airflow's API is gone")


def test_create_one_broken_memory_creates_on_first_try_only(caplog):
    """The first try creates the todo with a warning; a later one fails, because it could be a second one."""
    bzctrl = BzCtrl()
    assert attempt(bzctrl, BrokenStore())["key"] == "EXA-01"
    assert "may create a duplicate" in caplog.text
    with pytest.raises(ConnectionError):
        attempt(bzctrl, BrokenStore(), LAST)
    assert len(bzctrl.todos) == 1


# --- many ------------------------------------------------------------------------------------------------------------


def titles(bzctrl):
    return [todo["title"] for todo in bzctrl.todos]


def test_create_many_later_try_creates_only_the_missing():
    """The results are in the order of the list, and have the todos of the earlier try."""
    bzctrl, store = BzCtrl(None, REFUSED, None, UNKNOWN), DictStore()
    first = attempt_all(bzctrl, store, "abcde")
    assert [type(result) for result in first] == [dict, BzCtrlRejectedError, dict, BzCtrlTransportError, dict]
    second = attempt_all(bzctrl, store, "abcde", LAST)
    assert titles(bzctrl) == ["a", "c", "e", "b", "d"]
    assert [result["key"] for result in second] == ["EXA-01", "EXA-04", "EXA-02", "EXA-05", "EXA-03"]
    assert [todo["description"].endswith(NOTE) for todo in bzctrl.todos] == [False, False, False, False, True]


def test_create_many_changed_list_creates_what_is_new():
    """By content, also at other positions and in other batches; todos with the same content are counted."""
    for before, after, created in [
        ("aaa", "aaa", "aaa"),
        ("ab", "ax", "abx"),
        ("12345", "23456", "123456"),
    ]:
        bzctrl, store = BzCtrl(), DictStore()
        first = attempt_all(bzctrl, store, before)
        second = attempt_all(bzctrl, store, after, LAST)
        assert titles(bzctrl) == list(created)
    assert [result["key"] for result in second[:4]] == [result["key"] for result in first[1:]]


@settings(max_examples=200, deadline=None)
@given(
    lists=st.lists(st.lists(st.sampled_from("abc"), max_size=8), min_size=1, max_size=4),
    batch_size=st.integers(1, 4),
)
def test_create_many_any_order_creates_each_occurrence_once(lists, batch_size):
    """After several tries with other lists, there are as many todos of a content as the longest list had."""
    bzctrl, store = BzCtrl(), DictStore()
    for contents in lists:
        results = attempt_all(bzctrl, store, contents, batch_size=batch_size)
        assert len(results) == len(contents)
    for title in "abc":
        assert titles(bzctrl).count(title) == max(contents.count(title) for contents in lists)


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(max_size=5),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(
            st.sampled_from(["todo", "key", "x"]),
            inner,
            max_size=4,
        )
    ),
    max_leaves=12,
)


@settings(max_examples=300, deadline=None)
@given(page=JSON, first=st.booleans())
def test_create_one_any_json_in_memory_creates_or_reuses(page, first):
    """Others can write Variables: whatever is there, the todo is created or reused, and nothing raises an own error."""

    class Odd(DictStore):
        def get(self, key):
            return page if key == "bzctrl.1.0" else super().get(key)

    result = attempt(BzCtrl(), Odd(), FIRST if first else LAST)
    assert isinstance(result, dict)


def test_variable_store_odd_json_can_be_read_and_replaced(variables):
    """Content of another form counts as none, and the next write replaces it."""
    for text in ["", "x", "[1]", '{"run": 5}', "[" * 100_000, '"x"', None]:
        variables["name"] = text
        store = VariableStore("name", "run")
        assert store.get("todo") is None
        store.set("todo", {"a": 1})
        assert store.get("todo") == {"a": 1}


def test_create_many_killed_batch_gets_notes():
    """Earlier batches are remembered, its own todos have the note, and later ones are created without it."""
    bzctrl, store = BzCtrl(None, None, None, SystemExit()), DictStore()
    with pytest.raises(SystemExit):
        attempt_all(bzctrl, store, "abcdef")
    attempt_all(bzctrl, store, "abcdef", LAST)
    assert titles(bzctrl) == ["a", "b", "c", "c", "d", "e", "f"]
    assert [todo["title"] for todo in bzctrl.todos if NOTE in todo["description"]] == ["c", "d"]


def test_create_many_last_try_repeats_only_the_unanswered():
    """A refused todo is not sent again."""
    bzctrl = BzCtrl(UNKNOWN, REFUSED)
    results = attempt_all(bzctrl, DictStore(), "ab", LAST)
    assert titles(bzctrl) == ["a"]
    assert isinstance(results[1], BzCtrlRejectedError)
    assert len(bzctrl.requests) == 3


def test_create_many_policy_fail_sends_each_once():
    """The error of each names the todo to look for."""
    bzctrl, store = BzCtrl(UNKNOWN), DictStore()
    attempt_all(bzctrl, store, "ab", policy="fail")
    (error, created) = attempt_all(bzctrl, store, "ab", LAST, policy="fail")
    assert isinstance(error, BzCtrlOutcomeUnknownError)
    assert created["key"] == "EXA-01"
    assert len(bzctrl.requests) == 2


# --- where it is kept ------------------------------------------------------------------------------------------------


def test_journal_other_generation_finds_nothing():
    """The store keeps its content over a clear, and the records from before the clear are not found."""
    bzctrl, store = BzCtrl(), DictStore()
    for generation in "0011":
        attempt(bzctrl, store, TryState(generation, is_first=False, is_last=False))
    assert len(bzctrl.todos) == 2


def test_variable_store_50_runs_keeps_the_last_20(variables):
    """The Variable does not grow with the runs, and the entry in use is never the one that is dropped."""
    for run in range(50):
        store = VariableStore("name", f"run {run}")
        store.set("todo", {"run": run})
        store.set("other", {"run": run})
    kept = json.loads(variables["name"])
    assert list(kept) == [f"run {run}" for run in range(30, 50)]
    assert VariableStore("name", "run 49").get("todo") == {"run": 49}
    assert VariableStore("name", "run 1").get("todo") is None


def test_name_variable_any_ids_is_short_and_unique():
    """At most the 250 characters that Airflow allows, whatever the ids are."""
    assert name_variable("dag", "task", "3").startswith("bzctrl__memory__dag__task__3__")
    assert name_variable("a__b", "c", "3") != name_variable("a", "b__c", "3")
    long = [name_variable("d" * 250, "t" * 250, str(index)) for index in range(3)]
    assert len(set(long)) == 3
    assert max(map(len, long)) <= 250


def test_open_journal_each_airflow_version_has_its_own_store(set_airflow_version, variables):
    """The state store from 3.3 on, a Variable on older versions, and none outside Airflow."""
    ti = SimpleNamespace(dag_id="d", task_id="t", run_id="r", map_index=2)
    set_airflow_version(3, 2)
    open_journal({"ti": ti}, "retry").store.set("todo", {"created": 1})
    assert json.loads(variables[name_variable("d", "t", "2")]) == {"r": {"todo": {"created": 1}}}
    assert open_journal({"ti": SimpleNamespace()}, "retry").store is None
    set_airflow_version(3, 3)
    state_store = DictStore()
    assert open_journal({"ti": ti, "task_state_store": state_store}, "retry").store is state_store
    assert open_journal({"ti": ti}, "retry").store is None


# --- any course of events --------------------------------------------------------------------------------------------


class Crash(BaseException):
    """The process is killed."""


class CrashingStore(DictStore):
    """A store that raises before or after the chosen write."""

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
        self.store = CrashingStore()
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
        return new_todo(f"EXA-{len(self.todos)}")

    @rule(fault=st.sampled_from(FAULTS), crash_at=st.integers(1, 8) | st.none(), is_last=st.booleans())
    def try_once(self, fault, crash_at, is_last):
        self.fault, self.sent = fault, 0
        self.store.crash_at, self.store.writes = crash_at, 0
        before, had = len(self.todos), self.created
        tries = TryState("g", is_first=False, is_last=is_last)
        try:
            result = attempt(self, self.store, tries, self.policy)
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
        journal = Journal(self.store, tries, "retry")
        self.open = len(journal.unanswered["todo"])
        self.created = journal.created.get("todo")

    @rule()
    def clear(self):
        self.store = CrashingStore()
        self.open, self.created, self.certain_start = 0, None, len(self.todos)

    @invariant()
    def nothing_is_forgotten(self):
        """A todo that was created and is not remembered as created left at least the trace of an attempt."""
        if getattr(self, "store", None) and len(self.todos) > self.certain_start and not self.created:
            assert self.open, "a todo was made, and the memory knows of no attempt"


TestAnyCourseOfEvents = AnyCourseOfEvents.TestCase
TestAnyCourseOfEvents.settings = settings(max_examples=300, stateful_step_count=12, deadline=None)


@pytest.mark.security
def test_create_one_hostile_title_is_one_short_line():
    """Title and order id are data, of any length."""

    def no_answer(_):
        raise BzCtrlTransportError("no answer", outcome_unknown=True)

    journal = Journal(DictStore(), TryState("1", is_first=True, is_last=True), "fail")
    with pytest.raises(BzCtrlOutcomeUnknownError) as caught:
        journal.create_one(no_answer, {"title": f"t{FORGED}" + "x" * 1_000_000, "order_id": Secretive()})
    assert str(caught.value).isprintable()
    assert len(str(caught.value)) < 1000
    assert "hunter2" not in str(caught.value)


@pytest.mark.security
def test_create_many_todo_without_identity_is_tried():
    """Keys of several kinds, an object that raises, a list in itself: BzCtrl's client says what is wrong with them."""
    itself = []
    itself.append(itself)
    todos = [{5: "x", "title": "t"}, {"title": RaisingInComparisons()}, {"category": itself}]
    refused = BzCtrlValidationError("refused", [])
    tried = []
    journal = Journal(DictStore(), TryState("1", is_first=True, is_last=True), "retry")
    results = journal.create_many(
        lambda some: tried.extend(some) or [refused] * len(some), todos, batch_size=10
    )
    assert results == [refused] * 3
    assert len(tried) == 3
