"""Writing into the spool, which needs no network for a local one, and loads neither requests nor pydantic."""

from __future__ import annotations

import json
import secrets
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

from airflow.configuration import get_airflow_home

from bzctrl_provider.metrics import count_todos
from bzctrl_provider.reason_text import exception_text
from bzctrl_provider.settings import settings
from bzctrl_provider.spool.bucket import Bucket
from bzctrl_provider.spool.entry import Entry
from bzctrl_provider.spool.folder import Folder
from bzctrl_provider.spool.store import UnusableFileError

if TYPE_CHECKING:
    import os
    from collections.abc import Mapping

    from bzctrl_provider.spool.store import Store

DELIVERED = "delivered"
REJECTED = "rejected"


@dataclass(frozen=True, kw_only=True)
class WriteResult:
    """Hold the result of writing an entry.

    :param address: its file, or that of the entry with the same identity.
    :param already: whether the spool had one with this identity: waiting, rejected, or delivered in the last 7 days.
    :param key: the key of the todo that was created for it; None if it waits or was rejected.
    :param link: the address of that todo.
    """

    address: str
    already: bool = False
    key: str | None = None
    link: str | None = None


def spool_path() -> str:
    """Return where the spool is, from ``[bzctrl] spool_path`` of Airflow's configuration.

    :return: for example ``/opt/airflow/bzctrl_spool``, which is the default for an ``AIRFLOW_HOME`` of ``/opt/airflow``.
    """
    return settings().spool_path or default_folder()


def default_folder() -> str:
    """Return the folder of the spool of this machine, which is the default for ``spool_path``."""
    return str(Path(get_airflow_home()).absolute() / "bzctrl_spool")


def find_folder(address: str) -> Path | None:
    """Return the path of a spool in a folder; None for an object store.

    :param address: see ``open_store``.
    :raises ValueError: if the path is relative.
    """
    scheme, separator, rest = address.partition("://")
    if separator and scheme not in ("file", "local"):
        return None
    path = Path(rest if separator else address)
    if not path.is_absolute():
        raise ValueError(
            f"The spool {address} is not an absolute path: set spool_path in the section [bzctrl] to one, or remove it, "
            "because each process has its own working directory."
        )
    return path


def open_store(address: str) -> Store:
    """Return the store at an address.

    :param address: an absolute path, ``file:///path``, or an address of Airflow's object storage such as
        ``s3://conn_id@bucket/prefix``.
    :raises ValueError: if Airflow does not know this kind of storage, or the path is relative.
    """
    path = find_folder(address)
    if path is None:
        return Bucket(address)
    return Folder(path)


def open_local_spool() -> Store | None:
    """Return the store of the configured spool if it is a folder; None for an object store, which is not opened.

    :raises ValueError: if the path is relative.
    """
    folder = find_folder(spool_path())
    return Folder(folder) if folder is not None else None


def write_entry(entry: Entry, *, path: str | os.PathLike[str] | None = None) -> WriteResult:
    """Write an entry into the spool, completely or not at all, and only once for each identity.

    :param entry: its fields and facts are converted to plain JSON, in which Airflow's secrets are masked.
    :param path: the spool; default: that of the configuration.
    :return: where it is.
    :raises OSError: if it could not be written, whatever the reason. The caller must log the whole payload then.
    """
    address = str(path) if path is not None else spool_path()
    try:
        written = _write(open_store(address), entry.redacted())
    except Exception as exc:
        raise OSError(
            f"The incident could not be written into the spool {address}: {exception_text(exc)}. Make it a folder that "
            "this process may write to, or set spool_path in the section [bzctrl]."
        ) from exc
    if not written.already:
        count_todos("spooled", todo_type=entry.fields.get("todo_type"))
    return written


def _write(store: Store, entry: Entry) -> WriteResult:
    name = f"{entry.identity}.json"
    if delivered := _delivered(store, name):
        return delivered
    if store.exists(f"{REJECTED}/{name}"):
        return WriteResult(address=store.address(f"{REJECTED}/{name}"), already=True)
    is_new = store.create(name, entry.as_bytes())
    # Once more: a delivery leaves the tombstone before it deletes the file, so one of the two was there all the time.
    if is_new and (delivered := _delivered(store, name)):
        store.remove(name)
        return delivered
    return WriteResult(address=store.address(name), already=not is_new)


def _delivered(store: Store, name: str) -> WriteResult | None:
    path = f"{DELIVERED}/{name}"
    if not store.exists(path):
        return None
    try:
        data = json.loads(store.read(path))
    except (FileNotFoundError, UnusableFileError, ValueError, RecursionError):
        data = {}
    facts: Mapping[str, Any] = data if isinstance(data, dict) else {}
    key, link = facts.get("key"), facts.get("link")
    return WriteResult(
        address=store.address(path),
        already=True,
        key=key if isinstance(key, str) else None,
        link=link if isinstance(link, str) else None,
    )


def spool_todo(
    fields: Mapping[str, Any],
    *,
    bzctrl_conn_id: str,
    reason: str,
    outcome_unknown: bool = False,
    identity: str | None = None,
    facts: Mapping[str, str] | None = None,
    now: datetime | None = None,
) -> str:
    """Write a todo that could not be created into the spool, completely or not at all.

    :param fields: the fields of a todo, as users write them; unset ones are left out. Secrets that Airflow masks are masked.
    :param bzctrl_conn_id: the connection to create it with.
    :param reason: why it could not be created; of a longer text than 2,000 characters the beginning and the end.
    :param outcome_unknown: whether it may exist in BzCtrl all the same. Its description will say so then.
    :param identity: from ``identify``; a second todo of the same identity is not written. Default: one that no other
        todo has.
    :param facts: see ``Entry``.
    :param now: the time of writing; default: the present.
    :return: the address of the file, such as ``file:///opt/airflow/bzctrl_spool/6f1ed002ab5595859014ebf0951522d9.json``.
    :raises OSError: if it could not be written, whatever the reason.
    """
    entry = Entry(
        fields=fields,
        bzctrl_conn_id=bzctrl_conn_id,
        identity=identity or secrets.token_hex(16),
        spooled_at=now or datetime.now(UTC),
        reason=reason,
        facts=facts or {},
    )
    if outcome_unknown:
        entry = entry.after_unanswered(entry.spooled_at)
    return write_entry(entry).address
