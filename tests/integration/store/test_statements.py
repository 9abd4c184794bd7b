from __future__ import annotations

from dataclasses import replace

import pytest
from sqlalchemy import event, func, select, text
from support.outbox import DAY, HOUR, BzCtrlInMemory, deliver_to, new_incident

from bzctrl_provider.outbox import deliver, deliver_soon, write
from bzctrl_provider.store import schema
from bzctrl_provider.store.repeats import Repeats

ROWS = 20_000


@pytest.fixture
def old_store(used_store, clock):
    """Return a store with many delivered incidents and problems, as a year leaves them, and statistics of them."""
    with used_store.transaction() as tx:
        for table, row in (
            (
                schema.incident,
                {
                    "conn_id": "a",
                    "state": "delivered",
                    "fields": "{}",
                    "facts": "{}",
                    "unanswered": "[]",
                    "reason": "",
                    "is_summary": False,
                    "is_single": False,
                    "written_at": clock.now,
                    "changed_at": clock.now,
                },
            ),
            (
                schema.problem,
                {
                    "name": "",
                    "count": 1,
                    "counted": "[]",
                    "in_a_row": 1,
                    "occurrences": "[]",
                    "changed_at": clock.now,
                },
            ),
            (
                schema.failed_run,
                {
                    "dag_id": "a",
                    "run_id": "r",
                    "why": "",
                    "facts": "{}",
                    "noted_at": clock.now,
                    "decided_at": clock.now,
                },
            ),
        ):
            name = "identity" if table is schema.incident else "key"
            tx.connection.execute(table.insert(), [{name: str(number), **row} for number in range(ROWS)])
    if not used_store.is_file:  # SQLite has none
        with used_store.transaction() as tx:
            tx.connection.execute(text("ANALYZE"))
    return used_store


def count(store):
    with store.transaction() as tx:
        tables = (schema.incident, schema.problem)
        return [tx.connection.scalar(select(func.count()).select_from(table)) for table in tables]


def test_no_statement_reads_all_rows(old_store, monkeypatch):
    """Writing, an idle delivery and one with work cost the same after a year: each statement finds its rows by an index."""
    statements = {}

    def note(connection, cursor, statement, parameters, context, executemany):
        if statement.startswith(("SELECT", "UPDATE", "DELETE")) and "bzctrl_" in statement:
            statements[statement] = parameters[0] if executemany else parameters

    bzctrl = BzCtrlInMemory()
    monkeypatch.setattr("bzctrl_provider.outbox.runner.BzCtrlSender", lambda *_, **__: bzctrl)
    event.listen(old_store._engine, "before_cursor_execute", note)
    deliver_to(old_store, bzctrl)
    deliver_soon()
    for number in range(30):
        repeats = Repeats(key=str(number), occurrence="r", window_s=HOUR)
        write(replace(new_incident(number), repeats=repeats))
    deliver_soon()
    deliver()
    event.remove(old_store._engine, "before_cursor_execute", note)
    assert len(bzctrl.created) == 1
    assert len(statements) > 20
    explain = "EXPLAIN QUERY PLAN" if old_store.is_file else "EXPLAIN"
    scans = {}
    for statement, parameters in statements.items():
        with old_store.transaction() as tx:
            plan = tx.connection.exec_driver_sql(f"{explain} {statement}", parameters)
            for row in plan:
                line = str(row[-1])
                if "SCAN bzctrl_" in line or ("Seq Scan on bzctrl_" in line):
                    scans[statement] = line
    small = ("bzctrl_schema", "bzctrl_lease", "bzctrl_connection_state", "bzctrl_heartbeat")
    assert not {one: line for one, line in scans.items() if not any(name in line for name in small)}


def test_delivery_after_a_long_time_deletes_in_parts(old_store, clock):
    """A delivery that has much to delete keeps nobody from the tables for longer than an instant; the next ones go on."""
    clock.now += 31 * DAY
    for _ in range(3):
        before = count(old_store)
        deliver_to(old_store, BzCtrlInMemory())
        assert [old - new for old, new in zip(before, count(old_store), strict=True)] == [500, 500]
