from __future__ import annotations

import stat
import subprocess
import sys
import time
import traceback
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from types import SimpleNamespace

import pytest
from sqlalchemy import insert, select, text, update
from sqlalchemy.engine import make_url

from bzctrl_provider.settings import settings
from bzctrl_provider.store import schema
from bzctrl_provider.store.database import Database, StoreError, database

PASSWORD = "Ex@mpl3!"


def write_row(url, key):
    store = Database(url)
    with store.transaction() as tx:
        values = {"key": key, "until": tx.now, "reason": "", "refusals": 0}
        tx.connection.execute(insert(schema.connection_state).values(values))


def count_rows(url):
    with Database(url).transaction() as tx:
        return len(tx.connection.execute(select(schema.connection_state.c.key)).all())


def test_tables_are_made_by_the_first_of_many(url):
    """Twenty that come at once to an empty database make its tables once, and each writes its row."""
    with ThreadPoolExecutor(20) as pool:
        list(pool.map(lambda number: write_row(url, str(number)), range(20)))
    assert count_rows(url) == 20


def test_time_is_that_of_the_database(url):
    """The time of a transaction is the database's own, in seconds since 1970."""
    with Database(url).transaction() as tx:
        assert abs(tx.now - time.time()) < 60


def test_error_in_the_block_undoes_the_transaction(url):
    """A transaction that ends with an error leaves nothing behind."""
    store = Database(url)
    with pytest.raises(LookupError), store.transaction() as tx:
        values = {"key": "a", "until": 0.0, "reason": "", "refusals": 0}
        tx.connection.execute(insert(schema.connection_state).values(values))
        raise LookupError
    assert count_rows(url) == 0


def test_tables_of_a_newer_release_are_refused(url):
    """A store that a newer release has made is not touched, and the error says what to install."""
    write_row(url, "a")
    with Database(url).transaction() as tx:
        tx.connection.execute(update(schema.schema).values(version=schema.VERSION + 1))
    with pytest.raises(
        StoreError, match=r"tables of version 2.*knows version 1: install the newer release here, too"
    ):
        count_rows(url)


def test_connection_of_the_scheduler_is_kept_and_replaced_if_it_is_lost(url):
    """A server sees one connection for all transactions of such a store, and a new one after it has ended that one."""
    if url.get_backend_name() == "sqlite":
        pytest.skip("a file is opened for each transaction")
    store = Database(url, keeps_connection=True)

    def find_process():
        with store.transaction() as tx:
            return tx.connection.scalar(text("SELECT pg_backend_pid()"))

    first = find_process()
    assert find_process() == first
    with Database(url).transaction() as tx:
        tx.connection.execute(text(f"SELECT pg_terminate_backend({first})"))
    assert find_process() != first
    store._engine.dispose()


def test_file_is_for_its_owner_only(tmp_path):
    """The file of the store and its folder are made on first use, the file with mode 0600."""
    path = tmp_path / "home" / "bzctrl.db"
    write_row(f"sqlite:///{path}", "a")
    assert stat.S_IMODE(path.stat().st_mode) == 0o600


@pytest.mark.security
def test_password_of_the_database_is_shown_nowhere():
    """No error, text or repr of a store has the password of its URL, as it is or in another spelling."""
    quoted = "Ex%40mpl3%21"
    shown = []
    for url in (
        f"postgresql+psycopg2://user:{quoted}@127.0.0.1:1/bzctrl",
        f"postgresql+psycopg2://user:{quoted}@[",
        # Not in percent-encoding: SQLAlchemy takes what follows the first @ for the host, the port or the database.
        f"postgresql+psycopg2://user:a@{PASSWORD}@host/bzctrl",
        f"postgresql+psycopg2://user:a@b:{PASSWORD}@host/bzctrl",
        f"postgresql+psycopg2://user:a@b/{PASSWORD}@host/bzctrl",
        f"postgresql+psycopg2://user:a@b?{PASSWORD}@host/bzctrl",
        f"nonsense+driver://user:{quoted}@host/bzctrl",
        f"{PASSWORD}",
    ):
        with pytest.raises(StoreError) as raised:
            store = Database(url, timeout_s=1)
            shown += [repr(store), str(store)]
            with store.transaction():
                pass
        shown += [str(raised.value), repr(raised.value), *traceback.format_exception(raised.value)]
        assert raised.value.__suppress_context__
    text_of_all = "\n".join(shown[:-1])
    # Not the context, which a traceback leaves out.
    assert PASSWORD not in text_of_all
    assert "mpl3" not in text_of_all
    assert quoted not in text_of_all
    assert "127.0.0.1:1/bzctrl" in text_of_all


