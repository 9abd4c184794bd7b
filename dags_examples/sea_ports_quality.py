"""A failed data check becomes an incident, and the run stays failed.

Use case: a list of sea ports is loaded, checked, and published to the people who book ships. A port without coordinates, or
with coordinates in the wrong sea, cannot be booked and costs money until the data is fixed. If a check fails, one incident
has the failed checks, the amount at stake, and a link to the run.

::

    load ─> check_… (one task for each rule) ─┬─> publish
                                              └─> what_failed ─> raise_incident

Good to know:

* The checks are Airflow's own SQL checks.
* ``what_failed`` waits for *all* checks (``all_done``) and is skipped if every rule holds; ``one_failed`` would run after
  the first failure, while other checks are still running.
* ``raise_incident`` succeeds, and Airflow marks a run as successful if its last tasks succeed. The run stays failed
  because ``publish`` is downstream of the same checks and becomes ``upstream_failed``.

It needs two connections: ``bzctrl_default``, and ``sea_ports_db`` of type ``sqlite``, whose host is the path of a writable
file. ``data/README.md`` names the source and the licence of the data.
"""

from __future__ import annotations

import csv
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from airflow.providers.common.compat.sdk import DAG, AirflowSkipException, task
from airflow.providers.common.sql.operators.sql import SQLCheckOperator

from bzctrl_provider.operators.bzctrl import CreateTodoOperator

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
        SQLCheckOperator(
            task_id=f"check_{rule}",
            conn_id=DB,
            # Airflow's check fails where a value of the first row is false.
            sql=f"SELECT COUNT(*) = 0 FROM sea_ports WHERE {faulty}",  # noqa: S608 - the conditions stand above
        )
        for rule, faulty in FAULTY_WHERE.items()
    ]

    @task
    def publish() -> None:
        """Hand the ports on to the booking system; here, say so."""
        print("The list of sea ports is published.")  # noqa: T201 - what a task prints is in its log

    @task(trigger_rule="all_done")
    def what_failed() -> dict[str, Any]:
        """Name the broken rules with their ports, or skip where there are none."""
        from airflow.providers.sqlite.hooks.sqlite import SqliteHook

        db = SqliteHook(sqlite_conn_id=DB)
        broken = {}
        for rule, faulty in FAULTY_WHERE.items():
            sql = f"SELECT unlocode, name FROM sea_ports WHERE {faulty} ORDER BY unlocode"  # noqa: S608 - as above
            if ports := db.get_records(sql):
                broken[rule] = [f"{unlocode} {name}" for unlocode, name in ports]
        if not broken:
            raise AirflowSkipException("Every rule holds.")
        ports = {port for listed in broken.values() for port in listed}
        return {
            "rules": len(broken),
            "ports": len(ports),
            "amount": len(ports) * EUR_PER_PORT,
            "lines": "\n".join(f"- {rule}: {', '.join(listed)}" for rule, listed in broken.items()),
        }

    found = what_failed()

    raise_incident = CreateTodoOperator(
        task_id="raise_incident",
        title="Sea ports: {{ ti.xcom_pull('what_failed')['ports'] }} ports cannot be booked",
        description=(
            "{{ ti.xcom_pull('what_failed')['rules'] }} of "
            f"{len(FAULTY_WHERE)} checks failed in the DAG {{{{ dag.dag_id }}}}, nothing was published.\n"
            "{{ ti.xcom_pull('what_failed')['lines'] }}\n"
            "Run: {{ ti.log_url }}"
        ),
        financial_impact="{{ ti.xcom_pull('what_failed')['amount'] }}",
        impact="HIGH",
        likelihood="HIGH",
        priority="HIGH",
        category=["Data quality"],
    )

    load() >> checks >> publish()
    checks >> found >> raise_incident
