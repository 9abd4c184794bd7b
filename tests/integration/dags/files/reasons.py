"""DAGs whose incidents say why checks failed: without any setup but the operator."""

from __future__ import annotations

import datetime as dt
from typing import Any

from airflow.providers.common.compat.sdk import DAG, Asset, TaskGroup, get_current_context, task
from airflow.providers.common.sql.operators.sql import (
    SQLCheckOperator,
    SQLColumnCheckOperator,
    SQLExecuteQueryOperator,
    SQLTableCheckOperator,
    SQLValueCheckOperator,
)

from bzctrl_provider.notifications.bzctrl import BzCtrlNotifier
from bzctrl_provider.operators.bzctrl import CreateTodosOperator, IncidentOnFailureOperator

ARGS = {"schedule": None, "start_date": dt.datetime(2026, 1, 1, tzinfo=dt.UTC)}
SQL = {"conn_id": "sea_ports_db"}
DECLARATIONS = Asset("declarations")


@task
def passes() -> None:
    pass


@task(outlets=[DECLARATIONS])
def publishes() -> None:
    pass


@task
def fails() -> None:
    raise ValueError("the totals differ by 12.50")


with DAG("plain_reasons", **ARGS, default_args={"owner": "customs@example.com"}) as plain:
    totals = fails.override(task_id="totals")()
    totals >> IncidentOnFailureOperator(task_id="raise_incident")
    totals >> passes.override(task_id="load")() >> publishes.override(task_id="publish")()
    totals >> passes.override(task_id="clean_up", trigger_rule="all_done")()

with DAG("mapped_reasons", **ARGS) as mapped:

    @task(map_index_template="{{ carrier }}")
    def carrier_known(carrier: str) -> None:
        get_current_context()["carrier"] = carrier
        if carrier in ("DHL", "FedEx"):
            raise ValueError(f"{carrier} has no contract")

    known = carrier_known.expand(carrier=["UPS", "DHL", "GLS", "FedEx"])
    known >> IncidentOnFailureOperator(task_id="raise_incident")

with DAG("grouped", **ARGS) as grouped:
    with TaskGroup("checks") as checks:
        fails.override(task_id="totals")()
        passes.override(task_id="amounts")()
    checks >> IncidentOnFailureOperator(task_id="raise_incident")
    checks >> publishes.override(task_id="publish")()

with DAG("sql", **ARGS) as sql:
    fill = SQLExecuteQueryOperator(
        task_id="fill",
        sql=[
            "DROP TABLE IF EXISTS d",
            "CREATE TABLE d (amount INTEGER, name TEXT)",
            "INSERT INTO d VALUES (NULL, 'Jan Jansen'), (NULL, 'Piet'), (1, 'Klaas'), (7, 'Jan Jansen')",
        ],
        split_statements=False,
        autocommit=True,
        **SQL,
    )
    sql_checks = [
        SQLColumnCheckOperator(
            task_id="amounts",
            table="d",
            column_mapping={
                "amount": {"null_check": {"equal_to": 0}, "min": {"geq_to": 5}, "max": {"leq_to": 10}}
            },
            **SQL,
        ),
        SQLColumnCheckOperator(
            task_id="names", table="d", column_mapping={"name": {"min": {"equal_to": "A"}}}, **SQL
        ),
        SQLTableCheckOperator(
            task_id="rows",
            table="d",
            checks={
                "row_count": {"check_statement": "COUNT(*) > 100"},
                "any": {"check_statement": "COUNT(*) > 0"},
            },
            **SQL,
        ),
        SQLCheckOperator(task_id="complete", sql="SELECT COUNT(*) = 0 FROM d WHERE amount IS NULL", **SQL),
        SQLCheckOperator(task_id="rows_of_people", sql="SELECT name, amount FROM d", **SQL),
        SQLValueCheckOperator(task_id="count", sql="SELECT COUNT(*) FROM d", pass_value=5, **SQL),
    ]
    for check in sql_checks:
        (
            fill
            >> check
            >> IncidentOnFailureOperator(
                task_id=f"raise_{check.task_id}", lrn="{{ failure.tasks[0].checks | length }}"
            )
        )

with DAG("mapped_sql", **ARGS) as mapped_sql:
    SQLValueCheckOperator.partial(
        task_id="count", sql="SELECT 1", map_index_template="{{ task.pass_value }}", **SQL
    ).expand(pass_value=[1, 2, 3]) >> IncidentOnFailureOperator(task_id="raise_incident")

with DAG("notified", **ARGS) as notified:

    @task(map_index_template="{{ carrier }}", on_failure_callback=BzCtrlNotifier())
    def carrier_paid(carrier: str) -> None:
        get_current_context()["carrier"] = carrier
        if carrier == "DHL":
            raise ValueError(f"{carrier} has not paid")

    carrier_paid.expand(carrier=["UPS", "DHL"]) >> publishes.override(task_id="publish")()


with DAG("many_reasons", **ARGS) as many:
    CreateTodosOperator(
        task_id="create",
        todos=[{"title": "one", "description": "first"}, {"title": "two", "description": "second"}],
    )


with DAG("marked_by_hand", **ARGS) as marked_by_hand:

    @task
    def mark(ti: Any = None) -> None:
        """Set the state of a task that has passed, as somebody does in the UI."""
        from airflow.models.taskinstance import TaskInstance
        from airflow.utils.session import create_session

        with create_session() as session:
            of_run = {"dag_id": ti.dag_id, "run_id": ti.run_id, "task_id": "totals"}
            session.query(TaskInstance).filter_by(**of_run).one().set_state("failed", session=session)

    marked = passes.override(task_id="totals")()
    marked >> (marking := mark())
    [marked, marking] >> IncidentOnFailureOperator(task_id="raise_incident")
