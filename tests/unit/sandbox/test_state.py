"""The todos, tokens and records that the sandbox keeps."""

from __future__ import annotations

import sqlite3
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime

import pytest

from bzctrl_provider.sandbox.contract import CREATE_PATH, FORM, JSON, TOKEN_PATH
from bzctrl_provider.sandbox.state import State, TodoStore, redact, redact_body

TODO = {"todoType": "TASK", "domainWorkSpace": "EXA-CON", "title": "t", "status": "TODO", "orderID": "run-1"}
BASE = "http://127.0.0.1:1"
NOW = datetime(2026, 1, 31, 23, 30, tzinfo=UTC)


def create(store, now=NOW, **changes):
    return store.create(TODO | changes, base_url=BASE, now=now)


def test_create_of_a_todo_adds_key_link_tags_and_date():
    """A todo has what was sent and what BzCtrl adds; one that is done has the UTC date of its creation as due date."""
    store = TodoStore(None)
    assert create(store) == TODO | {
        "key": "EXA-CON-01",
        "taskLink": "http://127.0.0.1:1/app/#/todo/EXA-CON-01",
        "tags": ["run-1"],
        "createdAt": "2026-01-31T23:30:00+00:00",
    }
    later = datetime.fromisoformat("2026-02-01T00:30:00+01:00")
    assert create(store, later, status="DONE")["dueDate"] == "2026-01-31"
    assert create(store, domainWorkSpace="a/b c")["taskLink"] == f"{BASE}/app/#/todo/a%2Fb%20c-01"


def test_create_in_each_workspace_counts_separately():
    """Keys count up in each workspace with at least two digits, from 01 again after a reset, and of copies."""
    store = TodoStore(None)
    keys = [create(store)["key"] for _ in range(100)]
    assert (keys[0], keys[9], keys[99]) == ("EXA-CON-01", "EXA-CON-10", "EXA-CON-100")
    assert create(store, domainWorkSpace="OTHER")["key"] == "OTHER-01"
    store.all()[0].clear()
    assert [todo["key"] for todo in store.all()] == [*keys, "OTHER-01"]
    store.clear()
    assert store.all() == []
    assert create(store)["key"] == "EXA-CON-01"


def test_create_from_many_threads_gives_distinct_keys():
    """Threads that create at once never get the same key."""
    store = TodoStore(None)
    with ThreadPoolExecutor(8) as pool:
        keys = list(pool.map(lambda _: create(store)["key"], range(200)))
    assert len(set(keys)) == 200


def test_create_that_cannot_be_kept_uses_no_key(tmp_path):
    """A todo that the data file does not take is not in memory, and uses up no key."""
    store = TodoStore(tmp_path / "todos.sqlite")
    store.open()
    with pytest.raises(TypeError, match="serializable"):
        create(store, title=object())
    assert create(store)["key"] == "EXA-CON-01"
    store.close()


def test_open_of_a_data_file_reads_its_todos(tmp_path):
    """Todos are there after a restart, keys count on, and a reset empties the file, too."""
    for expected in ("EXA-CON-01", "EXA-CON-02"):
        store = TodoStore(tmp_path / "todos.sqlite")
        store.open()
        assert create(store)["key"] == expected
        store.close()
    store.open()
    assert [todo["key"] for todo in store.all()] == ["EXA-CON-01", "EXA-CON-02"]
    store.clear()
    store.close()
    store.open()
    assert store.all() == []
    store.close()


def test_open_of_a_file_that_cannot_be_used_leaves_it_unchanged(tmp_path):
    """A text, another program's database, a file of a running sandbox and a missing folder are errors with the path."""
    (tmp_path / "notes.txt").write_text("not a database, but long enough to be looked at " * 20)
    database = sqlite3.connect(tmp_path / "airflow.db")
    database.execute("CREATE TABLE dag (dag_id TEXT)")
    database.close()
    running = TodoStore(tmp_path / "used.sqlite")
    running.open()
    for name, message in {
        "notes.txt": "not a database",
        "airflow.db": "another program",
        "used.sqlite": "locked",
        "missing/x.sqlite": "unable to open",
    }.items():
        path = tmp_path / name
        before = path.read_bytes() if path.exists() else None
        with pytest.raises(OSError, match=rf"{name}: .*{message}"):
            TodoStore(path).open()
        assert (path.read_bytes() if path.exists() else None) == before
    running.close()


def test_records_have_no_secret():
    """Of a request, neither password, token nor cookie is recorded; the rest is, as it can be read."""
    headers = {"authorization": "Bearer s", "proxy-authorization": "s", "cookie": "s", "accept": "a, b"}
    assert redact(headers) == {
        "authorization": "***",
        "proxy-authorization": "***",
        "cookie": "***",
        "accept": "a, b",
    }
    for raw, path, media_type, body in [
        (b"", TOKEN_PATH, FORM, None),
        (b"username=u&password=p", TOKEN_PATH, FORM, {"username": "u", "password": "***"}),
        (b'{"username": "u", "password": "p"}', TOKEN_PATH, JSON, {"username": "u", "password": "***"}),
        (b'["p"]', TOKEN_PATH, JSON, "***"),
        (b"password=%ff", TOKEN_PATH, FORM, "***"),
        (b"password=p", TOKEN_PATH, "text/plain", "***"),
        (b'{"title": "t"}', CREATE_PATH, JSON, {"title": "t"}),
        (b"[1]", CREATE_PATH, JSON, "[1]"),
        (b"{", CREATE_PATH, JSON, "{"),
        (b"\xff", CREATE_PATH, "", "\ufffd"),
    ]:
        assert redact_body(raw, path=path, media_type=media_type) == body
    state = State(TodoStore(None), lambda: NOW, credentials=("jane", "Ex@mpl3!"))
    assert "Ex@mpl3!" not in repr(state)
