from __future__ import annotations

import asyncio

import pytest
import requests
from support.bzctrl import ACC, sent_todos
from support.contexts import new_run_context

from bzctrl_provider.exceptions import BzCtrlTransportError
from bzctrl_provider.notifications import callback
from bzctrl_provider.notifications.bzctrl import BzCtrlNotifier

pytestmark = pytest.mark.usefixtures("connection")


@pytest.fixture
def clock(monkeypatch):
    """Return the time of the budget, which a test sets."""
    now = [1000.0]
    monkeypatch.setattr(callback, "budget", callback.WaitingTime(clock=lambda: now[0]))
    return now


def call(asynchronous):
    """Call a new notifier, as Airflow calls that of another DAG."""

    async def alert():
        await BzCtrlNotifier(context=new_run_context(), title="late")

    asyncio.run(alert()) if asynchronous else BzCtrlNotifier(title="late")(new_run_context())


@pytest.mark.parametrize("asynchronous", [False, True])
def test_notifier_with_an_unusable_store_shares_ten_seconds_with_the_others(
    bzctrl, clock, caplog, asynchronous
):
    """Counted from the first callback of the process; the log has what was not sent; after a minute, they have ten more."""
    for now, sent in ((1000.0, 1), (1009.9, 2)):
        clock[0] = now
        call(asynchronous)
        assert len(sent_todos(bzctrl)) == sent
    clock[0] = 1010.0
    with pytest.raises(BzCtrlTransportError, match=r"have waited 10 s .* correct the option database"):
        call(asynchronous)
    assert len(sent_todos(bzctrl)) == 2
    assert '"title": "late"' in caplog.text
    clock[0] = 1060.0
    call(asynchronous)
    assert len(sent_todos(bzctrl)) == 3


@pytest.mark.parametrize("asynchronous", [False, True])
def test_notifier_with_an_unusable_store_and_without_bzctrl_waits_ten_seconds_in_all(
    bzctrl, clock, caplog, asynchronous
):
    """The first callback uses the time up; the others send no request, and the log has the payload of each."""

    def wait_for_nothing(*_):
        clock[0] += 10
        raise requests.ConnectionError("refused")

    bzctrl.post(ACC.token_url, text=wait_for_nothing)
    for _ in range(4):
        with pytest.raises(BzCtrlTransportError):
            call(asynchronous)
    assert len(bzctrl.request_history) <= 3  # the attempts of one callback
    assert caplog.text.count('"title": "late"') >= 4
