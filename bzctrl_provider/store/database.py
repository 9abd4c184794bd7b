"""The database of the store: its URL, its transactions, its tables on first use.

No connection is kept between two transactions, so that nothing is shared across a fork; the listener in the scheduler keeps one,
which its children do not use. Nothing is opened while this module is imported.
"""

from __future__ import annotations

import os
import time
from contextlib import contextmanager, suppress
from functools import cache
from pathlib import Path
from threading import Lock
from typing import TYPE_CHECKING, Any, NamedTuple

from airflow.configuration import get_airflow_home
from airflow.providers.common.compat.sdk import conf
from sqlalchemy import create_engine, delete, event, func, insert, select, update
from sqlalchemy import exc as errors
from sqlalchemy.engine import URL, make_url
from sqlalchemy.pool import NullPool, QueuePool

from bzctrl_provider.settings import settings
from bzctrl_provider.store import schema
from bzctrl_provider.text import LINE_CHARS, one_line

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Iterator, Mapping, Sequence

    from sqlalchemy import Column, Table
    from sqlalchemy.engine import Connection, Engine
    from sqlalchemy.sql import ColumnElement

TIMEOUT_S = 5
"""For a connection to the database, for one statement, and for another process's lock."""

PARAMETERS = 500
"""How many values one statement gets: SQLite takes at most 32,766, and releases before 3.32 only 999."""

_making_a_file = Lock()

_OPTION = "the option database in the section [bzctrl] of Airflow's configuration"


class StoreError(Exception):
    """One failure of the store, with its remedy and without the database's password."""


class Transaction(NamedTuple):
    """One transaction of the store.

    :param connection: SQLAlchemy's.
    :param now: the time of the database when the transaction began, in seconds since 1970.
    """

    connection: Connection
    now: float

    def insert(self, table: Table, values: Mapping[str, Any] | Sequence[Mapping[str, Any]]) -> bool:
        """Write rows unless a key is known, also if another process writes it at the same moment; return whether they were written."""
        # Without the numbers of the new rows, which nobody asks for.
        statement = insert(table).inline()
        try:
            with self.connection.begin_nested():
                self.connection.execute(statement, values)
        except errors.IntegrityError:
            return False
        return True

    def lock(self, table: Table, key: str, values: Mapping[str, Any]) -> Mapping[Any, Any]:
        """Return the row of a key, which others cannot change until the transaction ends; if there is none, write these values."""
        query = select(table).where(table.c[key] == values[key]).with_for_update()
        row = self.connection.execute(query).mappings().first()
        if row is None and self.insert(table, values):
            return values
        # If another process has written it in between, that one has ended its transaction.
        return row or self.connection.execute(query).mappings().one()

    def write(self, table: Table, key: str, values: Mapping[str, Any]) -> None:
        """Write the row of a key; if another process writes the first one at the same moment, that one stays."""
        known = update(table).where(table.c[key] == values[key])
        if not self.connection.execute(known.values(values)).rowcount:
            self.insert(table, values)

    def count_rows(self, times: Column[Any], *conditions: ColumnElement[bool]) -> tuple[int, float | None]:
        """Return for how many rows the conditions hold, and the earliest of their times."""
        query = select(func.count(), func.min(times)).where(*conditions)
        number, earliest = self.connection.execute(query).one()
        return int(number), earliest

    def prune(self, key: Column[Any], *conditions: ColumnElement[bool]) -> None:
        """Delete rows for which the conditions hold; at most 500, because others wait for this transaction."""
        query = select(key).where(*conditions).limit(PARAMETERS)
        if old := list(self.connection.scalars(query)):
            # With the conditions once more, because another process may have changed one in between.
            self.connection.execute(delete(key.table).where(key.in_(old), *conditions))


