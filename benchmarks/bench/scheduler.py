"""The scheduling loops of an Airflow scheduler that fails 1,000 runs and does nothing else.

Without the listener, with it, with the policy, and with the policy and a store that never responds.
"""

from __future__ import annotations

import os
import socket
import sys
import time
from datetime import UTC, datetime, timedelta
from functools import partial
from pathlib import Path
from typing import Any

from bench.databases import urls
from bench.worker import forked, log_at_info, run

_RUNS = 1000
_TASKS = 5
_DAG_ID = "orders_by_country"


def _prepare() -> None:
    """Make Airflow's tables, and the runs, whose tasks have ended."""
    from airflow.models.dagbundle import DagBundleModel
    from airflow.models.serialized_dag import SerializedDagModel
    from airflow.sdk import DAG, BaseOperator
    from airflow.sdk.bases.operator import chain
    from airflow.serialization.definitions.dag import SerializedDAG
    from airflow.serialization.serialized_objects import LazyDeserializedDAG
    from airflow.utils import db
    from airflow.utils.session import create_session
    from airflow.utils.types import DagRunTriggeredByType, DagRunType
    from sqlalchemy import text

    db.initdb()
    began = datetime(2026, 1, 1, tzinfo=UTC)
    with DAG(_DAG_ID, schedule=None, start_date=began, max_active_runs=_RUNS) as dag:
        chain(*(BaseOperator(task_id=f"task_{number}") for number in range(_TASKS)))
    file = Path(os.environ["AIRFLOW_HOME"], "orders.py")
    file.write_text("# The DAG is not parsed.\n", encoding="utf-8")
    dag.fileloc = str(file)
    lazy = LazyDeserializedDAG.from_dag(dag)
    with create_session() as session:
        session.add(DagBundleModel(name="bench"))
        session.flush()
        SerializedDAG.bulk_write_to_db("bench", None, [lazy], session=session)
        SerializedDagModel.write_dag(lazy, bundle_name="bench", session=session)
        session.flush()
        row: Any = SerializedDagModel.get(_DAG_ID, session=session)
        for at in (began + timedelta(minutes=number) for number in range(_RUNS)):
            row.dag.create_dagrun(
                run_id=f"manual__{at:%H:%M}",
                logical_date=at,
                data_interval=(at, at),
                run_after=at,
                run_type=DagRunType.MANUAL,
                triggered_by=DagRunTriggeredByType.TEST,
                state="running",
                start_date=at,
                session=session,
            )
        session.flush()
        session.execute(text("UPDATE task_instance SET state = 'upstream_failed', start_date = now()"))
        session.execute(text("UPDATE task_instance SET state = 'failed' WHERE task_id = 'task_0'"))
        session.execute(text("UPDATE dag SET is_paused = false, is_stale = false"))


def _fail(options: dict[str, str], *, listens: bool = True) -> float:
    """Return the seconds of the scheduling loops until all runs have failed."""
    from airflow.jobs.job import Job
    from airflow.jobs.scheduler_job_runner import SchedulerJobRunner
    from airflow.listeners.listener import get_listener_manager
    from airflow.models import DagRun
    from airflow.utils.session import create_session
    from sqlalchemy import text

    from bzctrl_provider import plugin

    os.environ.update({f"AIRFLOW__BZCTRL__{name}": value for name, value in options.items()})
    sys.argv = ["airflow", "scheduler"]
    job = Job()  # type: ignore[no-untyped-call]
    scheduler = SchedulerJobRunner(job=job)
    manager = get_listener_manager()
    if not listens:
        manager.pm.unregister(plugin)
    with create_session() as session:
        # Another failure than that of the last round.
        session.execute(text("UPDATE dag_run SET state = 'running', clear_number = clear_number + 1"))
    manager.hook.on_starting(component=job)
    loops = _RUNS // DagRun.DEFAULT_DAGRUNS_TO_EXAMINE
    began = time.perf_counter()
    for _ in range(loops):
        with create_session() as session:
            scheduler._do_scheduling(session)  # noqa: SLF001 - one loop
    took_s = time.perf_counter() - began
    with create_session() as session:
        assert not session.scalar(text("SELECT count(*) FROM dag_run WHERE state = 'running'"))
    return took_s


def main(rounds: int) -> dict[str, list[float]]:
    """Return by how much the scheduling loops take longer, round by round."""
    log_at_info()
    os.environ |= {
        "AIRFLOW__DATABASE__SQL_ALCHEMY_CONN": urls("scheduler")["postgresql"],
        # The scheduler does not use it, and its driver is not installed.
        "AIRFLOW__DATABASE__SQL_ALCHEMY_CONN_ASYNC": "sqlite+aiosqlite://",
        "AIRFLOW__SCHEDULER__USE_JOB_SCHEDULE": "False",
    }
    forked(_prepare)
    policy = {"INCIDENT_ON_FAILED_RUN": "True"}
    with socket.create_server(("127.0.0.1", 0)) as silent:
        hanging = f"postgresql+psycopg2://airflow@127.0.0.1:{silent.getsockname()[1]}/airflow"
        contestants = {
            "bare": partial(_fail, {}, listens=False),
            "loaded": partial(_fail, {}),
            "policy": partial(_fail, policy),
            "hangs": partial(_fail, {**policy, "DATABASE": hanging}),
        }
        measured: dict[str, list[float]] = {name: [] for name in contestants}
        for number in range(rounds):
            # In another order each time, because each leaves more dead rows in Airflow's tables.
            for name in [*contestants][number % 4 :] + [*contestants][: number % 4]:
                measured[name].append(forked(contestants[name]))
    bare = measured.pop("bare")
    return {
        "scheduler.run": [took_s / _RUNS * 1e3 for took_s in bare],
        **{
            f"scheduler.{name}": [took_s / base for took_s, base in zip(of, bare, strict=True)]
            for name, of in measured.items()
        },
    }


if __name__ == "__main__":
    run(main)
