"""Each parse of a broken DAG file is remembered, and its incident is written when it is due."""

from __future__ import annotations

import logging
import time
from dataclasses import replace
from pathlib import Path

from bzctrl_provider.import_errors.dag_files import find_dag_file, parse_interval_s
from bzctrl_provider.import_errors.episodes import FOLDER, Episode, Episodes, advance
from bzctrl_provider.import_errors.incident import describe_import_error, make_entry
from bzctrl_provider.settings import settings
from bzctrl_provider.spool.entry import identify
from bzctrl_provider.spool.outbox import default_folder, find_folder, spool_path, write_entry

log = logging.getLogger(__name__)


def report(filename: str, stacktrace: str, *, is_new: bool, now: float | None = None) -> None:
    """Remember that a DAG file is broken, and write one incident into the spool if it has been so for the grace period.

    :param filename: its whole path.
    :param stacktrace: the trace of its error.
    :param is_new: whether Airflow says that the error is new.
    :param now: seconds since 1970; default: the present.
    :raises OSError: if the spool cannot be written. It is tried again at the next parse.
    :raises ValueError: if the path of the spool is relative.
    """
    folder = find_spool()
    episodes = Episodes(folder / FOLDER)
    name = f"{identify(filename)}.json"
    now = time.time() if now is None else now
    episode = advance(
        episodes.read(name), file=filename, is_new=is_new, now=now, parse_interval_s=parse_interval_s()
    )
    if episode.is_due(settings().import_error_grace_s):
        # Noted before as well: if this process is killed in between, the next one writes the same identity.
        _remember(episodes, name, episode)
        episode = _raise_incident(episode, stacktrace, folder)
        episodes.prune(now)
    _remember(episodes, name, episode)


def _remember(episodes: Episodes, name: str, episode: Episode) -> None:
    try:
        episodes.write(name, episode)
    except OSError as exc:
        # Without the name of the file, so that the log has it once.
        raise OSError(
            f"The spool {episodes.folder.parent} cannot be written: {exc.strerror}. Make it a folder that this process may "
            "write to, or set spool_path in the section [bzctrl]."
        ) from exc


def find_spool() -> Path:
    """Return the folder that gets the incidents: the spool, or that of this machine if the spool is in an object store.

    :raises ValueError: if the path of the spool is relative.
    """
    return find_folder(spool_path()) or Path(default_folder())


def _raise_incident(episode: Episode, stacktrace: str, folder: Path) -> Episode:
    failure = describe_import_error(find_dag_file(episode.file), stacktrace, episode)
    entry = make_entry(failure, episode)
    if entry is None:
        return replace(episode, outcome="ignored")
    written = write_entry(entry, path=folder)
    log.warning(
        "The DAG file %s has been broken since %s. Its incident was written into the spool as %s.",
        failure.file,
        failure.broken_since,
        written.address,
    )
    return replace(episode, outcome="written")
