"""The spool: what could not be raised is written to a file, and created later.

```ini
[bzctrl]
spool_path = s3://aws_default@my-bucket/bzctrl-spool
```

One todo is one JSON file ``20261121T191500123456Z-1f0c9a3e.json``, so that the names sort by age. A replay claims a file
before it creates the todo, and deletes it afterwards; ``docs/spool.md`` says what that promises.
"""

from __future__ import annotations

from contextlib import contextmanager
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

from bzctrl_provider.failure import exception_text
from bzctrl_provider.spool.entry import Entry
from bzctrl_provider.spool.replay import Replay, ReplayResult
from bzctrl_provider.spool.store import format_stamp, open_store

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping
    from pathlib import Path

    from airflow.providers.common.compat.sdk import ObjectStoragePath

    from bzctrl_provider.spool.store import Store

__all__ = ["ReplayResult", "replay_spool", "spool_path", "spool_todo"]


def spool_path() -> ObjectStoragePath | None:
    """Return where the spool is, from ``[bzctrl] spool_path`` of Airflow's configuration.

    :return: for example ``ObjectStoragePath("file:///var/spool/bzctrl")``; None where the option is unset or blank.
    :raises ValueError: where it is no address that Airflow knows.
    """
    from airflow.providers.common.compat.sdk import conf

    address = (conf.get("bzctrl", "spool_path", fallback="") or "").strip()
    return _folder(address) if address else None


def spool_todo(
    fields: Mapping[str, Any],
    *,
    bzctrl_conn_id: str,
    reason: str,
    outcome_unknown: bool = False,
    now: datetime | None = None,
) -> str | None:
    """Write a todo into the spool, completely or not at all.

    :param fields: the fields of a todo, as users write them; unset ones are left out. What Airflow masks is masked.
    :param bzctrl_conn_id: the connection to create it with.
    :param reason: why it could not be created; of a longer text than 2,000 characters the beginning and the end.
    :param outcome_unknown: whether it may exist in BzCtrl all the same. Its description will say so then.
    :param now: the time of writing; default: the present.
    :return: the address of the file, such as ``file:///var/spool/bzctrl/20261121T191500123456Z-1f0c9a3e.json``; None
        where no spool is configured.
    :raises OSError: where it could not be written, whatever the reason.
    """
    now = now or _utc_now()
    try:
        folder = spool_path()
        if folder is None:
            return None
        entry = Entry.from_fields(
            fields,
            bzctrl_conn_id=bzctrl_conn_id,
            reason=reason,
            written_at=now,
            outcome_unknown=outcome_unknown,
        )
        store = _store(folder)
        name = f"{format_stamp(now)}.json"
        store.write(name, entry.as_bytes())
    except Exception as exc:
        raise OSError(
            f"The todo could not be written into the spool of BzCtrl: {exception_text(exc)}"
        ) from exc
    return store.address(name)


def replay_spool(
    *,
    bzctrl_conn_id: str | None = None,
    path: ObjectStoragePath | Path | str | None = None,
    limit: int | None = None,
    clock: Callable[[], datetime] | None = None,
) -> ReplayResult:
    """Create what is in the spool, the oldest first, each todo once, and keep what still fails.

    A file is kept with the reason of the last attempt in it. Where the outcome of an attempt is unknown, the next one
    says so in the todo's description. Once a connection cannot be used, or BzCtrl refuses its credentials or cannot be
    reached, the other files of that connection are kept without an attempt.

    :param bzctrl_conn_id: the connection to create them with; default: that of each file.
    :param path: the spool; default: that of the configuration.
    :param limit: how many todos to try to create at the most, 1 or more; default: all.
    :param clock: tells the time, with its zone; default: the present.
    :return: what was created and what was kept, and why.
    :raises ValueError: where there is no spool, or the limit is less than 1.
    :raises OSError: where the spool cannot be listed.
    """
    if limit is not None and limit < 1:
        raise ValueError(f"limit must be 1 or more, not {limit}")
    folder = _folder(str(path)) if path is not None else spool_path()
    if folder is None:
        raise ValueError(
            "There is no spool to replay: set spool_path in the section [bzctrl], or give a path."
        )
    return Replay(_store(folder), conn_id=bzctrl_conn_id, limit=limit, clock=clock or _utc_now).run()


def _folder(address: str) -> ObjectStoragePath:
    from airflow.providers.common.compat.sdk import ObjectStoragePath

    with _usable(address):
        return ObjectStoragePath(address)


def _store(folder: ObjectStoragePath) -> Store:
    with _usable(str(folder)):
        return open_store(folder)


@contextmanager
def _usable(address: str) -> Iterator[None]:
    """Say what to do where Airflow does not know the kind of storage; which of the two steps finds out differs."""
    try:
        yield
    except ValueError as exc:
        kind = address.partition(":")[0]
        raise ValueError(
            f"The spool at {kind}:// cannot be used: {exc}. Correct spool_path in the section [bzctrl], or install the "
            "provider of that store, such as apache-airflow-providers-amazon[s3fs] for s3."
        ) from None


def _utc_now() -> datetime:
    return datetime.now(UTC)
