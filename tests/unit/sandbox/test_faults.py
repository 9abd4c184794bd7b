"""Which fault happens to which request."""

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


def test_faults_come_in_order_and_are_used_up(plan: FaultPlan, controls: SandboxControls) -> None:
    """Faults happen in the order they were asked for, as often as asked for, and then no more."""
    controls.fail_next(503, times=2)
    controls.fail_next("reset_after")
    assert [taken(plan) for _ in range(4)] == ["503", "503", "reset_after", None]


def test_fault_waits_for_its_kind_of_request(plan: FaultPlan, controls: SandboxControls) -> None:
    """A fault for token requests lets create requests pass, and "any" takes whichever comes."""
    controls.fail_next(401, on="token")
    controls.fail_next(500, on="any")
    assert [taken(plan), taken(plan), taken(plan, "token")] == ["500", None, "401"]


def test_fault_given_back_is_first_again(plan: FaultPlan, controls: SandboxControls) -> None:
    """A fault whose request was refused happens to the next one, before the others."""
    controls.fail_next("reset_after")
    controls.fail_next(503)
    fault = plan.take("create")
    assert fault is not None
    plan.give_back(fault)
    assert [taken(plan), taken(plan)] == ["reset_after", "503"]


def test_fault_of_chance_is_not_given_back(plan: FaultPlan, controls: SandboxControls) -> None:
    """Chance has no queue to give a fault back to."""
    controls.fail_randomly(1, faults=["reset_after"])
    fault = plan.take("create")
    assert fault is not None
    controls.fail_randomly(1, faults=["reset_after"])
    plan.give_back(plan.take("create") or fault)
    controls.fail_randomly(0)
    assert taken(plan) is None


def test_chance_repeats_itself(plan: FaultPlan, controls: SandboxControls) -> None:
    """The same seed gives the same failures, another seed others, and about as many as asked for."""
    runs = []
    for seed in (7, 7, 8):
        controls.fail_randomly(0.3, faults=[500, "reset_before"], seed=seed)
        runs.append([taken(plan) for _ in range(500)])
    assert runs[0] == runs[1] != runs[2]
    assert 100 < sum(name is not None for name in runs[0]) < 200
    assert set(runs[0]) == {None, "500", "reset_before"}


def test_asked_for_faults_come_before_chance(plan: FaultPlan, controls: SandboxControls) -> None:
    """A queue is played first even while chance is at work, and clearing ends both."""
    controls.fail_randomly(1, faults=[500], on="any", retry_after_s=1)
    controls.fail_next(429)
    assert [taken(plan), taken(plan), taken(plan, "token")] == ["429", "500", "500"]
    controls.fail_next(429)
    controls.clear_faults()
    assert taken(plan) is None


def test_chance_keeps_to_its_kind(plan: FaultPlan, controls: SandboxControls) -> None:
    """By default, random faults affect only create requests."""
    controls.fail_randomly(1)
    assert taken(plan, "token") is None


@pytest.mark.parametrize("name", NAMES)
def test_every_name_is_taken(name: Any) -> None:
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
def test_whether_the_todo_is_made(fault: Fault, takes_effect: bool) -> None:
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
        ({"fault": 503, "times": 0}, ["times"]),
        ({"fault": 503, "times": True}, ["times"]),
        ({"fault": "x", "on": "y", "delay_s": -1}, ["fault must", "on must", "delay_s must"]),
    ],
)
def test_bad_fault_is_refused_with_what_is_allowed(
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
    ],
)
def test_bad_chance_is_refused(controls: SandboxControls, arguments: dict[str, Any], message: str) -> None:
    """Random failures are checked as strictly as ordered ones."""
    with pytest.raises(ValueError, match=message):
        controls.fail_randomly(**arguments)
