"""The size of the store in a year of many failures, by a clock of its own: each day's rows, and deliveries, which delete old ones."""

from __future__ import annotations

import secrets
import sqlite3
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, NoReturn

from sqlalchemy import Float, create_engine, event, func, insert, select, text
from sqlalchemy.engine import Engine, make_url

from bench.databases import urls
from bench.delivery import rows
from bench.worker import forked, log_at_info, run
from bzctrl_provider.outbox.delivery import LEASE_S, Delivery
from bzctrl_provider.store import deliveries, problems, schema
from bzctrl_provider.store.database import Database
from bzctrl_provider.text import digest_of

if TYPE_CHECKING:
    from collections.abc import Mapping

    from sqlalchemy import Column, ColumnElement

    from bzctrl_provider.store.database import Transaction

_FAILURES_A_DAY = 10_000
_DAYS = 365
_DELIVERIES_A_DAY = 40
"""Of the 1,440 of the delivery DAG: each deletes a part of what is old."""
_DAYS_QUICK = 12
_DAY_S = 86_400.0
_NOW = 1_800_000_000.0
_WINDOW_S = 3_600.0
_NAMES = {schema.incident: {"identity": 32}, schema.problem: {"key": 64, "identity": 32}}
"""The columns that no two rows share, with their lengths."""


class _Year:
    def __init__(self, url: str) -> None:
        self._now = _NOW
        self._url = make_url(url)
        self._store = Database(url, clock=lambda: self._now)

    def size(self, days: int) -> tuple[float, float]:
        """Return the most incidents after a day, in days of failures, and the most megabytes."""
        most_rows, most_bytes = 0, 0
        for day in range(days):
            self._now = _NOW + day * _DAY_S
            self._fail(day)
            for _ in range(_DELIVERIES_A_DAY):
                self._deliver()
            with self._store.transaction() as tx:
                number = tx.connection.scalar(select(func.count()).select_from(schema.incident))
                most_rows = max(most_rows, number or 0)
            most_bytes = max(most_bytes, self._bytes())
        return most_rows / _FAILURES_A_DAY, most_bytes / 1e6

    def _fail(self, day: int) -> None:
        """Write a day's incidents, each with a problem of its own: a window by a key of the user's that no other run has."""
        with self._store.transaction() as tx:
            if day == 0:
                written = rows(_FAILURES_A_DAY, at=tx.now, state="delivered")
                tx.connection.execute(insert(schema.incident), written)
                for row in written:
                    _open_window(tx, row["identity"])
                return
            for table, names in _NAMES.items():
                copied = [column for column in table.c if column.name != "id"]
                query = select(*(_next(column, day, names) for column in copied)).where(
                    table.c.changed_at == tx.now - _DAY_S
                )
                tx.connection.execute(insert(table).from_select(copied, query))

    def _deliver(self) -> None:
        holder = secrets.token_hex(16)
        with self._store.transaction() as tx:
            assert deliveries.take_lease(tx, holder, for_s=LEASE_S)
        Delivery(store=self._store, holder=holder, connect=_connect).run()

    def _bytes(self) -> int:
        if self._store.is_file:
            return Path(str(self._url.database)).stat().st_size
        # In a day, PostgreSQL's own daemon does this many times.
        with create_engine(self._url, isolation_level="AUTOCOMMIT").connect() as connection:
            connection.execute(text("VACUUM ANALYZE"))
            size: int = connection.scalar(text("SELECT pg_database_size(current_database())"))
            return size


def _open_window(tx: Transaction, identity: str) -> None:
    key = digest_of("window", identity)
    problem = problems.lock(tx, key, f"bzctrl_default:EXA-CON-BUS-WOR:{identity}").with_failure(
        identity, now=tx.now
    )
    problems.save(tx, key, problem.with_incident(identity, now=tx.now, window_s=_WINDOW_S))


def _next(column: Column[Any], day: int, names: Mapping[str, int]) -> ColumnElement[Any]:
    """Return the value of a column a day later: another name, and each time by a day."""
    if column.name in names:
        return func.substr(column, 1, names[column.name] - 4).concat(f"-{day:03}")
    return column + _DAY_S if isinstance(column.type, Float) else column


def _do_not_wait_for_the_disk(connection: Any, _record: Any) -> None:
    if isinstance(connection, sqlite3.Connection):
        connection.execute("PRAGMA synchronous = OFF")


def _connect(conn_id: str) -> NoReturn:
    raise AssertionError(conn_id)  # nothing waits


def main(rounds: int) -> dict[str, list[float]]:
    """Return the most incidents and bytes, once: they do not depend on the machine."""
    log_at_info()
    event.listen(Engine, "connect", _do_not_wait_for_the_disk)
    days = _DAYS if rounds > 2 else _DAYS_QUICK  # noqa: PLR2004 - the rounds of --quick
    values: dict[str, list[float]] = {}
    for name, url in urls("year").items():
        incidents, megabytes = forked(partial(_Year(url).size, days))
        values[f"year.rows_{name}"], values[f"year.bytes_{name}"] = [incidents], [megabytes]
    return values


if __name__ == "__main__":
    run(main)