def test_file_that_cannot_be_used_is_an_error_with_a_remedy(tmp_path):
    """A file that is locked, is no database, or cannot be made: the error names it and says what to do."""
    locked = tmp_path / "locked.db"
    write_row(f"sqlite:///{locked}", "a")
    text_file = tmp_path / "text.db"
    text_file.write_text("No database, and long enough to be read as one. " * 40)
    folder = tmp_path / "folder.db"
    folder.mkdir()
    cases = {
        text_file: "file is not a database.*Make it a file that this process may write to",
        folder: "unable to open.*Make it a file that this process may write to",
        Path("/proc/bzctrl.db"): "No such file.*Make it a file that this process may write to",
    }
    for path, message in cases.items():
        with pytest.raises(StoreError, match=f"{path}.*{message}"):
            write_row(f"sqlite:///{path}", "b")
    with Database(f"sqlite:///{locked}").transaction():
        started = time.monotonic()
        message = r"locked.*several machines need a database server"
        with (
            pytest.raises(StoreError, match=message),
            Database(f"sqlite:///{locked}", timeout_s=1).transaction(),
        ):
            pass
        assert time.monotonic() - started < 5


def test_server_that_ends_the_connection_is_an_error_and_the_next_transaction_works(postgres):
    """A server that is restarted in the middle of a transaction costs that one only."""
    store = Database(postgres)
    with pytest.raises(StoreError, match="Start the database"), store.transaction() as tx:
        pid = tx.connection.scalar(text("SELECT pg_backend_pid()"))
        with Database(postgres).transaction() as other:
            other.connection.execute(text(f"SELECT pg_terminate_backend({pid})"))
        tx.connection.execute(select(schema.lease))
    with store.transaction() as tx:
        assert tx.connection.scalar(text("SELECT 1")) == 1


def test_transactions_see_what_others_have_committed(postgres):
    """Also on a server with another default: after the wait for a lock, a decision reads what was written meanwhile."""
    store = Database(postgres.update_query_dict({"options": "-c default_transaction_isolation=serializable"}))
    with store.transaction() as tx:
        assert tx.connection.scalar(text("SHOW transaction_isolation")) == "read committed"


def test_statement_that_hangs_ends_by_its_limit(postgres):
    """A statement ends after the limit, so that nobody waits for a database that does not respond."""
    started = time.monotonic()
    with (
        pytest.raises(StoreError, match="statement timeout"),
        Database(postgres, timeout_s=1).transaction() as tx,
    ):
        tx.connection.execute(text("SELECT pg_sleep(30)"))
    assert time.monotonic() - started < 10


def test_file_without_an_absolute_path_is_refused():
    """A database in memory, or below the folder of each process, would be a store of its own for each of them."""
    for url in (
        "sqlite://",
        "sqlite:///:memory:",
        "sqlite:///bzctrl.db",
        "sqlite:///file:bzctrl?mode=memory&uri=true",
    ):
        with pytest.raises(StoreError, match="needs an absolute path"):
            Database(url)


def test_connection_of_another_thread_keeps_the_lock_of_the_file(tmp_path):
    """Another process waits for a transaction, whatever this process opens and closes meanwhile: the file would be damaged."""
    url = f"sqlite:///{tmp_path / 'bzctrl.db'}"
    write_row(url, "a")
    code = (
        "import sqlite3, sys\n"
        "connection = sqlite3.connect(sys.argv[1], timeout=0, isolation_level=None)\n"
        "connection.execute('BEGIN IMMEDIATE')\n"
    )
    with Database(url).transaction():
        with pytest.raises(StoreError, match="locked"), Database(url, timeout_s=0).transaction():
            pass
        done = subprocess.run(
            [sys.executable, "-c", code, str(tmp_path / "bzctrl.db")],
            capture_output=True,
            text=True,
            check=False,
        )
    assert "database is locked" in done.stderr


def test_database_that_let_a_process_wait_is_not_tried_again_for_half_a_minute(postgres, monkeypatch):
    """The callbacks of a storm wait for a database that hangs once, and not one after the other."""
    times = [0.0]
    monkeypatch.setattr("bzctrl_provider.store.database.time", SimpleNamespace(monotonic=lambda: times[0]))
    store = Database(postgres, timeout_s=1)

    def hang():
        with store.transaction() as tx:
            times[0] += 2
            tx.connection.execute(text("SELECT pg_sleep(30)"))

    with pytest.raises(StoreError, match="statement timeout"):
        hang()
    times[0] += 29
    with pytest.raises(StoreError, match="statement timeout"), store.transaction():
        pytest.fail("the database was tried")
    times[0] += 2
    with store.transaction() as tx:
        assert tx.connection.scalar(text("SELECT 1")) == 1


def test_default_is_a_file_in_airflow_home(monkeypatch, tmp_path):
    """Without the option the store is the file bzctrl.db in AIRFLOW_HOME."""
    monkeypatch.setenv("AIRFLOW_HOME", str(tmp_path))
    monkeypatch.delenv("AIRFLOW__BZCTRL__DATABASE")
    settings.cache_clear()
    store = database()
    assert store.is_file
    assert str(store) == str(tmp_path / "bzctrl.db")


def test_address_has_no_credentials():
    """The address of a store names host and database only."""
    url = make_url("postgresql+psycopg2://user:secret@db.example.com:5433/bzctrl?sslmode=require")
    assert str(Database(url)) == "postgresql://db.example.com:5433/bzctrl"