class Database:
    """The store in one database.

    :param url: of SQLAlchemy; secret, because it may have a password.
    :param clock: returns seconds since 1970, in place of the database's clock.
    :param timeout_s: see ``TIMEOUT_S``.
    :param keeps_connection: whether a connection to a server stays open for the next transaction of this process.
    :raises StoreError: the URL is invalid, or its driver is not installed.
    """

    def __init__(
        self,
        url: str | URL,
        *,
        clock: Callable[[], float] | None = None,
        timeout_s: int = TIMEOUT_S,
        keeps_connection: bool = False,
    ) -> None:
        self._clock = clock
        self._timeout_s = timeout_s
        self._error: StoreError | None = None
        self._closed_until = 0.0
        """A time of ``time.monotonic``: the database is not tried before, because of the error."""
        try:
            self._url = make_url(url)
            if isinstance(url, str):
                _check(self._url)
            self._engine = _make_engine(self._url, timeout_s, keeps_connection=keeps_connection)
        # Before ArgumentError, whose subclass the first one is.
        except (errors.NoSuchModuleError, ImportError) as exc:
            raise StoreError(
                f"The driver of the store's database is not installed here: {exc}. Install it, or correct {_OPTION}."
            ) from None
        except (errors.ArgumentError, ValueError):
            # Its message may have the URL as it is.
            raise StoreError(
                f"The URL of the store cannot be parsed. Correct {_OPTION}: dialect://user:password@host/name, with special "
                f"characters of the password in percent-encoding, such as %40 for @."
            ) from None

    @property
    def is_file(self) -> bool:
        """Return whether the database is a file of this machine, which other machines do not see."""
        return self._url.get_backend_name() == "sqlite"

    def __str__(self) -> str:
        """Return the address of the database without its credentials."""
        url = self._url
        if self.is_file:
            return str(url.database)
        return str(URL.create(url.get_backend_name(), host=url.host, port=url.port, database=url.database))

    @contextmanager
    def transaction(self) -> Iterator[Transaction]:
        """Open a connection for one transaction, which is committed at the end of the block.

        After a database has let this process wait in vain, it is not tried again for 30 seconds: the callbacks of a storm are
        called one after the other, in a process that Airflow ends after 50 seconds.

        :raises StoreError: the database cannot be used, or has tables of a newer release.
        """
        started_at = time.monotonic()
        if self._error and started_at < self._closed_until:
            raise self._error.with_traceback(None)
        try:
            connection = self._engine.connect()
        except Exception as exc:  # noqa: BLE001 - a driver raises errors of its own if an argument of the URL is invalid
            raise self._failure(exc, started_at) from None
        try:
            with connection:
                now = self._begin(connection)
                yield Transaction(connection, self._clock() if self._clock else now)
                connection.commit()
        except errors.SQLAlchemyError as exc:
            raise self._failure(exc, started_at) from None
        self._error = None

    def _begin(self, connection: Connection) -> float:
        """Begin a transaction and return the present time, after the tables were made if they were not there."""
        no_table = errors.OperationalError if self.is_file else errors.ProgrammingError
        # Several times, because other processes may make the tables at the same moment.
        for _ in range(5):
            # Not in the block: an error of the lock has the same type.
            self._lock_file(connection)
            with suppress(errors.NoResultFound, no_table):
                return self._read_time(connection)
            connection.rollback()
            self._create(connection)
        self._lock_file(connection)
        return self._read_time(connection)

    def _read_time(self, connection: Connection) -> float:
        query = schema.first_query(connection.dialect.name, timeout_s=self._timeout_s)
        version, now, *_ = connection.execute(query).one()
        if version > schema.VERSION:
            raise StoreError(
                f"The store {self} has tables of version {version}, and this release of airflow-provider-bzctrl knows "
                f"version {schema.VERSION}: install the newer release here, too."
            )
        return float(now)

    def _lock_file(self, connection: Connection) -> None:
        if self.is_file:
            # A transaction that reads before it writes could not get the lock in between, if others do the same.
            connection.exec_driver_sql("BEGIN IMMEDIATE")

    def _create(self, connection: Connection) -> None:
        """Make the tables; an error means that another process makes them at the same moment, or is met again."""
        try:
            self._lock_file(connection)
            schema.METADATA.create_all(connection)
            if not connection.execute(select(schema.schema.c.version)).first():
                connection.execute(insert(schema.schema).values(id=1, version=schema.VERSION))
            connection.commit()
        except errors.DBAPIError:
            connection.rollback()

    def _failure(self, exc: Exception, started_at: float) -> StoreError:
        """Return the error of a transaction; after a long wait, it is that of the next ones, too."""
        cause = getattr(exc, "orig", None) or exc
        # A driver's further lines are hints, in place of which ours has a remedy.
        first_line = next(iter(str(cause).strip().splitlines()), "")
        text = one_line(f"{type(cause).__name__}: {first_line}", max_chars=LINE_CHARS)
        if self._url.password:
            text = text.replace(str(self._url.password), "***")
        error = StoreError(f"The store {self} cannot be used: {text}. {self._remedy(text)}")
        if time.monotonic() - started_at > 1:
            self._error, self._closed_until = error, time.monotonic() + 30
        return error

    def _remedy(self, text: str) -> str:
        if not self.is_file:
            return f"Start the database, or correct {_OPTION}."
        if "locked" in text:
            return "Another process has kept it locked for too long; several machines need a database server."
        if "full" in text:
            return "Make room on its disk."
        return f"Make it a file that this process may write to, or correct {_OPTION}."


