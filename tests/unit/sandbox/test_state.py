"""The todos, tokens and requests that the sandbox keeps."""

from __future__ import annotations

import sqlite3
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any

import pytest

from bzctrl_provider.sandbox import state as state_module
from bzctrl_provider.sandbox.state import RecordedRequest, RequestLog, State, TodoStore, TokenStore, utc_now

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

TODO = {"todoType": "TASK", "domainWorkSpace": "EXA-CON", "title": "t", "status": "TODO", "orderID": "run-1"}
BASE = "http://127.0.0.1:1"


class Clock:
    def __init__(self) -> None:
        self.now = datetime(2026, 1, 31, 23, 30, tzinfo=UTC)

    def __call__(self) -> datetime:
        return self.now


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def store(clock: Clock) -> Iterator[TodoStore]:
    made = TodoStore(clock=clock)
    made.open()
    yield made
    made.close()


def test_create_of_a_todo_adds_key_link_tags_and_date(store: TodoStore) -> None:
    """A kept todo has what was sent and what BzCtrl adds."""
    assert store.create(TODO, base_url=BASE) == TODO | {
        "key": "EXA-CON-01",
        "taskLink": "http://127.0.0.1:1/app/#/todo/EXA-CON-01",
        "tags": ["run-1"],
        "createdAt": "2026-01-31T23:30:00+00:00",
    }


def test_create_of_a_done_todo_sets_the_due_date_in_utc(store: TodoStore, clock: Clock) -> None:
    """A todo that is done already gets the UTC date of its creation as due date."""
    clock.now = datetime.fromisoformat("2026-02-01T00:30:00+01:00")
    assert store.create(TODO | {"status": "DONE"}, base_url=BASE)["dueDate"] == "2026-01-31"


def test_create_in_each_workspace_counts_separately(store: TodoStore) -> None:
    """Keys count up per workspace, with two digits at least."""
    keys = [store.create(TODO, base_url=BASE)["key"] for _ in range(100)]
    assert (keys[0], keys[9], keys[99]) == ("EXA-CON-01", "EXA-CON-10", "EXA-CON-100")
    assert store.create(TODO | {"domainWorkSpace": "OTHER"}, base_url=BASE)["key"] == "OTHER-01"


def test_create_with_a_slash_in_the_workspace_quotes_the_link(store: TodoStore) -> None:
    """A workspace with a slash or a space still makes a link of one piece."""
    link = store.create(TODO | {"domainWorkSpace": "a/b c"}, base_url=BASE)["taskLink"]
    assert link == "http://127.0.0.1:1/app/#/todo/a%2Fb%20c-01"


def test_todo_store_with_todos_reads_them_in_order(store: TodoStore) -> None:
    """Todos are read in order, newest first with their count, and one by one."""
    assert store.newest(2) == ([], 0)
    made = [store.create(TODO, base_url=BASE) for _ in range(3)]
    assert store.all() == made
    assert store.newest(2) == ([made[2], made[1]], 3)
    assert store.get("EXA-CON-02") == made[1]
    assert store.get("EXA-CON-99") is None


def test_clear_with_todos_starts_keys_at_01(store: TodoStore) -> None:
    """After a reset there is no todo, and the first key is 01 again."""
    store.create(TODO, base_url=BASE)
    store.clear()
    assert store.all() == []
    assert store.create(TODO, base_url=BASE)["key"] == "EXA-CON-01"


def test_create_from_many_threads_gives_distinct_keys(store: TodoStore) -> None:
    """Threads that create at once never get the same key."""
    with ThreadPoolExecutor(8) as pool:
        keys = list(pool.map(lambda _: store.create(TODO, base_url=BASE)["key"], range(200)))
    assert len(set(keys)) == 200


def test_todo_stores_with_one_file_share_it(tmp_path: Path) -> None:
    """Two stores over one file count together, and see each other's todos."""
    stores = [TodoStore(tmp_path / "shared.sqlite") for _ in range(2)]
    for one in stores:
        one.open()
    with ThreadPoolExecutor(8) as pool:
        keys = list(pool.map(lambda number: stores[number % 2].create(TODO, base_url=BASE)["key"], range(40)))
    assert len(set(keys)) == 40
    assert stores[0].all() == stores[1].all()
    for one in stores:
        one.close()


def test_create_that_fails_uses_no_key(store: TodoStore) -> None:
    """A todo that cannot be kept uses up no key."""
    with pytest.raises(TypeError, match="serializable"):
        store.create(TODO | {"title": object()}, base_url=BASE)
    assert store.create(TODO, base_url=BASE)["key"] == "EXA-CON-01"


def test_todo_store_after_close_raises_with_the_remedy() -> None:
    """Reading a store that is not open says when it can be read; closing twice is no harm."""
    store = TodoStore()
    with pytest.raises(RuntimeError, match="between start"):
        store.all()
    store.close()
    store.close()


