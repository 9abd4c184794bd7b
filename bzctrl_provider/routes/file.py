"""Keep the routes of a file, and read it again after it changed. Nothing here raises or blocks."""

from __future__ import annotations

import logging
import os
import stat
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from bzctrl_provider.routes.faults import RouteFault, RoutesError
from bzctrl_provider.routes.parser import parse_routes
from bzctrl_provider.text import one_line

if TYPE_CHECKING:
    from bzctrl_provider.routes.route import Routes

log = logging.getLogger(__name__)

SIZE_MAX = 1024 * 1024
"""Bytes of a routes file. 50 routes have about 5,000."""

_FAULTS_LOGGED = 100

_Stamp = tuple[int, int, int]


@dataclass(frozen=True)
class LoadedRoutes:
    """Hold the result of loading a routes file.

    :param routes: the routes of the file, or of its last good version; None if there is none in this process.
    :param faults: the faults of the present version; empty if it is good.
    :param note: a sentence for the description of an incident if there are faults; empty otherwise.
    """

    routes: Routes | None
    faults: tuple[RouteFault, ...] = ()
    note: str = ""


class RoutesFile:
    """Read a routes file when it is first needed, and again after it changed.

    Neither a missing nor a faulty file costs an incident: the last good version of this process stays in use, and one
    ERROR for each version of the file has every fault with its line.

    :param path: the file.
    """

    def __init__(self, path: str | os.PathLike[str]) -> None:
        self.path = Path(path)
        # One attribute, replaced as a whole, instead of a lock: a process that forks with a lock taken never gets it.
        self._kept: tuple[object, LoadedRoutes] | None = None
        self._reported: set[object] = set()

    def load(self) -> LoadedRoutes:
        """Return the routes of the file as it is now; it is read only if it changed."""
        version = _version(self.path)
        kept = self._kept
        if kept and kept[0] == version:
            return kept[1]
        last_good = kept[1].routes if kept else None
        try:
            version, text = _read(self.path)
            loaded = LoadedRoutes(parse_routes(text))
            self._reported.clear()
        except RoutesError as exc:
            loaded = self._with_faults(version, exc.faults, last_good)
        except Exception as exc:  # noqa: BLE001 - a file must not cost an incident, whatever is wrong with it
            fault = RouteFault(0, f"cannot be read: {_reason(exc)}")
            loaded = self._with_faults(version, (fault,), last_good)
            version = None  # tried again each time: new permissions do not change the version
        self._kept = (version, loaded)
        return loaded

    def _with_faults(
        self, version: object, faults: tuple[RouteFault, ...], last_good: Routes | None
    ) -> LoadedRoutes:
        used = "the defaults are used" if last_good is None else "its last good version is used"
        if version not in self._reported:
            self._reported.add(version)
            shown = "".join(f"\n  {fault}" for fault in faults[:_FAULTS_LOGGED])
            more = f"\n  and {len(faults) - _FAULTS_LOGGED} more" if len(faults) > _FAULTS_LOGGED else ""
            log.error(
                "The routes file %s has faults, so %s. Fix the following:%s%s", self.path, used, shown, more
            )
        count = "a fault" if len(faults) == 1 else f"{len(faults)} faults"
        name = one_line(self.path.name, max_chars=100)
        note = f"The routes file {name} has {count}, so {used}. The first: {faults[0]}."
        return LoadedRoutes(last_good, faults, note)


def _reason(exc: Exception) -> str:
    if isinstance(exc, OSError) and exc.strerror:
        return exc.strerror
    return type(exc).__name__


def _stamp(status: os.stat_result) -> _Stamp:
    return (status.st_mtime_ns, status.st_size, status.st_ino)


def _version(path: Path) -> object:
    """Return a value that changes with the file, or the reason why it cannot be read."""
    try:
        return _stamp(path.stat())
    except (OSError, ValueError) as exc:  # ValueError: a path with a null character
        return _reason(exc)


def _open_without_waiting(path: str, flags: int) -> int:
    # Otherwise, opening a FIFO waits for a writer.
    return os.open(path, flags | getattr(os, "O_NONBLOCK", 0))


def _read(path: Path) -> tuple[_Stamp, str]:
    """Return the version and the text of a file.

    :raises RoutesError: it is no regular file, too large or no UTF-8.
    """
    with open(path, "rb", opener=_open_without_waiting) as stream:
        status = os.fstat(stream.fileno())
        if not stat.S_ISREG(status.st_mode):
            raise RoutesError([RouteFault(0, "is no regular file: set routes_path to a TOML file")])
        content = stream.read(SIZE_MAX + 1)
    if len(content) > SIZE_MAX:
        raise RoutesError(
            [RouteFault(0, f"has more than {SIZE_MAX} bytes: set routes_path to a smaller file")]
        )
    try:
        return _stamp(status), content.decode()
    except UnicodeDecodeError as exc:
        line = content.count(b"\n", 0, exc.start) + 1
        raise RoutesError([RouteFault(line, "is not valid UTF-8")]) from None
