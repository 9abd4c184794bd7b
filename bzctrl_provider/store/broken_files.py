"""The statements on DAG files that cannot be imported."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from sqlalchemy import delete, select

from bzctrl_provider.store import schema
from bzctrl_provider.text import digest_of

if TYPE_CHECKING:
    from bzctrl_provider.store.database import Transaction

_KEPT_S = 7 * 86_400.0

_table = schema.broken_file
_c = _table.c


@dataclass(frozen=True, kw_only=True)
class BrokenFile:
    """A DAG file from the first parse that fails to its repair. Times are seconds since 1970.

    :param file: the path of the file.
    :param since: when it was first seen broken.
    :param seen: when it was last seen broken.
    :param gap_s: the seconds between the last two times.
    :param is_confirmed: whether Airflow has said "existing" at least once.
    :param outcome: ``written`` if its incident was raised, ``ignored`` if a route ignores it; otherwise empty.
    """

    file: str
    since: float
    seen: float
    gap_s: float = 0.0
    is_confirmed: bool = False
    outcome: str = ""


def lock(tx: Transaction, file: str) -> BrokenFile | None:
    """Return what is known of a file, and keep others from it until the transaction ends; None if it is new.

    Two processes that see a new file at the same moment write the same row, the second one after the first.
    """
    query = select(_table).where(_c.key == digest_of(file)).with_for_update()
    row = tx.connection.execute(query).mappings().first()
    return BrokenFile(**{name: row[name] for name in BrokenFile.__dataclass_fields__}) if row else None


def save(tx: Transaction, broken: BrokenFile) -> None:
    """Write what is known of a file."""
    tx.write(_table, "key", {"key": digest_of(broken.file), **vars(broken)})


def prune(tx: Transaction) -> None:
    """Delete files that were not broken for 7 days."""
    tx.connection.execute(delete(_table).where(_c.seen < tx.now - _KEPT_S))
