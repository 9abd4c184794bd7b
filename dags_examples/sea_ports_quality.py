"""A failed data check becomes an incident with the amount at stake, and the run stays failed.

Use case: a list of sea ports is loaded, checked, and published to the people who book ships. A port without coordinates, or
with coordinates in the wrong sea, cannot be booked and costs money until the data is fixed. If a check fails, one incident
has the failed checks, the amount at stake, and the addresses of the run and of the log of each failed check.

::

    load ─> check_… (one task for each rule) ─┬─> publish
                                              └─> raise_incident

Good to know:

* The checks are Airflow's own SQL checks: each counts the ports that violate its rule.
* ``raise_incident`` waits for *all* checks, and is skipped if every rule holds. ``one_failed`` would run after the first
  failure, while other checks are still running.
* Its templates use ``failure``: each failed check has the number of ports as its actual value. The description is the
  generated one.
* ``raise_incident`` succeeds, and the run stays failed all the same; ``publish`` does not run.

It needs two connections: ``bzctrl_default``, and ``sea_ports_db`` of type ``sqlite``, whose host is the path of a writable
file. ``data/README.md`` names the source and the licence of the data.
"""

from __future__ import annotations

import csv
from datetime import UTC, datetime
from pathlib import Path

from airflow.providers.common.compat.sdk import DAG, task
from airflow.providers.common.sql.operators.sql import SQLValueCheckOperator

from bzctrl_provider.operators.bzctrl import IncidentOnFailureOperator

SEA_PORTS = Path(__file__).parent / "data" / "sea_ports.csv"
DB = "sea_ports_db"

EUR_PER_PORT = 1250
"""EUR that a port costs which cannot be booked: an assumption of this example."""

FAULTY_WHERE = {
    "code_unique": "unlocode IN (SELECT unlocode FROM sea_ports GROUP BY unlocode HAVING COUNT(*) > 1)",
    "name_present": "COALESCE(TRIM(name), '') = ''",
    "coordinates_present": "longitude IS NULL OR latitude IS NULL",
    "coordinates_in_europe": "longitude NOT BETWEEN -32 AND 45 OR latitude NOT BETWEEN 27 AND 82",
}
"""The SQL condition of each rule, which selects the ports that violate it."""

FAULTY_PORTS = (
    "failure.tasks | map(attribute='checks') | sum(start=()) | map(attribute='actual') | map('int') | sum"
)
"""The ports that violate a rule, as an expression for a template."""


with DAG(
    dag_id="sea_ports_quality",
    schedule=None,
    start_date=datetime(2026, 1, 1, tzinfo=UTC),
    catchup=False,
    tags=["bzctrl", "example"],
    doc_md=__doc__,
) as dag:

    @task
    def load() -> int:
        """Read the file into a fresh table."""
        from airflow.providers.sqlite.hooks.sqlite import SqliteHook

        with SEA_PORTS.open(encoding="utf-8", newline="") as file:
            header, *ports = csv.reader(file)
        db = SqliteHook(sqlite_conn_id=DB)
        db.run(
            [
                "DROP TABLE IF EXISTS sea_ports",
                """CREATE TABLE sea_ports (
                    unlocode TEXT, name TEXT, country TEXT, longitude REAL, latitude REAL,
                    timezone TEXT, schedule_k TEXT
                )""",
            ]
        )
        db.insert_rows(
            "sea_ports", [[value or None for value in port] for port in ports], target_fields=header
        )
        return len(ports)

    checks = [
        SQLValueCheckOperator(
            task_id=f"check_{rule}",
            conn_id=DB,
            sql=f"SELECT COUNT(*) FROM sea_ports WHERE {faulty}",  # noqa: S608 - the conditions are above
            pass_value=0,
        )
        for rule, faulty in FAULTY_WHERE.items()
    ]

    @task
    def publish() -> None:
        """Hand the ports on to the booking system; here, say so."""
        print("The list of sea ports is published.")  # noqa: T201 - what a task prints is in its log

    load() >> checks >> publish()
    checks >> IncidentOnFailureOperator(
        task_id="raise_incident",
        title=f"Sea ports: {{{{ {FAULTY_PORTS} }}}} ports cannot be booked",
        financial_impact=f"{{{{ {EUR_PER_PORT} * ({FAULTY_PORTS}) }}}}",
        impact="HIGH",
        likelihood="HIGH",
        priority="HIGH",
        category=["Data quality"],
    )
