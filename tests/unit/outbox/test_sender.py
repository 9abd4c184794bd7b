from __future__ import annotations

import json

import pytest
from support.bzctrl import KEY, sent_todos
from support.hostile import TEMPLATE

from bzctrl_provider.exceptions import BzCtrlTransportError
from bzctrl_provider.outbox.runner import BzCtrlSender

pytestmark = [pytest.mark.security, pytest.mark.usefixtures("connection")]


def test_sender_hostile_incident_is_data(bzctrl):
    """No template in it is rendered, and it goes to BzCtrl's host only."""
    todo = {"todo_type": "INCIDENT", "title": "{{ 7 * 7 }}", "description": TEMPLATE, "order_id": "o"}
    sender = BzCtrlSender("bzctrl_default")
    (created,) = sender.create_todos([todo])
    sender.close()
    assert created.key == KEY
    (message,) = sent_todos(bzctrl)
    assert (message["title"], message["description"]) == ("{{ 7 * 7 }}", TEMPLATE)
    assert {request.hostname for request in bzctrl.request_history} == {"acc.bzctrl.com"}


def test_sender_uses_no_connection_of_another_system(monkeypatch):
    """A row of the store that names one is no reason to send its password anywhere, and no error shows it."""
    crm = {"conn_type": "http", "host": "https://crm.example", "login": "u", "password": "of-the-crm"}
    monkeypatch.setenv("AIRFLOW_CONN_CRM", json.dumps(crm))
    for conn_id, message in (
        ("crm", "must be bzctrl, not 'http'"),
        ("no\nsuch", "Airflow has no connection"),
    ):
        with pytest.raises(Exception, match=message) as raised:
            BzCtrlSender(conn_id)
        assert "of-the-crm" not in str(raised.value)
        assert "\nsuch" not in str(raised.value)


def test_sender_after_its_time_makes_no_request(bzctrl):
    """A callback that has spent its time gets an error that nothing was sent."""
    sender = BzCtrlSender("bzctrl_default", ends_at=0.0)
    with pytest.raises(BzCtrlTransportError) as raised:
        sender.authenticate()
    (error,) = sender.create_todos(
        [{"todo_type": "INCIDENT", "title": "T", "description": "D", "order_id": "o"}]
    )
    sender.close()
    assert not raised.value.outcome_unknown
    assert not error.outcome_unknown
    assert bzctrl.request_history == []
