"""The tables of the store. Times are seconds since 1970, by the clock of the database."""

from __future__ import annotations

import sqlalchemy as sa
from sqlalchemy.dialects.mysql import MEDIUMTEXT

VERSION = 1
"""Of the tables. A store with a higher one was made by a newer release of this package."""

METADATA = sa.MetaData()

_KEY = sa.String(64)
_IDENTITY = sa.String(100)
_TIME = sa.Float(53)
# SQLite numbers only rows of this type by itself.
_NUMBER = sa.BigInteger().with_variant(sa.Integer(), "sqlite")
_TEXT = sa.Text().with_variant(MEDIUMTEXT(), "mysql").with_variant(MEDIUMTEXT(), "mariadb")

schema = sa.Table(
    "bzctrl_schema",
    METADATA,
    sa.Column("id", sa.Integer, primary_key=True, autoincrement=False),
    sa.Column("version", sa.Integer, nullable=False),
)
"""One row: the version of the tables."""

incident = sa.Table(
    "bzctrl_incident",
    METADATA,
    sa.Column("id", _NUMBER, primary_key=True),
    sa.Column("identity", _IDENTITY, nullable=False, unique=True),
    sa.Column("conn_id", _TEXT, nullable=False),
    # waiting, sending, delivered or rejected
    sa.Column("state", sa.String(10), nullable=False),
    # As JSON, and in `unanswered` the times of the attempts without a response.
    sa.Column("fields", _TEXT, nullable=False),
    sa.Column("facts", _TEXT, nullable=False),
    sa.Column("unanswered", _TEXT, nullable=False),
    # Why it waits or was rejected.
    sa.Column("reason", _TEXT, nullable=False),
    # The identity of the summary that represents it, and whether it is one itself. A summary that was rejected leaves its
    # incidents single: they are sent by themselves.
    sa.Column("summary", _IDENTITY),
    sa.Column("is_summary", sa.Boolean, nullable=False),
    sa.Column("is_single", sa.Boolean, nullable=False),
    sa.Column("todo_key", _TEXT),
    sa.Column("todo_link", _TEXT),
    sa.Column("written_at", _TIME, nullable=False),
    sa.Column("changed_at", _TIME, nullable=False),
    sa.Index("bzctrl_incident_of_state", "state", "changed_at"),
    sa.Index("bzctrl_incident_of_summary", "summary"),
)
"""A todo that waits, is being sent, was delivered or rejected."""

problem = sa.Table(
    "bzctrl_problem",
    METADATA,
    sa.Column("key", _KEY, primary_key=True),
    sa.Column("name", _TEXT, nullable=False),
    # The window: the incident that represents the others, when it was raised, how many it represents, its end, and as JSON the
    # identities that were counted last.
    sa.Column("identity", _IDENTITY),
    sa.Column("raised_at", _TIME),
    sa.Column("count", sa.Integer, nullable=False),
    sa.Column("until", _TIME),
    sa.Column("counted", _TEXT, nullable=False),
    # The failures in a row, or those that a silence covers: the first, the last, and as JSON which were counted last.
    sa.Column("in_a_row", sa.Integer, nullable=False),
    sa.Column("since", _TIME),
    sa.Column("failed_at", _TIME),
    sa.Column("occurrences", _TEXT, nullable=False),
    # Of a source, which has a row of its own: the last success before its last failure, by its clock.
    sa.Column("success_at", _TIME),
    # When the checks of a roll-up last passed.
    sa.Column("passed_at", _TIME),
    sa.Column("changed_at", _TIME, nullable=False),
    sa.Index("bzctrl_problem_changed", "changed_at"),
    sa.Index("bzctrl_problem_of_incident", "identity"),
)
"""Failures that count as the same."""

connection_state = sa.Table(
    "bzctrl_connection_state",
    METADATA,
    sa.Column("key", _KEY, primary_key=True),
    sa.Column("until", _TIME, nullable=False),
    sa.Column("reason", _TEXT, nullable=False),
    # How often in a row BzCtrl has refused its credentials.
    sa.Column("refusals", sa.Integer, nullable=False),
)
"""Until when a connection is not used."""

lease = sa.Table(
    "bzctrl_lease",
    METADATA,
    sa.Column("name", _KEY, primary_key=True),
    sa.Column("holder", _KEY),
    sa.Column("until", _TIME, nullable=False),
    # When any delivery last began, and when one of the delivery DAG did.
    sa.Column("began_at", _TIME, nullable=False),
    sa.Column("scheduled_at", _TIME, nullable=False),
)
"""The process that delivers."""

broken_file = sa.Table(
    "bzctrl_broken_file",
    METADATA,
    sa.Column("key", _KEY, primary_key=True),
    sa.Column("file", _TEXT, nullable=False),
    sa.Column("since", _TIME, nullable=False),
    sa.Column("seen", _TIME, nullable=False),
    sa.Column("gap_s", _TIME, nullable=False),
    sa.Column("is_confirmed", sa.Boolean, nullable=False),
    # written, ignored or nothing yet
    sa.Column("outcome", sa.String(10), nullable=False),
    sa.Index("bzctrl_broken_file_seen", "seen"),
)
"""A DAG file that cannot be imported."""

failed_run = sa.Table(
    "bzctrl_failed_run",
    METADATA,
    sa.Column("id", _NUMBER, primary_key=True),
    sa.Column("key", _KEY, nullable=False, unique=True),
    sa.Column("dag_id", _TEXT, nullable=False),
    sa.Column("run_id", _TEXT, nullable=False),
    # Why it failed, as Airflow says it.
    sa.Column("why", _TEXT, nullable=False),
    # The rest as JSON: the run, its DAG, and the states of its tasks.
    sa.Column("facts", _TEXT, nullable=False),
    sa.Column("noted_at", _TIME, nullable=False),
    # When a delivery decided about it; before that 0.
    sa.Column("decided_at", _TIME, nullable=False),
    sa.Index("bzctrl_failed_run_decided", "decided_at", "id"),
)
"""A run that failed, as the scheduler saw it."""

heartbeat = sa.Table(
    "bzctrl_heartbeat",
    METADATA,
    sa.Column("name", _KEY, primary_key=True),
    sa.Column("seen_at", _TIME, nullable=False),
)
"""When a part of the deployment was last at work: the listener in the scheduler, and the deliveries that raise incidents."""

_CLOCKS = {
    "sqlite": "(julianday('now') - 2440587.5) * 86400.0",
    "postgresql": "CAST(EXTRACT(EPOCH FROM clock_timestamp()) AS DOUBLE PRECISION)",
    "mysql": "UNIX_TIMESTAMP(NOW(6))",
    "mariadb": "UNIX_TIMESTAMP(NOW(6))",
}


def first_query(dialect: str, *, timeout_s: int) -> sa.TextClause:
    """Return the query of the tables' version and the present time in a dialect, which also limits the transaction's statements.

    :param timeout_s: the most seconds of a statement; for PostgreSQL only.
    """
    # As text, because each process begins with it, and its own words take a tenth of the time of its first write.
    columns = ["version", _CLOCKS.get(dialect, "EXTRACT(EPOCH FROM CURRENT_TIMESTAMP)")]
    if dialect == "postgresql":
        # Not as an option of the connection, which PgBouncer refuses, and in the same request to the server.
        columns.append(f"set_config('statement_timeout', '{timeout_s * 1000}', true)")
    return sa.text(f"SELECT {', '.join(columns)} FROM {schema.name}")  # noqa: S608 - of constants
