from __future__ import annotations

import json
import logging

import pytest
from support.bzctrl import KEY, sent_todos
from support.hostile import TEMPLATE

from bzctrl_provider.spool import replay_spool

pytestmark = [pytest.mark.security, pytest.mark.usefixtures("connection")]


def make_file(todo, *, conn_id="bzctrl_default"):
    entry = {"version": 1, "written_at": "2026-11-21T19:15:00Z", "reason": "r", "outcome_unknown": False}
    return json.dumps(entry | {"bzctrl_conn_id": conn_id, "todo": todo})


def test_replay_spool_hostile_file_is_data(bzctrl, tmp_path, monkeypatch, caplog):
    """No template in it is rendered, no other system's connection is used, no bomb stops the others, no name forges a line."""
    crm = {"conn_type": "http", "host": "https://crm.example", "login": "u", "password": "of-the-crm"}
    monkeypatch.setenv("AIRFLOW_CONN_CRM", json.dumps(crm))
    todo = {"todo_type": "INCIDENT", "title": "{{ 7 * 7 }}", "description": TEMPLATE, "order_id": "o"}
    (tmp_path / "1-bomb.json").write_text("[" * 500_000)
    (tmp_path / "2-another-system.json").write_text(make_file(todo, conn_id="crm"))
    (tmp_path / "3-a-line\nforged.json").write_text(make_file(todo, conn_id="no\nsuch\nconnection"))
    (tmp_path / "4-template.json").write_text(make_file(todo))
    with caplog.at_level(logging.WARNING):
        result = replay_spool(path=tmp_path)
    assert [created["key"] for created in result.created] == [KEY]
    assert [rejected["file"].rpartition("/")[2] for rejected in result.rejected] == ["1-bomb.json"]
    assert [kept["file"].rpartition("/")[2][0] for kept in result.kept] == ["2", "3"]
    assert "must be bzctrl, not 'http'" in result.kept[0]["reason"]
    (message,) = sent_todos(bzctrl)
    assert (message["title"], message["description"]) == ("{{ 7 * 7 }}", TEMPLATE)
    assert {request.hostname for request in bzctrl.request_history} == {"acc.bzctrl.com"}
    assert "\nforged.json" not in caplog.text
    assert "of-the-crm" not in caplog.text
