"""How near a delivery comes to the time that the server's latency takes, and what old rows cost one that finds nothing to do."""

from __future__ import annotations

import os
import time
from functools import partial
from typing import TYPE_CHECKING, Any

from airflow.sdk import BaseHook

from bench.databases import urls
from bench.figures import ratios
from bench.processes import LATENCY_MS
from bench.todo import FIELDS
from bench.worker import forked, forked_rounds, log_at_info, run

if TYPE_CHECKING:
    from bzctrl_provider.outbox import DeliveryResult

_WAITING = 5_000
_WAITING_QUICK = 320
_OLD = 100_000
_IDLE = 5
_THREADS = 8


def rows(number: int, *, first: int = 0, at: float, state: str) -> list[dict[str, Any]]:
    """Return rows of incidents, each of a run of its own, as the store has them."""
    import json

    from bzctrl_provider.outbox import identify

    fields = json.dumps(FIELDS)
    created = {
        "todo_key": "EXA-CON-BUS-WOR-03",
        "todo_link": "https://www.bzctrl.com/app/#/todo/EXA-CON-BUS-WOR-03",
    }
    return [
        {
            "identity": identify("orders", index),
            "conn_id": "bzctrl_default",
            "state": state,
            "fields": fields,
            "facts": json.dumps(
                {"dag_id": "orders", "run_id": f"scheduled__{index}", "reason": "2 of 5 checks failed"}
            ),
            "unanswered": "[]",
            "reason": "",
            "summary": None,
            "is_summary": False,
            "is_single": False,
            **(created if state == "delivered" else dict.fromkeys(created)),
            "written_at": at,
            "changed_at": at,
        }
        for index in range(first, first + number)
    ]


def _fill(url: str, number: int, state: str) -> None:
    from sqlalchemy import delete, insert

    from bzctrl_provider.store import schema
    from bzctrl_provider.store.database import Database

    with Database(url).transaction() as tx:
        tx.connection.execute(delete(schema.incident))
        if number:
            tx.connection.execute(insert(schema.incident), rows(number, at=tx.now, state=state))


def _deliver(url: str) -> DeliveryResult:
    os.environ["AIRFLOW__BZCTRL__DATABASE"] = url
    os.environ["AIRFLOW__BZCTRL__GROUP_ABOVE"] = "0"
    from bzctrl_provider.outbox import deliver

    return deliver()


def _share(url: str, number: int) -> float:
    """Return the share of the latency bound in the time of a delivery."""
    forked(partial(_fill, url, number, "waiting"))
    began = time.perf_counter()
    result = _deliver(url)
    took_s = time.perf_counter() - began
    assert len(result.created) == number
    return number / _THREADS * LATENCY_MS / 1000 / took_s


def _idle(url: str) -> float:
    """Return the seconds of a delivery that finds nothing to do."""
    _deliver(url)
    began = time.perf_counter()
    for _ in range(_IDLE):
        result = _deliver(url)
        assert not result.busy
    return (time.perf_counter() - began) / _IDLE


def main(rounds: int) -> dict[str, list[float]]:
    """Return the shares, and the ratios of a delivery with old rows to one without."""
    BaseHook.get_connection("bzctrl_default")  # in a task, Airflow's own look-up is loaded
    log_at_info()
    values: dict[str, list[float]] = {}
    old, none, full = urls("old"), urls("none"), urls("full")
    for name in full:
        forked(partial(_fill, none[name], 0, ""))
        forked(partial(_fill, old[name], _OLD, "delivered"))
        idle = forked_rounds(
            {"old": partial(_idle, old[name]), "none": partial(_idle, none[name])}, 10 * rounds
        )
        values[f"delivery.idle_{name}"] = ratios(idle["old"], idle["none"])
        waiting = _WAITING if rounds > 2 else _WAITING_QUICK  # noqa: PLR2004 - the rounds of --quick
        values[f"delivery.share_{name}"] = [
            forked(partial(_share, full[name], waiting)) for _ in range(rounds)
        ]
    return values


if __name__ == "__main__":
    run(main)
