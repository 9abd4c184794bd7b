"""The delivery of incidents about DAG files, by a process of its own.

No callback runs for a DAG file that cannot be imported, and the process that parses it must not wait for BzCtrl.
"""

from __future__ import annotations

import os
import subprocess
import sys
import time
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

from bzctrl_provider.import_errors.dag_files import parse_interval_s
from bzctrl_provider.import_errors.episodes import FOLDER, Episodes
from bzctrl_provider.settings import settings

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from bzctrl_provider.import_errors.episodes import Episode

_STAMP = ".delivery"
_LOG = ".delivery.log"
_STARTED_WITHIN_S = 20.0
_WAIT_MAX_S = 240.0
_PARSE_MAX_S = 120.0
_SOON_S = 60.0
_POLL_S = 1.0
_DELIVERY_S = 60.0

_started: list[subprocess.Popen[bytes]] = []
"""The process that this one has started last: it is waited for when the next one is due, without blocking."""


def request_delivery(folder: Path, episode: Episode) -> None:
    """Have the spool delivered by another process, if the incident of an episode still waits there. Returns at once.

    :param folder: the spool.
    """
    _started[:] = [process for process in _started if process.poll() is None]
    if not os.path.lexists(folder / f"{episode.incident_identity}.json"):
        return
    if _is_recent(folder / FOLDER / _STAMP) or _is_paused(folder):
        return
    (folder / FOLDER / _STAMP).touch(mode=0o600)
    descriptor = os.open(folder / FOLDER / _LOG, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
    try:
        process = subprocess.Popen(  # noqa: S603 - our own module
            [sys.executable, "-P", "-m", __name__, str(folder)],
            stdin=subprocess.DEVNULL,
            stdout=descriptor,
            stderr=descriptor,
            start_new_session=True,
        )
    finally:
        os.close(descriptor)
    _started.append(process)


def _is_recent(stamp: Path) -> bool:
    try:
        return 0 <= time.time() - stamp.stat().st_mtime < _STARTED_WITHIN_S
    except FileNotFoundError:
        return False


def _is_paused(folder: Path) -> bool:
    """Return whether a connection has failed a short time ago, so that no delivery is worth a process."""
    from bzctrl_provider.spool.folder import Folder
    from bzctrl_provider.spool.ledger import Ledger

    return Ledger(Folder(folder)).any_pause(datetime.now(UTC))


def deliver_when_quiet(
    folder: Path,
    deliver: Callable[..., Any],
    *,
    sleep: Callable[[float], object] = time.sleep,
    clock: Callable[[], float] = time.time,
) -> Any:
    """Wait for files that broke at the same time, so that many become one summary, and deliver the spool.

    :param folder: the spool.
    :param deliver: as ``bzctrl_provider.spool.deliver``.
    :param sleep: waits for seconds.
    :param clock: returns seconds since 1970.
    :return: what ``deliver`` returns.
    """
    episodes = Episodes(folder / FOLDER)
    ends_at = clock() + _WAIT_MAX_S
    while clock() < ends_at and _is_any_due_soon(list(episodes.read_all()), clock()):
        # So that no second process is started.
        (episodes.folder / _STAMP).touch(mode=0o600)
        sleep(_POLL_S)
    return deliver(path=str(folder), limit_s=_DELIVERY_S)


def _is_any_due_soon(episodes: Sequence[Episode], now: float) -> bool:
    # A file that is not parsed again for twice the usual time was repaired.
    gaps = [min(episode.gap_s, _PARSE_MAX_S) for episode in episodes]
    broken_after = now - 2 * max(parse_interval_s(), *gaps, _POLL_S)
    due_before = now + _SOON_S - settings().import_error_grace_s
    return any(
        not episode.outcome and episode.seen > broken_after and episode.since < due_before
        for episode in episodes
    )


def main(arguments: Sequence[str] = sys.argv[1:]) -> int:
    """Deliver the spool in a folder, and print the result."""
    from bzctrl_provider._airflow_internals import use_metadata_database
    from bzctrl_provider.spool import deliver

    use_metadata_database()
    result = deliver_when_quiet(Path(arguments[0]), deliver)
    sys.stdout.write(f"{result}\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
