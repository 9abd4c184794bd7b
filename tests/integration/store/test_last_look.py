from __future__ import annotations

import contextlib
from dataclasses import replace
from types import SimpleNamespace

from bzctrl_provider.exceptions import BzCtrlTransportError
from bzctrl_provider.outbox import runner
from bzctrl_provider.outbox.delivery import LEASE_S, Delivery
from bzctrl_provider.store import deliveries, incidents
from bzctrl_provider.store.database import Database
from bzctrl_provider.store.incidents import Incident


class Sender:
    """A connection whose response to each batch is that of a function."""

    def __init__(self, respond):
        self.batches = []
        self._respond = respond

    def fit(self, fields):
        return dict(fields)

    def check(self, fields):
        values = {"domain_workspace": "EXA", "assignee": "owner@example.com", "todo_type": "INCIDENT"}
        return {**values, **fields}

    def authenticate(self): ...

    def close(self): ...

    def create_todos(self, todos):
        self.batches.append([todo["title"] for todo in todos])
        return [self._respond(todo) for todo in todos]


def make(number):
    fields = {"todo_type": "INCIDENT", "title": f"Check {number}", "description": "d"}
    return Incident(identity=f"{number:032}", bzctrl_conn_id="bzctrl_default", fields=fields)


def deliver(store, sender, **options):
    with store.transaction() as tx:
        assert deliveries.take_lease(tx, "one", for_s=LEASE_S)
    return Delivery(store=store, holder="one", connect=lambda _: sender, **options).run()


def test_incident_committed_after_one_with_a_higher_number_is_delivered(postgres):
    """Who writes while a delivery runs is delivered by it, also if the row got its number before those that it has listed."""
    store = Database(postgres)
    with contextlib.ExitStack() as slow_writer:
        tx = slow_writer.enter_context(store.transaction())
        incidents.add(tx, make(1))
        with store.transaction() as other:
            incidents.add(other, make(2))

        def respond(todo):
            slow_writer.close()
            return SimpleNamespace(key="EXA-1", link=None, as_dict=dict)

        sender = Sender(respond)
        deliver(store, sender)
    assert sender.batches == [["Check 2"], ["Check 1"]]


def test_summary_without_a_response_is_sent_once_in_a_delivery(store):
    """A delivery by hand, which ignores pauses, does not send a summary again at once after an attempt without a response."""
    with store.transaction() as tx:
        for number in range(3):
            incidents.add(tx, make(number))
    sender = Sender(lambda todo: BzCtrlTransportError("no response", outcome_unknown=True))
    result = deliver(store, sender, group_above=2, ignore_pauses=True)
    assert [len(batch) for batch in sender.batches] == [1]
    assert len(result.kept) == 1


def test_paused_connection_keeps_no_other_one_from_being_delivered(used_store, monkeypatch):
    """A callback delivers at once what waits for its own connection, although that of another team is refused."""
    sender = Sender(lambda todo: SimpleNamespace(key="EXA-1", link=None, as_dict=dict))
    monkeypatch.setattr("bzctrl_provider.outbox.runner.BzCtrlSender", lambda *_, **__: sender)
    with used_store.transaction() as tx:
        deliveries.pause(tx, "bzctrl_other", for_s=1800, reason="refused")
        incidents.add(tx, replace(make(1), bzctrl_conn_id="bzctrl_other"))
    runner.deliver_soon()
    assert sender.batches == []
    with used_store.transaction() as tx:
        incidents.add(tx, make(2))
    runner.deliver_soon()
    assert sender.batches == [["Check 2"]]
