"""The plan of faults: which request gets which fault."""

from __future__ import annotations

from typing import Any

import pytest

from bzctrl_provider.sandbox.controls import SandboxControls
from bzctrl_provider.sandbox.faults import NAMES, Fault, FaultPlan
from bzctrl_provider.sandbox.state import State, TodoStore, TokenStore


@pytest.fixture
def plan() -> FaultPlan:
    return FaultPlan()


@pytest.fixture
def controls(plan: FaultPlan) -> SandboxControls:
    return SandboxControls(State(todos=TodoStore(), tokens=TokenStore(lifetime_s=1)), plan)


def taken(plan: FaultPlan, kind: Any = "create") -> str | None:
    fault = plan.take(kind)
    return None if fault is None else fault.name


def test_fail_next_called_twice_injects_in_order(plan: FaultPlan, controls: SandboxControls) -> None:
    """Faults happen in the order they were asked for, as often as asked for, and then no more."""
    controls.fail_next(503, times=2)
    controls.fail_next("reset_after")
    assert [taken(plan) for _ in range(4)] == ["503", "503", "reset_after", None]


def test_fail_next_beyond_the_limit_names_what_is_left(plan: FaultPlan, controls: SandboxControls) -> None:
    """No more than 10,000 faults wait at a time, and the error names how many are allowed and the remedy."""
    controls.fail_next(503, times=9_999)
    with pytest.raises(
        ValueError, match=r"times must be at most 1, not 2: 9,999 faults wait already.*clear_faults"
    ):
        controls.fail_next(500, times=2)
    controls.fail_next(500)
    assert [taken(plan) for _ in range(10_001)] == ["503"] * 9_999 + ["500", None]


def test_take_of_another_kind_leaves_the_fault_in_the_queue(
    plan: FaultPlan, controls: SandboxControls
) -> None:
    """A fault for token requests lets create requests pass, and "any" takes whichever comes."""
    controls.fail_next(401, on="token")
    controls.fail_next(500, on="any")
    assert [taken(plan), taken(plan), taken(plan, "token")] == ["500", None, "401"]


def test_give_back_of_a_queued_fault_puts_it_first(plan: FaultPlan, controls: SandboxControls) -> None:
    """A fault whose request was refused happens to the next one, before the others."""
    controls.fail_next("reset_after")
    controls.fail_next(503)
    fault = plan.take("create")
    assert fault is not None
    plan.give_back(fault)
    assert [taken(plan), taken(plan)] == ["reset_after", "503"]


def test_give_back_of_a_random_fault_drops_it(plan: FaultPlan, controls: SandboxControls) -> None:
    """Chance has no queue to give a fault back to."""
    controls.fail_randomly(1, faults=["reset_after"])
    fault = plan.take("create")
    assert fault is not None
    controls.fail_randomly(1, faults=["reset_after"])
    plan.give_back(plan.take("create") or fault)
    controls.fail_randomly(0)
    assert taken(plan) is None


def test_fail_randomly_with_the_same_seed_repeats_itself(plan: FaultPlan, controls: SandboxControls) -> None:
    """The same seed gives the same failures, another seed others, and about as many as asked for."""
    runs = []
    for seed in (7, 7, 8):
        controls.fail_randomly(0.3, faults=[500, "reset_before"], seed=seed)
        runs.append([taken(plan) for _ in range(500)])
    assert runs[0] == runs[1] != runs[2]
    assert 100 < sum(name is not None for name in runs[0]) < 200
    assert set(runs[0]) == {None, "500", "reset_before"}


def test_take_with_both_kinds_prefers_the_queue(plan: FaultPlan, controls: SandboxControls) -> None:
    """A queue is played first even while chance is at work, and clearing ends both."""
    controls.fail_randomly(1, faults=[500], on="any", retry_after_s=1)
    controls.fail_next(429)
    assert [taken(plan), taken(plan), taken(plan, "token")] == ["429", "500", "500"]
    controls.fail_next(429)
    controls.clear_faults()
    assert taken(plan) is None


def test_fail_randomly_by_default_spares_token_requests(plan: FaultPlan, controls: SandboxControls) -> None:
    """Random faults happen only to create requests by default."""
    controls.fail_randomly(1)
    assert taken(plan, "token") is None


@pytest.mark.parametrize("name", NAMES)
def test_fault_of_each_name_is_accepted(name: Any) -> None:
    """Every named fault can be asked for, with a delay."""
    assert Fault(name, delay_s=0.1, on="any").name == name


