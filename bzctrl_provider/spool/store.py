"""Where the files of the spool are, and how one replay alone gets one of them."""

from __future__ import annotations

import contextlib
import hashlib
import json
import logging
import os
import re
import secrets
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    from airflow.providers.common.compat.sdk import ObjectStoragePath

log = logging.getLogger(__name__)

ABANDONED_AFTER = timedelta(hours=1)
"""How long after it was made a claim is taken to be that of a replay that has crashed."""

_STAMP = "%Y%m%dT%H%M%S%fZ"


@dataclass(frozen=True, kw_only=True)
class Claim:
    """The right to create a file's todo, which one replay has at a time.

    :param name: the file's name while nobody claims it.
    :param lock_files: the names of the files that are the claim.
    :param claimed_at: when.
    :param abandoned_at: when a replay that has crashed since had claimed it; None where there was none.
    """

    name: str
    lock_files: tuple[str, ...]
    claimed_at: datetime
    abandoned_at: datetime | None = None


class Store(Protocol):
    """Where the files are."""

    def address(self, name: str) -> str:
        """Return the whole address of a file."""

    def write(self, name: str, content: bytes) -> None:
        """Write a file completely or not at all."""

    def waiting(self, now: datetime) -> list[str]:
        """Return the names of the files to create, the oldest first."""

    def read(self, name: str) -> bytes:
        """Return a file's content, or raise FileNotFoundError."""

    def claim(self, name: str, content: bytes, now: datetime) -> Claim | None:
        """Claim a file that was just read; None where another replay has it, or has had it meanwhile."""

    def release(self, claim: Claim, content: bytes) -> None:
        """Give a claimed file a new content, and end the claim. A crash in between loses nothing."""

    def remove(self, claim: Claim) -> None:
        """Delete a claimed file, and the claim."""


def open_store(folder: ObjectStoragePath) -> Store:
    """Return the store at an address: a local folder, or an object store."""
    return _Folder(folder) if folder.protocol in {"", "file", "local"} else _Bucket(folder)


class _Folder:
    """A local folder. A file is claimed by renaming it, at which one replay alone succeeds."""

    _NAME = re.compile(r"(?P<name>[^.].*\.json)(\.(?P<stamp>\d{8}T\d{12}Z)-[0-9a-f]{8}\.claimed)?", re.DOTALL)

    def __init__(self, root: ObjectStoragePath) -> None:
        self._root = root
        self._folder = Path(root.path)

    def address(self, name: str) -> str:
        return str(self._root / name)

    def write(self, name: str, content: bytes) -> None:
        self._folder.mkdir(parents=True, exist_ok=True)
        # Hidden, and under a name that no replay looks at, until it is on the disk as a whole.
        unfinished = self._folder / f".{name}.{secrets.token_hex(4)}.tmp"
        try:
            with unfinished.open("xb") as file:
                file.write(content)
                file.flush()
                os.fsync(file.fileno())
            unfinished.replace(self._folder / name)
        except BaseException:
            unfinished.unlink(missing_ok=True)
            raise
        self._keep_names()

    def _keep_names(self) -> None:
        # Some network file systems cannot do this for a folder, and do not need it.
        with contextlib.suppress(OSError):
            descriptor = os.open(self._folder, os.O_RDONLY)
            try:
                os.fsync(descriptor)
            finally:
                os.close(descriptor)

    def waiting(self, now: datetime) -> list[str]:
        try:
            names = [path.name for path in self._folder.iterdir()]
        except FileNotFoundError:
            return []
        found = []
        for match in filter(None, map(self._NAME.fullmatch, names)):
            claimed_at = _parse_stamp(match["stamp"])
            if claimed_at is None or now - claimed_at > ABANDONED_AFTER:
                found.append((match["name"], match[0]))
        return [name for _, name in sorted(found)]

    def read(self, name: str) -> bytes:
        return (self._folder / name).read_bytes()

    def claim(self, name: str, content: bytes, now: datetime) -> Claim | None:
        match = self._NAME.fullmatch(name)
        original, stamp = (match["name"], match["stamp"]) if match else (name, None)
        mark = f"{original}.{format_stamp(now)}.claimed"
        try:
            (self._folder / name).rename(self._folder / mark)
        except FileNotFoundError:
            return None
        if self.read(mark) != content:
            (self._folder / mark).rename(self._folder / original)
            return None
        return Claim(name=original, lock_files=(mark,), claimed_at=now, abandoned_at=_parse_stamp(stamp))

    def release(self, claim: Claim, content: bytes) -> None:
        (mark,) = claim.lock_files
        # Raises where another replay has taken the claim up, which has the file now.
        (self._folder / mark).stat()
        self.write(mark, content)
        (self._folder / mark).rename(self._folder / claim.name)
        self._keep_names()

    def remove(self, claim: Claim) -> None:
        (mark,) = claim.lock_files
        (self._folder / mark).unlink()
        self._keep_names()


