"""The plan of faults: which request gets which fault."""

from __future__ import annotations

import pytest

from bzctrl_provider.sandbox.state import NAMES, Fault, SandboxControls, State, TodoStore


@pytest.fixture
def controls():
    return SandboxControls(State(TodoStore(None), None))


def taken(controls, kind="create"):
    fault = controls.take_fault(kind)
    return None if fault is None else fault.kind


def test_fail_next_called_twice_injects_in_order(controls):
    """Faults are injected in the order of the calls, as often as asked for, and then no more."""
    controls.fail_next(503, times=2)
    controls.fail_next("reset_after")
    assert [taken(controls) for _ in range(4)] == [503, 503, "reset_after", None]


def test_take_of_another_kind_leaves_the_fault_in_the_queue(controls):
    """A fault of token requests lets create requests pass, and "any" is for whichever request comes."""
    controls.fail_next(401, on="token")
    controls.fail_next(500, on="any")
    assert [taken(controls, None), taken(controls), taken(controls), taken(controls, "token")] == [
        None,
        500,
        None,
        401,
    ]


def test_give_back_puts_a_fault_first(controls):
    """A fault whose request was refused is injected into the next one, before the others."""
    controls.fail_next("reset_after")
    controls.fail_next(503)
    controls.give_back(controls.take_fault("create"))
    assert [taken(controls) for _ in range(3)] == ["reset_after", 503, None]


def test_fail_randomly_with_the_same_seed_repeats_itself(controls):
    """The same seed gives the same failures, another seed others, about as many as asked for, and only of creates."""
    runs = []
    for seed in (7, 7, 8):
        controls.fail_randomly(0.3, faults=[500, "reset_before"], seed=seed, retry_after_s=1)
        assert taken(controls, "token") is None
        runs.append([taken(controls) for _ in range(500)])
    assert runs[0] == runs[1] != runs[2]
    assert 100 < sum(kind is not None for kind in runs[0]) < 200
    assert set(runs[0]) == {None, 500, "reset_before"}


def test_take_with_both_kinds_prefers_the_queue(controls):
    """Faults of the queue come before random ones, and clearing ends both."""
    controls.fail_randomly(1, faults=[500], on="any")
    controls.fail_next(429)
    assert [taken(controls), taken(controls), taken(controls, "token")] == [429, 500, 500]
    controls.fail_next(429)
    controls.clear_faults()
    assert taken(controls) is None


def test_takes_effect_of_each_fault_is_whether_the_todo_is_created():
    """Each fault says whether the request has its effect nevertheless; every name can have a delay."""
    effects = {name: Fault(name, delay_s=1).takes_effect for name in NAMES}
    created = {name for name, takes_effect in effects.items() if takes_effect}
    assert created == {"reset_after", "cut", "slow"}
    assert [Fault(kind, after_creation=True).takes_effect for kind in (500, "empty", "html", "no_todo")] == [
        True
    ] * 4
    assert not Fault(500).takes_effect


INVALID = [
    ({"fault": "restart"}, ["300 to 599", *NAMES]),
    ({"fault": 200}, ["300 to 599"]),
    ({"fault": 503.5}, ["300 to 599"]),
    ({"fault": None}, ["300 to 599"]),
    ({"fault": 503, "on": []}, ["create, token, any"]),
    ({"fault": 503, "retry_after_s": -1}, ["whole seconds"]),
    ({"fault": 503, "retry_after_s": 1.5}, ["whole seconds"]),
    ({"fault": 503, "retry_after_s": 10**10}, ["from 0 to 1,000,000,000"]),
    ({"fault": 503, "retry_after_as_date": True}, ["needs retry_after_s"]),
    ({"fault": "slow"}, ["needs delay_s"]),
    ({"fault": 503, "delay_s": -0.1}, ["delay_s"]),
    ({"fault": 503, "delay_s": float("nan")}, ["delay_s"]),
    ({"fault": 503, "delay_s": "1"}, ["delay_s"]),
    ({"fault": 503, "delay_s": 86_401}, ["from 0 to 86,400"]),
    ({"fault": 503, "location": "/x"}, ["300 to 399"]),
    ({"fault": 302, "location": "/x\r\nSet-Cookie: a"}, ["printable ASCII"]),
    ({"fault": 404, "after_creation": True}, ["500 to 599"]),
    ({"fault": "reset_before", "after_creation": True}, ["500 to 599"]),
    ({"fault": 503, "times": 0}, ["from 1 to 10,000"]),
    ({"fault": 503, "times": 10**5000}, ["from 1 to 10,000"]),
    ({"fault": "x", "on": "y", "delay_s": -1}, ["fault must", "on must", "delay_s must"]),
]


def test_fail_next_with_invalid_arguments_names_them_all(controls):
    """Every invalid argument is named in one error with what is allowed, and nothing is queued."""
    for arguments, messages in INVALID:
        with pytest.raises(ValueError) as caught:
            controls.fail_next(**arguments)
        assert all(message in str(caught.value) for message in messages), arguments
    assert taken(controls) is None


def test_fail_randomly_with_invalid_arguments_names_them(controls):
    """Random faults are checked as those of the queue."""
    for arguments, message in [
        ({"rate": 1.1}, "rate"),
        ({"rate": "1"}, "rate"),
        ({"rate": 1, "faults": "cut"}, "300 to 599"),
        ({"rate": 1, "faults": ["slow"]}, "needs delay_s"),
    ]:
        with pytest.raises(ValueError, match=message):
            controls.fail_randomly(**arguments)
