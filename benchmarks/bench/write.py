"""The cost of a write into the outbox in a callback's process, the first one and those after it.

The process is forked from one that is like the DAG processor: it has loaded what that loads, with this provider's ``plugin``, and
has written to a database of the same kind, as the DAG processor writes to Airflow's. The tables are there.
"""

from __future__ import annotations

import os
import sys
from functools import partial

import airflow.dag_processing.manager  # noqa: F401 - what is loaded when a callback's process is forked
from airflow.models.errors import ParseImportError
from sqlalchemy import create_engine, delete, select, update
from sqlalchemy.orm import Session

from bench.databases import urls
from bench.todo import FIELDS
from bench.worker import cpu_ms, forked_rounds, log_at_info, run
from bzctrl_provider import plugin
from bzctrl_provider.settings import settings

_FURTHER = 20


def _be_airflow(url: str) -> None:
    """Write one of Airflow's tables, as the DAG processor does all the time."""
    engine = create_engine(url)
    ParseImportError.metadata.create_all(engine, [ParseImportError.__table__])
    with Session(engine) as session:
        session.add(ParseImportError(filename="orders.py", stacktrace="SyntaxError"))
        session.flush()
        session.scalars(select(ParseImportError).where(ParseImportError.filename == "orders.py")).one()
        session.execute(update(ParseImportError).values(stacktrace=""))
        session.execute(delete(ParseImportError).where(ParseImportError.id.in_([1, 2])))
        session.commit()
    engine.dispose()


def _write(url: str, window_s: float) -> tuple[float, float]:
    """Return the CPU milliseconds of the first write, and of one of those after it."""
    os.environ["AIRFLOW__BZCTRL__DATABASE"] = url
    settings()  # a callback has read its options before it writes

    def write() -> None:
        from bzctrl_provider.outbox import Incident, NotRaised, Repeats, identify, write

        run_id = os.urandom(8).hex()
        repeats = Repeats(key=f"orders {run_id}", occurrence=run_id, window_s=window_s) if window_s else None
        incident = Incident(
            identity=identify("orders", run_id),
            bzctrl_conn_id="bzctrl_default",
            fields=FIELDS,
            facts={"dag_id": "orders", "run_id": run_id, "reason": "2 of 5 checks failed", "what": "run"},
            repeats=repeats,
        )
        assert not isinstance(write(incident), NotRaised)

    first = cpu_ms(write)
    return first, sum(cpu_ms(write) for _ in range(_FURTHER)) / _FURTHER


def main(rounds: int) -> dict[str, list[float]]:
    """Return CPU milliseconds."""
    log_at_info()
    sys.argv[1:] = ["dag-processor"]
    plugin.on_starting()
    for url in urls("airflow").values():
        _be_airflow(url)
    stores = urls("write")
    measured = forked_rounds(
        {
            f"{window}{name}": partial(_write, url, window_s)
            for name, url in stores.items()
            for window, window_s in (("", 0.0), ("window_", 3600.0))
        },
        rounds,
    )
    values = {f"write.first_{name}": [first for first, _ in pairs] for name, pairs in measured.items()}
    return values | {f"write.further_{name}": [further for _, further in measured[name]] for name in stores}


if __name__ == "__main__":
    run(main)