@pytest.mark.parametrize(
    ("fault", "takes_effect"),
    [
        (Fault("reset_after"), True),
        (Fault("cut"), True),
        (Fault("slow", delay_s=1), True),
        (Fault("reset_before"), False),
        (Fault("html"), False),
        (Fault(500), False),
        (Fault(500, after_creation=True), True),
        (Fault("empty", after_creation=True), True),
    ],
)
def test_takes_effect_of_each_fault_is_whether_the_todo_is_created(fault: Fault, takes_effect: bool) -> None:
    """Each fault says whether the request does its work all the same."""
    assert fault.takes_effect is takes_effect


@pytest.mark.parametrize(
    ("arguments", "messages"),
    [
        ({"fault": "restart"}, ["300 to 599", *NAMES]),
        ({"fault": 200}, ["300 to 599"]),
        ({"fault": True}, ["300 to 599"]),
        ({"fault": 503.5}, ["300 to 599"]),
        ({"fault": None}, ["300 to 599"]),
        ({"fault": 503, "on": "update"}, ["create, token, any"]),
        ({"fault": 503, "on": []}, ["create, token, any"]),
        ({"fault": 503, "retry_after_s": -1}, ["retry_after_s"]),
        ({"fault": 503, "retry_after_s": 1.5}, ["whole seconds"]),
        ({"fault": "html", "retry_after_s": 1}, ["goes with an HTTP status"]),
        ({"fault": 503, "retry_after_as_date": True}, ["needs retry_after_s"]),
        ({"fault": 503, "retry_after_s": 1, "retry_after_as_date": "yes"}, ["true or false"]),
        ({"fault": "slow"}, ["needs delay_s"]),
        ({"fault": 503, "delay_s": -0.1}, ["delay_s"]),
        ({"fault": 503, "delay_s": float("inf")}, ["delay_s"]),
        ({"fault": 503, "delay_s": "1"}, ["delay_s"]),
        ({"fault": 503, "location": "/x"}, ["300 to 399"]),
        ({"fault": 302, "location": "/x\r\nSet-Cookie: a"}, ["printable ASCII"]),
        ({"fault": 302, "location": 1}, ["printable ASCII"]),
        ({"fault": 404, "after_creation": True}, ["500 to 599"]),
        ({"fault": "reset_before", "after_creation": True}, ["500 to 599"]),
        ({"fault": 503, "after_creation": 1}, ["true or false"]),
        ({"fault": 503, "times": 0}, ["times must be a whole number from 1 to 10,000, not 0"]),
        ({"fault": 503, "times": 10_001}, ["from 1 to 10,000, not 10001"]),
        ({"fault": 503, "times": 10**5000}, ["from 1 to 10,000, not a number of 16,610 bits"]),
        ({"fault": 503, "retry_after_s": 10**10}, ["from 0 to 1,000,000,000"]),
        ({"fault": 503, "delay_s": 86_401}, ["from 0 to 86,400"]),
        ({"fault": 503, "delay_s": 10**400}, ["from 0 to 86,400"]),
        ({"fault": "x" * 1000}, ["'xxx", "…"]),
        ({"fault": 503, "times": True}, ["times"]),
        ({"fault": "x", "on": "y", "delay_s": -1}, ["fault must", "on must", "delay_s must"]),
    ],
)
def test_fail_next_with_invalid_arguments_names_them_all(
    controls: SandboxControls, plan: FaultPlan, arguments: dict[str, Any], messages: list[str]
) -> None:
    """Every argument that does not fit is named in one error, and nothing is queued."""
    with pytest.raises(ValueError) as caught:
        controls.fail_next(**arguments)
    assert all(message in str(caught.value) for message in messages)
    assert taken(plan) is None


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"rate": 1.1}, "rate"),
        ({"rate": float("nan")}, "rate"),
        ({"rate": "1"}, "rate"),
        ({"rate": 1, "faults": []}, "at least one"),
        ({"rate": 1, "faults": "cut"}, "must be a list"),
        ({"rate": 1, "faults": 503}, "must be a list"),
        ({"rate": 1, "faults": ["slow"]}, "needs delay_s"),
        ({"rate": 1, "seed": "x"}, "seed"),
        ({"rate": 1, "faults": [500] * 101}, "at most 100 items, not 101"),
    ],
)
def test_fail_randomly_with_invalid_arguments_names_them(
    controls: SandboxControls, arguments: dict[str, Any], message: str
) -> None:
    """Random failures are checked as strictly as ordered ones."""
    with pytest.raises(ValueError, match=message):
        controls.fail_randomly(**arguments)
