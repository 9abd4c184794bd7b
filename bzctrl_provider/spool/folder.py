"""A spool in a local folder, or in one that is mounted from a file server."""

from __future__ import annotations

import contextlib
import errno
import fcntl
import os
import secrets
import stat
import time
from datetime import UTC, datetime
from typing import TYPE_CHECKING

from bzctrl_provider.spool.store import MAX_BYTES, UnusableFileError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

_LOCK = ".lock"
_POLL_S = 0.05
_PROBE_BYTES = 4096

_NO_LINKS = (errno.EPERM, errno.ENOTSUP, errno.EOPNOTSUPP, errno.ENOSYS, errno.EMLINK)


class Folder:
    """Store files of mode 0600 in a folder of mode 0700, which is made when the first file is written."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder

    def address(self, path: str) -> str:
        """Return the whole address of a file."""
        return f"file://{self._folder}/{path}"

    def create(self, path: str, content: bytes) -> bool:
        """Write a file, if it is not there; return whether it was written."""
        target = self._folder / path
        with self._unfinished(path, content) as unfinished:
            try:
                # Fails if the file is there, which a rename would replace with the attempts that are noted in it.
                os.link(unfinished, target)
            except FileExistsError:
                return False
            except OSError as exc:
                if exc.errno not in _NO_LINKS:
                    raise
                if target.exists():
                    return False
                unfinished.replace(target)
        self._sync_names(target.parent)
        return True

    def write(self, path: str, content: bytes) -> None:
        """Write a file instead of the one that may be there."""
        target = self._folder / path
        with self._unfinished(path, content) as unfinished:
            unfinished.replace(target)
        self._sync_names(target.parent)

    @contextlib.contextmanager
    def _unfinished(self, path: str, content: bytes) -> Iterator[Path]:
        """Write a hidden file, which no delivery reads, until it is on the disk as a whole."""
        target = self._folder / path
        target.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
        unfinished = target.parent / f".{target.name[:100]}.{secrets.token_hex(4)}.tmp"
        try:
            descriptor = os.open(unfinished, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
            with os.fdopen(descriptor, "wb") as file:
                file.write(content)
                file.flush()
                os.fsync(file.fileno())
            yield unfinished
        finally:
            unfinished.unlink(missing_ok=True)

    def _sync_names(self, folder: Path) -> None:
        # Some network file systems cannot do this for a folder, and do not need it.
        with contextlib.suppress(OSError):
            descriptor = os.open(folder, os.O_RDONLY)
            try:
                os.fsync(descriptor)
            finally:
                os.close(descriptor)

    def read(self, path: str) -> bytes:
        """Return the content of a file."""
        # Opening a FIFO waits for somebody who writes into it, unless it is opened like this.
        try:
            descriptor = os.open(self._folder / path, os.O_RDONLY | os.O_NONBLOCK | os.O_NOFOLLOW)
        except FileNotFoundError:
            raise
        except OSError as exc:
            if exc.errno in (errno.ELOOP, errno.ENXIO):
                raise UnusableFileError("it is a symbolic link or a socket, not a file") from None
            raise
        try:
            found = os.fstat(descriptor)
            if not stat.S_ISREG(found.st_mode):
                raise UnusableFileError("it is not a file")
            if found.st_size > MAX_BYTES:
                raise UnusableFileError(f"it has {found.st_size:,} bytes, and a todo has at most 1,000,000")
            with os.fdopen(descriptor, "rb", closefd=False) as file:
                return file.read(MAX_BYTES + 1)
        finally:
            os.close(descriptor)

    def exists(self, path: str) -> bool:
        """Check whether there is something under this path."""
        return os.path.lexists(self._folder / path)

    def names(self, folder: str = "") -> list[str]:
        """Return the names in a folder."""
        try:
            return [path.name for path in (self._folder / folder).iterdir()]
        except FileNotFoundError:
            return []

    def modified_at(self, path: str) -> datetime:
        """Return when a file was written."""
        return datetime.fromtimestamp((self._folder / path).lstat().st_mtime, UTC)

    def remove(self, path: str) -> None:
        """Delete a file, if it is there."""
        (self._folder / path).unlink(missing_ok=True)

    def move(self, path: str, target: str) -> None:
        """Give a file another path."""
        (self._folder / target).parent.mkdir(parents=True, exist_ok=True, mode=0o700)
        (self._folder / path).rename(self._folder / target)
        self._sync_names((self._folder / target).parent)

    def check_writable(self) -> None:
        """Write a file and delete it; if the folder is not there, check that it can be made, and do not make it.

        The user of a check may be another one than that of Airflow, who could not write into a folder of the former.
        """
        if os.path.lexists(self._folder):
            path = f".check-{secrets.token_hex(4)}"
            try:
                self.write(path, bytes(_PROBE_BYTES))
            finally:
                self.remove(path)
            return
        parent = next(folder for folder in self._folder.parents if folder.exists())
        if not parent.is_dir():
            raise NotADirectoryError(errno.ENOTDIR, os.strerror(errno.ENOTDIR), str(parent))
        if not os.access(parent, os.W_OK | os.X_OK):
            raise PermissionError(errno.EACCES, os.strerror(errno.EACCES), str(parent))

    @contextlib.contextmanager
    def lock(self, *, wait_s: float, sleep: Callable[[float], object]) -> Iterator[bool]:
        """Lock with ``flock``, which the kernel releases when the process ends, however it ends."""
        self._folder.mkdir(parents=True, exist_ok=True, mode=0o700)
        descriptor = os.open(self._folder / _LOCK, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        try:
            yield self._is_locked(descriptor, wait_s=wait_s, sleep=sleep)
        finally:
            os.close(descriptor)

    def _is_locked(self, descriptor: int, *, wait_s: float, sleep: Callable[[float], object]) -> bool:
        ends_at = time.monotonic() + wait_s
        while True:
            try:
                fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                if time.monotonic() >= ends_at:
                    return False
                sleep(_POLL_S)
            else:
                return True
