"""The statements on runs that failed, and on the heartbeats of the parts that work with them."""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Literal, NamedTuple

from sqlalchemy import delete, select, update

from bzctrl_provider.store import schema
from bzctrl_provider.store.database import PARAMETERS
from bzctrl_provider.text import digest_of, plain_text

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from bzctrl_provider.store.database import Database, Transaction

Part = Literal["scheduler", "delivery"]
"""The listener in a scheduler, and a whole delivery."""

_KEPT_S = 7 * 86_400.0
"""How long a run is known after the decision: Airflow may fail it again if a scheduler ended before its commit."""

_table = schema.failed_run
_c = _table.c
_beat = schema.heartbeat

_COLUMNS = ("dag_id", "run_id", "why")


@dataclass(frozen=True, kw_only=True)
class FailedRun:
    """A run of a DAG that failed, as the scheduler saw it, in plain JSON.

    :param dag_id: the id of the DAG.
    :param run_id: the id of the run.
    :param cleared: how often the run was cleared.
    :param started_at: when it started: a run that was deleted and made again is another one.
    :param why: Airflow's reason, such as ``task_failure``.
    :param run_type: the type of the run.
    :param logical_date: in ISO 8601; None if it has none.
    :param tags: of the DAG; None if they are not known.
    :param owner: of the DAG.
    :param team: of the DAG; None if it is not known.
    :param states: for each task the state of each of its instances, by map index.
    :param operators: for each failed task the name of its ``operator``, and its ``owner``.
    :param did_not_run: the ids of the tasks that did not run because of failed ones.
    :param not_updated: the names of the assets that were not updated.
    :param roll_ups: the tasks of the DAG that raise incidents, each with the ids of the tasks before it, and whether a failure of
        these belongs to its first instance.
    """

    dag_id: str
    run_id: str
    cleared: int | None = None
    started_at: str = ""
    why: str = ""
    run_type: str | None = None
    logical_date: str | None = None
    tags: Sequence[str] | None = None
    owner: str | None = None
    team: str | None = None
    states: Mapping[str, Mapping[int, str]] = field(default_factory=dict)
    operators: Mapping[str, Mapping[str, str | None]] = field(default_factory=dict)
    did_not_run: Sequence[str] = ()
    not_updated: Sequence[str] = ()
    roll_ups: Mapping[str, Mapping[str, bool]] = field(default_factory=dict)

    @property
    def key(self) -> str:
        """Return what one failure of one run has for itself, in each process that sees it."""
        return digest_of(self.dag_id, self.run_id, self.cleared, self.started_at)


class Noted(NamedTuple):
    """A row of the table.

    :param number: of the row.
    :param key: of the run.
    :param noted_at: when Airflow last failed it.
    :param run: the run.
    """

    number: int
    key: str
    noted_at: float
    run: FailedRun


def add_all(store: Database, runs: Sequence[FailedRun]) -> None:
    """Write runs that have different keys, and note that Airflow fails those that are known once more."""
    with store.transaction() as tx:
        # In one order in all processes, so that no two of them wait for each other.
        if tx.insert(_table, [_row(run, tx.now) for run in sorted(runs, key=lambda run: run.key)]):
            return
    # One is known. A transaction that holds it and waits for another could wait for one that waits for this.
    for run in runs:
        with store.transaction() as tx:
            add(tx, run)


def add(tx: Transaction, run: FailedRun) -> None:
    """Write a run, or note that Airflow fails a known one once more."""
    again = update(_table).where(_c.key == run.key).values(noted_at=tx.now)
    while not tx.insert(_table, _row(run, tx.now)):
        # A delivery must not forget it now; if one has done so since, it is written after all.
        if tx.connection.execute(again).rowcount:
            return


def list_undecided(tx: Transaction, *, after: int = 0) -> list[Noted]:
    """Return the next runs about which nothing is decided, the oldest first.

    :param after: the number of the last row that the caller has.
    """
    query = select(_table).where(_c.decided_at == 0.0, _c.id > after).order_by(_c.id).limit(PARAMETERS)
    return [
        Noted(number=row["id"], key=row["key"], noted_at=row["noted_at"], run=_run(row))
        for row in tx.connection.execute(query).mappings()
    ]


def count_undecided(tx: Transaction) -> tuple[int, float | None]:
    """Return about how many runs nothing is decided, and when the oldest was noted."""
    return tx.count_rows(_c.noted_at, _c.decided_at == 0.0)


def note_decided(tx: Transaction, key: str) -> None:
    """Note that the decision about a run is made."""
    tx.connection.execute(update(_table).where(_c.key == key).values(decided_at=tx.now))


def forget(tx: Transaction, noted: Noted) -> None:
    """Delete a run, unless Airflow has failed it once more since it was listed; the next time, it is written again."""
    tx.connection.execute(delete(_table).where(_c.key == noted.key, _c.noted_at == noted.noted_at))


def prune(tx: Transaction) -> None:
    """Delete runs 7 days after the decision."""
    tx.prune(_c.id, _c.decided_at > 0.0, _c.decided_at < tx.now - _KEPT_S)


def note_heartbeat(tx: Transaction, part: Part) -> None:
    """Note that a part of the deployment is at work now."""
    tx.write(_beat, "name", {"name": part, "seen_at": tx.now})


def find_heartbeat(tx: Transaction, part: Part) -> float | None:
    """Return when a part of the deployment was last at work, in seconds since 1970; None for never."""
    at: float | None = tx.connection.scalar(select(_beat.c.seen_at).where(_beat.c.name == part))
    return at


def _row(run: FailedRun, now: float) -> dict[str, Any]:
    return {
        "key": run.key,
        **{name: plain_text(getattr(run, name)) for name in _COLUMNS},
        "facts": json.dumps({name: value for name, value in vars(run).items() if name not in _COLUMNS}),
        "noted_at": now,
        "decided_at": 0.0,
    }


def _run(row: Mapping[Any, Any]) -> FailedRun:
    facts = json.loads(row["facts"])
    # JSON has texts as keys.
    facts["states"] = {
        task_id: {int(index): state for index, state in instances.items()}
        for task_id, instances in facts["states"].items()
    }
    return FailedRun(**{name: row[name] for name in _COLUMNS}, **facts)
