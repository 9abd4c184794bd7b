"""Keep the routes of a file, and read it again after it changed. Nothing here raises."""

from __future__ import annotations

import logging
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from bzctrl_provider.routes.parser import RoutesError, parse_routes

if TYPE_CHECKING:
    import os

    from bzctrl_provider.routes.route import Routes

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class LoadedRoutes:
    """The result of loading a routes file.

    :param routes: the routes of the file, or of its last good version; None if there is none in this process.
    :param errors: the faults of the present version; empty if it is good.
    :param note: a sentence for the description of an incident if there are faults; empty otherwise.
    """

    routes: Routes | None
    errors: tuple[str, ...] = ()
    note: str = ""


class RoutesFile:
    """A routes file, which is read when it is first needed, and again after it changed.

    Neither a missing nor a faulty file costs an incident: the last good version of this process stays in use, and one
    ERROR has every fault.

    :param path: the file.
    """

    def __init__(self, path: str | os.PathLike[str]) -> None:
        self._path = Path(path)
        self._version: object = None
        self._loaded = LoadedRoutes(None)

    def load(self) -> LoadedRoutes:
        """Return the routes of the file as it is now; it is read only if it changed."""
        try:
            status = self._path.stat()
            version = (status.st_mtime_ns, status.st_size, status.st_ino)
            if version != self._version:
                self._loaded = LoadedRoutes(parse_routes(self._path.read_text(encoding="utf-8")))
        except RoutesError as exc:
            self._loaded = self._with_errors(exc.errors)
        except (OSError, ValueError) as exc:  # ValueError: no UTF-8, or a path with a null character
            reason = exc.strerror if isinstance(exc, OSError) and exc.strerror else str(exc)
            self._loaded = self._with_errors((f"cannot be read: {reason}",))
            version = None  # read again each time: new permissions do not change the version
        self._version = version
        return self._loaded

    def _with_errors(self, faults: tuple[str, ...]) -> LoadedRoutes:
        last_good = self._loaded.routes
        used = "the defaults are used" if last_good is None else "its last good version is used"
        if faults != self._loaded.errors:
            shown = "".join(f"\n  {fault}" for fault in faults)
            log.error("The routes file %s has faults, so %s. Fix the following:%s", self._path, used, shown)
        count = "a fault" if len(faults) == 1 else f"{len(faults)} faults"
        note = f"The routes file {self._path.name} has {count}, so {used}. The first: {faults[0]}."
        return LoadedRoutes(last_good, faults, note)
