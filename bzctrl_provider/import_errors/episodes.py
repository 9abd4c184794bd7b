"""The memory of broken DAG files: from the first parse of a file that fails to its repair is one episode.

Airflow says at each parse that a file is broken, and never that it has been repaired. It says "new" instead of
"existing" for the first parse after a repair, because it deletes its own note of the error then. The memory is a small
file for each broken DAG file, because Airflow 2 calls the listener in a new process at each parse.
"""

from __future__ import annotations

import contextlib
import json
import os
import secrets
from dataclasses import asdict, dataclass, replace
from typing import TYPE_CHECKING, Any

from bzctrl_provider.spool.entry import identify

if TYPE_CHECKING:
    from pathlib import Path

FOLDER = "import_errors"

_MAX_BYTES = 20_000
_KEPT_S = 7 * 86_400
_PARSES_MISSED = 5

_KINDS: dict[str, type | tuple[type, ...]] = {
    "file": str,
    "since": (int, float),
    "seen": (int, float),
    "gap_s": (int, float),
    "confirmed": bool,
    "outcome": str,
}


@dataclass(frozen=True, kw_only=True)
class Episode:
    """State since when a DAG file is broken. Times are seconds since 1970.

    :param file: the path of the file.
    :param since: when it was first seen broken.
    :param seen: when it was last seen broken.
    :param gap_s: the seconds between the last two times.
    :param confirmed: whether Airflow has said "existing" at least once.
    :param outcome: ``written`` if its incident is in the spool or was created, ``ignored`` if a route ignores it;
        otherwise empty.
    """

    file: str
    since: float
    seen: float
    gap_s: float = 0.0
    confirmed: bool = False
    outcome: str = ""

    @property
    def incident_identity(self) -> str:
        """Return the identity of its incident in the spool, equal in every process."""
        return identify("import", self.file, self.since)

    def is_due(self, grace_s: float) -> bool:
        """Return whether the file has been broken for the grace period and has raised nothing yet."""
        return not self.outcome and self.seen - self.since >= grace_s


def advance(
    previous: Episode | None, *, file: str, is_new: bool, now: float, parse_interval_s: float
) -> Episode:
    """Return the episode after one more parse that failed.

    :param previous: the remembered episode of the file.
    :param is_new: whether Airflow says that the error is new.
    :param parse_interval_s: the seconds between two parses of a file, as they are configured.
    """
    if previous is None:
        return Episode(file=file, since=now, seen=now, confirmed=not is_new)
    gap_s = max(0.0, now - previous.seen)
    if is_new and (previous.confirmed or gap_s > _longest_gap(previous, parse_interval_s)):
        return Episode(file=file, since=now, seen=now, gap_s=gap_s)
    return replace(
        previous,
        seen=max(now, previous.since),
        gap_s=gap_s,
        confirmed=previous.confirmed or not is_new,
    )


def _longest_gap(previous: Episode, parse_interval_s: float) -> float:
    """Return after how many seconds a file was clean in between, if Airflow calls each error a new one.

    It does so if it cannot keep its own note of the error.
    """
    return max(_PARSES_MISSED * parse_interval_s, 2 * previous.gap_s)


class Episodes:
    """Keep the files of the memory, in a folder of the spool.

    :param folder: the folder, which is made when the first file is written.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def read(self, name: str) -> Episode | None:
        """Return the episode that is stored under a name; None if there is none, or a damaged one."""
        try:
            descriptor = os.open(self.folder / name, os.O_RDONLY | os.O_NONBLOCK | os.O_NOFOLLOW)
            with os.fdopen(descriptor, "rb") as file:
                return _parse(file.read(_MAX_BYTES))
        except (OSError, ValueError, RecursionError):
            return None

    def write(self, name: str, episode: Episode) -> None:
        """Write an episode as a whole; not safe from a power failure, after which the grace period begins again.

        :raises OSError: if that fails.
        """
        unfinished = self.folder / f".{name}.{secrets.token_hex(4)}.tmp"
        try:
            try:
                descriptor = os.open(unfinished, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
            except FileNotFoundError:
                self.folder.mkdir(parents=True, exist_ok=True, mode=0o700)
                descriptor = os.open(unfinished, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
            with os.fdopen(descriptor, "w", encoding="utf-8") as file:
                json.dump(asdict(episode), file)
            unfinished.replace(self.folder / name)
        finally:
            unfinished.unlink(missing_ok=True)

    def prune(self, now: float) -> None:
        """Forget files that were not broken for 7 days."""
        for path in self.folder.glob("*.json"):
            with contextlib.suppress(OSError):
                if now - path.lstat().st_mtime > _KEPT_S:
                    path.unlink()


def _parse(content: bytes) -> Episode | None:
    data: Any = json.loads(content)
    if not isinstance(data, dict):
        return None
    values = {name: data.get(name) for name in _KINDS}
    is_valid = all(isinstance(value, _KINDS[name]) for name, value in values.items())
    return Episode(**values) if is_valid else None  # type: ignore[arg-type]  # each is of its kind