_database = cache(Database)


def database(*, timeout_s: int = TIMEOUT_S, keeps_connection: bool = False) -> Database:
    """Return the store of ``[bzctrl] database``; by default it is a file in ``AIRFLOW_HOME``.

    :param timeout_s: the seconds for a connection, for one statement, and for another process's lock.
    :param keeps_connection: see ``Database``.
    :raises StoreError: the URL is invalid, or its driver is not installed.
    """
    file = str(Path(get_airflow_home()).absolute() / "bzctrl.db")
    url = settings().database or URL.create("sqlite", database=file)
    return _database(url, timeout_s=timeout_s, keeps_connection=keeps_connection)


def _check(url: URL) -> None:
    if url.get_backend_name() == "sqlite":
        if not Path(url.database or "").is_absolute():
            raise StoreError(
                "The file of the store needs an absolute path, so that all processes use the same one. "
                f"Correct {_OPTION}: sqlite:////path/of/bzctrl.db."
            )
    elif "@" in "".join((url.host or "", url.database or "", *url.query)):
        # The rest of a password with an @: it would be shown as a part of the address.
        raise ValueError


def _make_engine(url: URL, timeout_s: int, *, keeps_connection: bool) -> Engine:
    options: dict[str, Any] = {"hide_parameters": True, "future": True, "poolclass": NullPool}
    if url.get_backend_name() == "sqlite":
        # Without an isolation level, the driver begins no transactions by itself.
        engine = create_engine(url, connect_args={"timeout": timeout_s, "isolation_level": None}, **options)
        if url.database:  # not in memory
            event.listen(engine, "do_connect", _make_private)
        return engine
    if url.get_driver_name() in ("psycopg2", "psycopg"):
        # A server that does not respond any more ends a statement after this time, too.
        options["connect_args"] = {"connect_timeout": timeout_s, "tcp_user_timeout": timeout_s * 1000}
    if url.get_driver_name() == "psycopg2":
        # By itself psycopg2 sends a statement for many rows once for each of them.
        options["executemany_mode"] = "values_plus_batch"
    if keeps_connection:
        options |= {"poolclass": QueuePool, "pool_size": 1, "max_overflow": 0, "pool_pre_ping": True}
    # The default of MySQL and of some servers is another one, by which a transaction does not see what others have committed.
    return create_engine(url, isolation_level="READ COMMITTED", **options)


def _make_private(_dialect: Any, _record: Any, arguments: list[Any], _options: Any) -> None:
    """Make the file with mode 0600 before SQLite does it with another one."""
    path = Path(arguments[0])
    # Looked at first, so that no child is forked while the lock is held for a file that exists.
    if path.exists():
        return
    # One thread at a time: a process that closes a file loses all its locks of it, also those that SQLite holds in another thread.
    with _making_a_file:
        if not path.exists():
            path.parent.mkdir(parents=True, exist_ok=True)
            os.close(os.open(path, os.O_RDWR | os.O_CREAT, 0o600))


_LOCAL_EXECUTORS = frozenset({"LocalExecutor", "SequentialExecutor", "DebugExecutor"})


def find_misplacement(hosts: Collection[str] = ()) -> str | None:
    """Return why a file is the wrong place for the store of this deployment, and what to do; None if it is not.

    :param hosts: of the running components, as far as they are known.
    """
    store = database()
    if not store.is_file:
        return None
    if len(hosts) > 1:
        why = f"Airflow's components run on {len(hosts)} hosts ({', '.join(sorted(hosts))})"
    elif executors := [name for name in _executors() if name not in _LOCAL_EXECUTORS]:
        why = f"the executor {executors[0]} runs tasks on other machines"
    else:
        return None
    return (
        f"The store is the file {store}, and {why}: what is written on one of them is not delivered by another one. To fix it, "
        "set database in the section [bzctrl] of Airflow's configuration to the URL of a database server, such as "
        "postgresql+psycopg2://user:password@host/bzctrl, in each component."
    )


def _executors() -> list[str]:
    names = conf.get("core", "executor", fallback="").split(",")
    # Such as "team:CeleryExecutor", "alias:module.of.Executor" or "module.of.Executor".
    return [name.strip().rpartition(":")[2].rpartition(".")[2] for name in names if name.strip()]