def test_open_of_another_kind_of_file_leaves_it_unchanged(tmp_path: Path) -> None:
    """Neither a text file nor another program's database is written to."""
    text = tmp_path / "notes.txt"
    text.write_text("not a database, but long enough to be looked at " * 20)
    foreign = tmp_path / "airflow.db"
    database = sqlite3.connect(foreign)
    database.execute("CREATE TABLE dag (dag_id TEXT)")
    database.close()
    for path in (text, foreign):
        before = path.read_bytes()
        with pytest.raises(ValueError, match="not a data file of the sandbox"):
            TodoStore(path).open()
        assert path.read_bytes() == before


def test_open_in_a_missing_folder_names_the_path(tmp_path: Path) -> None:
    """A folder that does not exist is reported with the file's path."""
    with pytest.raises(OSError, match=r"missing/x\.sqlite"):
        TodoStore(tmp_path / "missing" / "x.sqlite").open()


def test_open_of_a_locked_file_raises_os_error(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A file another process holds is reported instead of waited for without end."""
    monkeypatch.setattr(state_module, "_BUSY_TIMEOUT_S", 0.05)
    holder = sqlite3.connect(tmp_path / "held.sqlite", isolation_level=None)
    holder.execute("BEGIN EXCLUSIVE")
    with pytest.raises(OSError, match="locked"):
        TodoStore(tmp_path / "held.sqlite").open()
    holder.close()


def test_is_live_after_the_lifetime_is_false(clock: Clock) -> None:
    """A token is good until its lifetime is over, to the second."""
    tokens = TokenStore(lifetime_s=60, clock=clock)
    response = tokens.issue()
    assert {key: response[key] for key in ("token_type", "expires_in", "scope")} == {
        "token_type": "Bearer",
        "expires_in": 60,
        "scope": "*",
    }
    assert {"refresh_token", "jti"} < set(response)
    clock.now += timedelta(seconds=59)
    assert tokens.is_live(response["access_token"])
    clock.now += timedelta(seconds=1)
    assert not tokens.is_live(response["access_token"])
    assert not tokens.is_live(response["refresh_token"])


def test_issue_with_expired_tokens_removes_them(clock: Clock) -> None:
    """A sandbox that runs for weeks does not keep every token it ever gave."""
    tokens = TokenStore(lifetime_s=1, clock=clock)
    for _ in range(5):
        tokens.issue()
        clock.now += timedelta(seconds=2)
    assert len(tokens._expiries) == 1


def test_issue_beyond_the_limit_revokes_the_oldest_token(monkeypatch: pytest.MonkeyPatch) -> None:
    """The number of valid tokens is bounded, so that a client in a loop cannot fill the memory."""
    monkeypatch.setattr(state_module, "MAX_TOKENS", 2)
    tokens = TokenStore(lifetime_s=60)
    issued = [tokens.issue()["access_token"] for _ in range(3)]
    assert [tokens.is_live(token) for token in issued] == [False, True, True]


def test_revoke_all_with_tokens_ends_them() -> None:
    """Revoking ends every token at once, and a new one is good."""
    tokens = TokenStore(lifetime_s=60)
    old = tokens.issue()["access_token"]
    tokens.revoke_all()
    assert not tokens.is_live(old)
    assert tokens.is_live(tokens.issue()["access_token"])


def test_request_log_over_its_number_drops_the_oldest_and_returns_copies(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """A test that changes a record does not change the log, and the log has an end."""
    monkeypatch.setattr(state_module, "MAX_REQUESTS", 2)
    log = RequestLog()
    for number in range(3):
        log.add(RecordedRequest("POST", f"/{number}", {}, {"title": "t"}, 200, None))
    log.all()[0].body.clear()
    assert [record.path for record in log.all()] == ["/1", "/2"]
    assert log.all()[0].as_dict()["body"] == {"title": "t"}
    log.clear()
    assert log.all() == []


def test_request_log_over_its_size_drops_the_oldest(monkeypatch: pytest.MonkeyPatch) -> None:
    """The records together are bounded in size, and memory is free again after they are removed."""
    monkeypatch.setattr(state_module, "MAX_REQUESTS_LENGTH", 3_000)
    log = RequestLog()
    for number in range(5):
        log.add(RecordedRequest("POST", f"/{number}", {}, "x" * 1_000, 200, None))
    assert [record.path for record in log.all()] == ["/3", "/4"]
    log.clear()
    log.add(RecordedRequest("POST", "/5", {}, "x" * 2_000, 200, None))
    assert [record.path for record in log.all()] == ["/5"]


@pytest.mark.parametrize(
    ("credentials", "given", "accepted"),
    [
        (None, ("any", "thing"), True),
        (("u", "p"), ("u", "p"), True),
        (("u", "p"), ("u", "q"), False),
        (("u", "p"), ("v", "p"), False),
    ],
)
def test_accepts_with_fixed_credentials_refuses_others(
    credentials: Any, given: tuple[str, str], accepted: bool
) -> None:
    """Any credentials are accepted unless some were fixed; then only those."""
    state = State(todos=TodoStore(), tokens=TokenStore(lifetime_s=1), credentials=credentials)
    assert state.accepts(*given) is accepted


def test_utc_now_by_default_is_in_utc() -> None:
    """The default clock is aware, and in UTC."""
    assert utc_now().utcoffset() == timedelta(0)
