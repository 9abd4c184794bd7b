from __future__ import annotations

import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st
from support.outbox import HOUR, MINUTE, START, BzCtrlInMemory, Killed, Killer, add, deliver_to, read, wipe

from bzctrl_provider.exceptions import BzCtrlRejectedError, BzCtrlTransportError

UNKNOWN = BzCtrlTransportError("no response", outcome_unknown=True)
NOT_SENT = BzCtrlTransportError("not connected")
REJECTED = BzCtrlRejectedError("422", status_code=422)


@pytest.fixture
def killer(store):
    return Killer(store)


def new_bzctrl(killer):
    bzctrl = BzCtrlInMemory()
    bzctrl.before = bzctrl.after = killer.step
    return bzctrl


def numbers_in(todo):
    """Return the numbers of the incidents that a todo represents."""
    if todo["title"].startswith("T"):
        return [int(todo["title"][1:4])]
    return [
        int(line.split()[1].removeprefix("dag_").rstrip(","))
        for line in todo["description"].splitlines()
        if line.startswith("- dag_")
    ]


def deliver_until_done(store, bzctrl, clock):
    """Deliver, each time after the lease of a process that has ended, until nothing waits."""
    for _ in range(5):
        clock.now += 2 * HOUR
        deliver_to(store, bzctrl)
        if not read(store, "waiting", "sending"):
            return
    raise AssertionError("something still waits")


def check_all_are_there(store, bzctrl, numbers):
    """Each incident is created or rejected, and all its todos but one say that it may be a duplicate."""
    seen, unmarked = set(), set()
    for todo in bzctrl.created:
        for number in numbers_in(todo):
            seen.add(number)
            if "had no response" not in todo["description"]:
                assert number not in unmarked, todo
                unmarked.add(number)
    titles = [one.fields["title"] for one in read(store, "rejected") if not one.is_summary]
    assert seen | {int(title[1:]) for title in titles} == set(numbers)


@pytest.mark.parametrize(("count", "above"), [(1, 0), (4, 2)], ids=["one incident", "storm"])
def test_delivery_killed_at_each_step_creates_each_once_or_marked(store, clock, killer, count, above):
    """Whichever statement, commit or request is the last: nothing is lost, and no duplicate is without its note."""
    for error in (None, NOT_SENT, UNKNOWN, REJECTED):
        step = 0
        while True:
            step += 1
            wipe(store)
            clock.now = START
            bzctrl = new_bzctrl(killer)
            add(store, *range(1, count + 1))
            bzctrl.errors = [error] if error else []
            killer.kill_at(step)
            try:
                deliver_to(store, bzctrl, group_above=above)
            except Killed:
                killer.bury()
            else:
                killer.kill_at(None)
                break
            deliver_until_done(store, bzctrl, clock)
            check_all_are_there(store, bzctrl, range(1, count + 1))
        assert step > 15


ACTIONS = st.lists(
    st.one_of(
        st.tuples(st.just("write"), st.integers(1, 60)),
        st.tuples(st.just("deliver"), st.sampled_from([None, NOT_SENT, UNKNOWN, REJECTED])),
        st.tuples(st.just("kill"), st.integers(1, 60)),
        st.tuples(st.just("suspend"), st.sampled_from([None, NOT_SENT, UNKNOWN, REJECTED])),
    ),
    max_size=12,
)


@settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(actions=ACTIONS, above=st.sampled_from([0, 2, 20]))
@example(actions=[("write", 1), ("write", 2), ("write", 3), ("suspend", REJECTED)], above=2)
def test_delivery_any_history_creates_each_once_or_marked(store, clock, killer, actions, above):
    """Writes, deliveries that fail, that are killed, or that are suspended while another one takes over, in any order."""
    killer.kill_at(None)
    wipe(store)
    clock.now = START
    bzctrl = new_bzctrl(killer)
    written = set()

    def take_over():
        bzctrl.before = killer.step
        clock.now += 2 * MINUTE
        deliver_to(store, bzctrl, group_above=above)

    for action, value in actions:
        clock.now += 2 * MINUTE
        if action == "write":
            written |= {value}
            add(store, value)
            continue
        bzctrl.errors = [value] if isinstance(value, Exception) else []
        if action == "suspend":
            bzctrl.before = take_over
        killer.kill_at(value if action == "kill" else None)
        try:
            deliver_to(store, bzctrl, group_above=above)
        except Killed:
            killer.bury()
        killer.kill_at(None)
        bzctrl.before = killer.step
    bzctrl.errors = []
    deliver_until_done(store, bzctrl, clock)
    check_all_are_there(store, bzctrl, written)
