"""The tables of the store. Times are seconds since 1970, by the clock of the database."""

from __future__ import annotations

from typing import TYPE_CHECKING

from sqlalchemy import (
    BigInteger,
    Boolean,
    Column,
    Float,
    Index,
    Integer,
    MetaData,
    String,
    Table,
    Text,
    text,
)
from sqlalchemy.dialects.mysql import MEDIUMTEXT

if TYPE_CHECKING:
    from sqlalchemy.sql.elements import TextClause

VERSION = 1
"""Of the tables. A store with a higher one was made by a newer release of this package."""

METADATA = MetaData()

_KEY = String(64)
_IDENTITY = String(100)
_TIME = Float(53)
_NUMBER = BigInteger().with_variant(Integer(), "sqlite")  # SQLite numbers only rows of this type by itself
_TEXT = Text().with_variant(MEDIUMTEXT(), "mysql").with_variant(MEDIUMTEXT(), "mariadb")

schema = Table(
    "bzctrl_schema",
    METADATA,
    Column("id", Integer, primary_key=True, autoincrement=False),
    Column("version", Integer, nullable=False),
)
"""One row: the version of the tables."""

incident = Table(
    "bzctrl_incident",
    METADATA,
    Column("id", _NUMBER, primary_key=True),
    Column("identity", _IDENTITY, nullable=False, unique=True),
    Column("conn_id", _TEXT, nullable=False),
    # waiting, sending, delivered or rejected
    Column("state", String(10), nullable=False),
    # As JSON, and in `unanswered` the times of the attempts without a response.
    Column("fields", _TEXT, nullable=False),
    Column("facts", _TEXT, nullable=False),
    Column("unanswered", _TEXT, nullable=False),
    # Why it waits or was rejected.
    Column("reason", _TEXT, nullable=False),
    # The identity of the summary that represents it, and whether it is one itself. A summary that was rejected leaves its
    # incidents single: they are sent by themselves.
    Column("summary", _IDENTITY),
    Column("is_summary", Boolean, nullable=False),
    Column("is_single", Boolean, nullable=False),
    Column("todo_key", _TEXT),
    Column("todo_link", _TEXT),
    Column("written_at", _TIME, nullable=False),
    Column("changed_at", _TIME, nullable=False),
    Index("bzctrl_incident_of_state", "state", "changed_at"),
    Index("bzctrl_incident_of_summary", "summary"),
)
"""A todo that waits, is being sent, was delivered or rejected."""

problem = Table(
    "bzctrl_problem",
    METADATA,
    Column("key", _KEY, primary_key=True),
    Column("name", _TEXT, nullable=False),
    # The window: the incident that represents the others, when it was raised, how many it represents, its end, and as JSON the
    # identities that were counted last.
    Column("identity", _IDENTITY),
    Column("raised_at", _TIME),
    Column("count", Integer, nullable=False),
    Column("until", _TIME),
    Column("counted", _TEXT, nullable=False),
    # The failures in a row, or those that a silence covers: the first, the last, and as JSON which were counted last.
    Column("in_a_row", Integer, nullable=False),
    Column("since", _TIME),
    Column("failed_at", _TIME),
    Column("occurrences", _TEXT, nullable=False),
    # Of a source, which has a row of its own: the last success before its last failure, by its clock.
    Column("success_at", _TIME),
    # When the checks of a roll-up last passed.
    Column("passed_at", _TIME),
    Column("changed_at", _TIME, nullable=False),
    Index("bzctrl_problem_changed", "changed_at"),
    Index("bzctrl_problem_of_incident", "identity"),
)
"""Failures that count as the same."""

connection_state = Table(
    "bzctrl_connection_state",
    METADATA,
    Column("key", _KEY, primary_key=True),
    Column("until", _TIME, nullable=False),
    Column("reason", _TEXT, nullable=False),
    # How often in a row BzCtrl has refused its credentials.
    Column("refusals", Integer, nullable=False),
)
"""Until when a connection is not used."""

lease = Table(
    "bzctrl_lease",
    METADATA,
    Column("name", _KEY, primary_key=True),
    Column("holder", _KEY),
    Column("until", _TIME, nullable=False),
    # When any delivery last began, and when one of the delivery DAG did.
    Column("began_at", _TIME, nullable=False),
    Column("scheduled_at", _TIME, nullable=False),
)
"""The process that delivers."""

broken_file = Table(
    "bzctrl_broken_file",
    METADATA,
    Column("key", _KEY, primary_key=True),
    Column("file", _TEXT, nullable=False),
    Column("since", _TIME, nullable=False),
    Column("seen", _TIME, nullable=False),
    Column("gap_s", _TIME, nullable=False),
    Column("is_confirmed", Boolean, nullable=False),
    # written, ignored or nothing yet
    Column("outcome", String(10), nullable=False),
    Index("bzctrl_broken_file_seen", "seen"),
)
"""A DAG file that cannot be imported."""

failed_run = Table(
    "bzctrl_failed_run",
    METADATA,
    Column("id", _NUMBER, primary_key=True),
    Column("key", _KEY, nullable=False, unique=True),
    Column("dag_id", _TEXT, nullable=False),
    Column("run_id", _TEXT, nullable=False),
    # Why it failed, as Airflow says it.
    Column("why", _TEXT, nullable=False),
    # The rest as JSON: the run, its DAG, and the states of its tasks.
    Column("facts", _TEXT, nullable=False),
    Column("noted_at", _TIME, nullable=False),
    # When a delivery decided about it; before that 0.
    Column("decided_at", _TIME, nullable=False),
    Index("bzctrl_failed_run_decided", "decided_at", "id"),
)
"""A run that failed, as the scheduler saw it."""

heartbeat = Table(
    "bzctrl_heartbeat",
    METADATA,
    Column("name", _KEY, primary_key=True),
    Column("seen_at", _TIME, nullable=False),
)
"""When a part of the deployment was last at work: the listener in the scheduler, and the deliveries that raise incidents."""

_CLOCKS = {
    "sqlite": "(julianday('now') - 2440587.5) * 86400.0",
    "postgresql": "CAST(EXTRACT(EPOCH FROM clock_timestamp()) AS DOUBLE PRECISION)",
    "mysql": "UNIX_TIMESTAMP(NOW(6))",
    "mariadb": "UNIX_TIMESTAMP(NOW(6))",
}


def first_query(dialect: str, *, timeout_s: int) -> TextClause:
    """Return the query of the tables' version and the present time in a dialect, which also limits the transaction's statements.

    :param timeout_s: the most seconds of a statement; for PostgreSQL only.
    """
    # As text, because each process begins with it, and its own words take a tenth of the time of its first write.
    columns = ["version", _CLOCKS.get(dialect, "EXTRACT(EPOCH FROM CURRENT_TIMESTAMP)")]
    if dialect == "postgresql":
        # Not as an option of the connection, which PgBouncer refuses, and in the same request to the server.
        columns.append(f"set_config('statement_timeout', '{timeout_s * 1000}', true)")
    return text(f"SELECT {', '.join(columns)} FROM {schema.name}")  # noqa: S608 - of constants
