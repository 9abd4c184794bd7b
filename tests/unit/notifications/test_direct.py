from __future__ import annotations

import asyncio

import pytest
import requests
from support.bzctrl import ACC, sent_todos
from support.contexts import new_run_context

from bzctrl_provider.exceptions import BzCtrlTransportError
from bzctrl_provider.notifications import direct
from bzctrl_provider.notifications.bzctrl import BzCtrlNotifier

pytestmark = pytest.mark.usefixtures("connection")


@pytest.fixture
def clock(monkeypatch):
    """Return the time of the budget, which a test sets."""
    now = [1000.0]
    monkeypatch.setattr(direct, "budget", direct.Budget(clock=lambda: now[0]))
    return now


def call(asynchronous):
    """Call a new notifier, as Airflow calls that of another DAG."""

    async def alert():
        await BzCtrlNotifier(context=new_run_context(), title="late")

    asyncio.run(alert()) if asynchronous else BzCtrlNotifier(title="late")(new_run_context())


both = pytest.mark.parametrize("asynchronous", [False, True])


@both
def test_notifier_without_a_spool_shares_ten_seconds_with_the_others(bzctrl, clock, caplog, asynchronous):
    """Counted from the first callback of the process; the log has what was not sent; after a minute, they have ten more."""
    for now, sent in ((1000.0, 1), (1009.9, 2)):
        clock[0] = now
        call(asynchronous)
        assert len(sent_todos(bzctrl)) == sent
    clock[0] = 1010.0
    with pytest.raises(BzCtrlTransportError, match="have waited 10 s"):
        call(asynchronous)
    assert len(sent_todos(bzctrl)) == 2
    assert '"title": "late"' in caplog.text
    clock[0] = 1060.0
    call(asynchronous)
    assert len(sent_todos(bzctrl)) == 3


@both
def test_notifier_without_a_spool_does_not_try_after_a_failed_connection(bzctrl, clock, caplog, asynchronous):
    """One callback finds out that BzCtrl is away; the others send no request for a minute, and are logged."""
    bzctrl.post(ACC.token_url, exc=requests.ConnectionError("refused"))
    with pytest.raises(BzCtrlTransportError):
        call(asynchronous)
    tried = len(bzctrl.request_history)
    assert tried
    for _ in range(3):
        with pytest.raises(BzCtrlTransportError, match="an earlier callback"):
            call(asynchronous)
    assert len(bzctrl.request_history) == tried
    assert caplog.text.count('"title": "late"') >= 4
    clock[0] += 60
    with pytest.raises(BzCtrlTransportError):
        call(asynchronous)
    assert len(bzctrl.request_history) == 2 * tried


def test_notifier_without_a_spool_tries_another_connection(bzctrl, clock, monkeypatch):
    """Acceptance out of reach says nothing about production."""
    monkeypatch.setenv(
        "AIRFLOW_CONN_OTHER",
        '{"conn_type": "bzctrl", "host": "http://127.0.0.1:9", "login": "a", "password": "another-password"}',
    )
    bzctrl.post("http://127.0.0.1:9/bzctrl-core-api/oauth/token", exc=requests.ConnectionError("refused"))
    with pytest.raises(BzCtrlTransportError):
        BzCtrlNotifier(bzctrl_conn_id="other", domain_workspace="EXA", reporter="a@example.com")(
            new_run_context()
        )
    call(asynchronous=False)
    assert len(sent_todos(bzctrl)) == 1