class _Bucket:
    """An object store, which has no rename. A file is claimed by an object beside it that can be created once only.

    The claim's name comes from the file's content, so that a replay that read the file before another one changed it
    cannot claim it any more. An abandoned claim is taken up by the next object in a row:
    ``NAME.json.<hash>-0.claim``, ``NAME.json.<hash>-1.claim``.
    """

    def __init__(self, root: ObjectStoragePath) -> None:
        self._root = root
        self._fs = root.fs
        self._prefix = root.path.rstrip("/")

    def address(self, name: str) -> str:
        return str(self._root / name)

    def _at(self, name: str) -> str:
        return f"{self._prefix}/{name}"

    def write(self, name: str, content: bytes) -> None:
        self._fs.pipe_file(self._at(name), content)

    def waiting(self, now: datetime) -> list[str]:
        self._fs.invalidate_cache()
        try:
            names = {path.rpartition("/")[2] for path in self._fs.ls(self._prefix, detail=False)}
        except FileNotFoundError:
            return []
        files = {name for name in names if name.endswith(".json") and not name.startswith(".")}
        for mark in names - files:
            # Of a replay that has crashed after it had deleted the file.
            if mark.endswith(".claim") and mark.rpartition(".json.")[0] + ".json" not in files:
                with contextlib.suppress(Exception):  # it can wait, and the files cannot
                    claimed_at = self._claimed_at(mark)
                    if claimed_at and now - claimed_at > ABANDONED_AFTER:
                        self._end((mark,))
        return sorted(files)

    def read(self, name: str) -> bytes:
        content: bytes = self._fs.cat_file(self._at(name))
        return content

    def claim(self, name: str, content: bytes, now: datetime) -> Claim | None:
        row = f"{name}.{hashlib.sha256(content).hexdigest()[:16]}"
        abandoned: list[str] = []
        abandoned_at = None
        while not self._mark(mark := f"{row}-{len(abandoned)}.claim", now):
            claimed_at = self._claimed_at(mark)
            if claimed_at is None or now - claimed_at <= ABANDONED_AFTER:
                return None
            abandoned.append(mark)
            abandoned_at = claimed_at
        claim = Claim(name=name, lock_files=(*abandoned, mark), claimed_at=now, abandoned_at=abandoned_at)
        try:
            unchanged = self.read(name) == content
        except FileNotFoundError:
            unchanged = False
        if not unchanged:
            self._end((mark,))
        return claim if unchanged else None

    def release(self, claim: Claim, content: bytes) -> None:
        self.write(claim.name, content)
        self._end(claim.lock_files)

    def remove(self, claim: Claim) -> None:
        self._fs.rm(self._at(claim.name))
        self._end(claim.lock_files)

    def _mark(self, mark: str, now: datetime) -> bool:
        """Create the object that is a claim, and tell whether that was possible."""
        content = json.dumps({"claimed_at": now.astimezone(UTC).strftime(_STAMP)}).encode()
        if not self._is_exclusive and self._fs.exists(self._at(mark)):
            return False
        try:
            self._fs.pipe_file(self._at(mark), content, **({"mode": "create"} if self._is_exclusive else {}))
        except FileExistsError:
            return False
        return True

    @cached_property
    def _is_exclusive(self) -> bool:
        """Whether the store creates an object only where there is none: told by its library, and seen in a trial.

        The trial alone does not tell: what fsspec does for libraries without it is to look first and to write then.
        """
        from fsspec import AbstractFileSystem  # type: ignore[import-untyped]

        own = getattr(self._fs.pipe_file, "__func__", None) is not AbstractFileSystem.pipe_file
        exclusive = own and self._passes_trial()
        if not exclusive:
            log.warning("%s cannot keep two replays apart: let only one run at a time.", self._root)
        return exclusive

    def _passes_trial(self) -> bool:
        trial = self._at(f".{secrets.token_hex(8)}.trial")
        try:
            try:
                self._fs.pipe_file(trial, b"trial", mode="create")
            except Exception:  # noqa: BLE001 - each library has its own error for what it cannot do
                # Where this fails as well, it was not the library: the store cannot be reached or written.
                self._fs.pipe_file(trial, b"trial")
                return False
            try:
                self._fs.pipe_file(trial, b"trial", mode="create")
            except FileExistsError:
                return True
            except Exception:  # noqa: BLE001 - refused, but in words that the library does not understand
                return False
            return False
        finally:
            with contextlib.suppress(Exception):
                self._fs.rm(trial)

    def _claimed_at(self, mark: str) -> datetime | None:
        """Return when a claim was made; None where it has ended since."""
        try:
            content = self.read(mark)
        except FileNotFoundError:
            return None
        try:
            return datetime.strptime(json.loads(content)["claimed_at"], _STAMP).replace(tzinfo=UTC)
        except (ValueError, TypeError, KeyError):
            raise ValueError(f"its claim {self.address(mark)} is damaged: delete that") from None

    def _end(self, lock_files: tuple[str, ...]) -> None:
        for mark in lock_files:
            # One that is left holds nothing up: it belongs to a content that the file no longer has.
            with contextlib.suppress(Exception):
                self._fs.rm(self._at(mark))


def format_stamp(time: datetime) -> str:
    """Return a time as a part of a name that sorts by it and that nobody else uses."""
    return f"{time.astimezone(UTC).strftime(_STAMP)}-{secrets.token_hex(4)}"


def _parse_stamp(stamp: str | None) -> datetime | None:
    """Return the time that a claim's name tells; None without one, or with one that is no time."""
    try:
        return datetime.strptime(stamp or "", _STAMP).replace(tzinfo=UTC)
    except ValueError:
        return None
