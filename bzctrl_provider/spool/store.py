"""Where the files of the spool are: a local folder, or an object store.

A path is relative to the spool, such as ``delivered/6f1ed002ab5595859014ebf0951522d9.json``.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    from collections.abc import Callable
    from contextlib import AbstractContextManager
    from datetime import datetime

MAX_BYTES = 4 * 1024 * 1024
"""The largest file that is read: a todo has at most 1 MB."""


class UnusableFileError(ValueError):
    """Report a name of an entry that is not a file, or is a file that is too large to be read."""


class Store(Protocol):
    """Read and write files of bytes."""

    def address(self, path: str) -> str:
        """Return the whole address of a file."""

    def create(self, path: str, content: bytes) -> bool:
        """Write a file completely or not at all; return False and leave it if it is there already."""

    def write(self, path: str, content: bytes) -> None:
        """Write a file completely or not at all, instead of the one that may be there."""

    def read(self, path: str) -> bytes:
        """Return the content of a file.

        :raises FileNotFoundError: if it is not there.
        :raises UnusableFileError: if it cannot be an entry.
        """

    def exists(self, path: str) -> bool:
        """Check whether there is something under this path."""

    def names(self, folder: str = "") -> list[str]:
        """Return the names in a folder of the spool; none if it is not there."""

    def modified_at(self, path: str) -> datetime:
        """Return when a file was written."""

    def remove(self, path: str) -> None:
        """Delete a file, if it is there."""

    def move(self, path: str, target: str) -> None:
        """Give a file another path."""

    def check_writable(self) -> None:
        """Check that files can be written, without a file left behind.

        :raises OSError: if they cannot; an object store raises its own errors.
        """

    def lock(self, *, wait_s: float, sleep: Callable[[float], object]) -> AbstractContextManager[bool]:
        """Keep other deliverers out, as long as the context is open; its value is False if another one is at work."""
