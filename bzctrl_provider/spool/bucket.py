"""A spool in an object store, which one deliverer at a time works on."""

from __future__ import annotations

import contextlib
import secrets
from datetime import UTC, datetime
from typing import TYPE_CHECKING

from bzctrl_provider.spool.store import MAX_BYTES, UnusableFileError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator


class Bucket:
    """Store objects below an address of Airflow's object storage.

    It has no lock: the delivery DAG, of which one run is active at a time, must be the only deliverer.
    """

    def __init__(self, address: str) -> None:
        from airflow.providers.common.compat.sdk import ObjectStoragePath

        try:
            root = ObjectStoragePath(address)
            self._fs = root.fs
        except ValueError as exc:
            kind = address.partition(":")[0]
            raise ValueError(
                f"The spool at {kind}:// cannot be used: {exc}. Correct spool_path in the section [bzctrl], or install "
                "the provider of that store, such as apache-airflow-providers-amazon[s3fs] for s3."
            ) from None
        # As configured: Airflow 2 writes the addresses of some stores in another way.
        self._address = address.rstrip("/")
        self._prefix = root.path.rstrip("/")

    def address(self, path: str) -> str:
        """Return the whole address of a file."""
        return f"{self._address}/{path}"

    def _key(self, path: str) -> str:
        return f"{self._prefix}/{path}".rstrip("/")

    def create(self, path: str, content: bytes) -> bool:
        """Write a file, if it is not there; return whether it was written."""
        if self.exists(path):
            return False
        self.write(path, content)
        return True

    def write(self, path: str, content: bytes) -> None:
        """Write a file instead of the one that may be there."""
        self._fs.pipe_file(self._key(path), content)

    def read(self, path: str) -> bytes:
        """Return the content of a file."""
        content: bytes = self._fs.cat_file(self._key(path), start=0, end=MAX_BYTES + 1)
        if len(content) > MAX_BYTES:
            raise UnusableFileError(f"it has more than {MAX_BYTES:,} bytes, and a todo has at most 1,000,000")
        return content

    def exists(self, path: str) -> bool:
        """Check whether there is something under this path."""
        self._fs.invalidate_cache()
        return bool(self._fs.exists(self._key(path)))

    def names(self, folder: str = "") -> list[str]:
        """Return the names in a folder."""
        self._fs.invalidate_cache()
        try:
            found = self._fs.ls(self._key(folder), detail=False)
        except FileNotFoundError:
            return []
        return [name for name in (path.rstrip("/").rpartition("/")[2] for path in found) if name]

    def modified_at(self, path: str) -> datetime:
        """Return when a file was written."""
        time: datetime = self._fs.modified(self._key(path))
        return time if time.tzinfo else time.replace(tzinfo=UTC)

    def remove(self, path: str) -> None:
        """Delete a file, if it is there."""
        with contextlib.suppress(FileNotFoundError):
            self._fs.rm_file(self._key(path))

    def move(self, path: str, target: str) -> None:
        """Give a file another path."""
        self._fs.mv(self._key(path), self._key(target))

    def check_writable(self) -> None:
        """Write an object and delete it."""
        path = f".check-{secrets.token_hex(4)}"
        self.write(path, b"")
        self.remove(path)

    @contextlib.contextmanager
    def lock(self, *, wait_s: float, sleep: Callable[[float], object]) -> Iterator[bool]:
        """Do not lock, see the class."""
        del wait_s, sleep
        yield True
