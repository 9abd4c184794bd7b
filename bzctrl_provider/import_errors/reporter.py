"""A broken DAG file: each parse of it is noted in the store, and its incident is written when it is due.

Airflow 3 calls this in the loop of the DAG processor, which must not wait: a statement has one second, and after a failure of the
store the notes stay in memory for 30 seconds. So the path of a file comes only from the configuration: the bundle of a
repository looks up a connection when it is made.

Airflow says at each parse that a file is broken, and never that it has been repaired. It says "new" instead of
"existing" for the first parse after a repair, because it deletes its own note of the error then.
"""

from __future__ import annotations

import logging
import re
import tempfile
import time
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from airflow.configuration import conf

from bzctrl_provider.airflow_compat import airflow_at_least
from bzctrl_provider.best_effort import exception_text
from bzctrl_provider.failure.lookup import find_airflow_url
from bzctrl_provider.failure.model import Failure
from bzctrl_provider.incidents.decide import decide
from bzctrl_provider.incidents.fill import Wishes, new_renderer
from bzctrl_provider.incidents.occurrence import Occurrence
from bzctrl_provider.metrics import count_todos
from bzctrl_provider.outbox.writer import NotRaised, add, format_time, redacted
from bzctrl_provider.settings import settings
from bzctrl_provider.store import broken_files
from bzctrl_provider.store.broken_files import BrokenFile
from bzctrl_provider.store.database import StoreError, Transaction, database
from bzctrl_provider.text import LINE_CHARS, NAME_CHARS, TEXT_CHARS, one_line

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

log = logging.getLogger(__name__)


def find_dag_file(filename: str) -> tuple[str, str | None]:
    """Return the path of a DAG file, relative to the innermost bundle that it is in, and the name of this bundle.

    If it is in none that is known, that is the whole path and None; on Airflow 2 the DAGs folder has no name.
    """
    path = Path(filename)
    found = [
        (str(path.relative_to(folder)), bundle)
        for bundle, root in _list_folders()
        # Airflow 2 resolves links in the path of a file, and not in that of its folder.
        for folder in (root, root.resolve())
        if path.is_relative_to(folder)
    ]
    return min(found, key=lambda each: len(each[0]), default=(filename, None))


def _list_folders() -> Iterator[tuple[str | None, Path]]:
    """Yield the folders in which DAG files may be, each with the name of its bundle."""
    dags_folder = conf.get("core", "dags_folder")
    if not airflow_at_least(3, 0):
        yield None, Path(dags_folder)
        return
    storage = conf.get("dag_processor", "dag_bundle_storage_path", fallback=None)
    downloads = Path(storage or Path(tempfile.gettempdir(), "airflow", "dag_bundles"))
    bundles: Any = conf.getjson("dag_processor", "dag_bundle_config_list")
    for bundle in bundles:
        name, arguments = bundle["name"], bundle.get("kwargs") or {}
        path = arguments.get("path")
        if path or bundle["classpath"].endswith("LocalDagBundle"):
            yield name, Path(path or dags_folder)
            continue
        # Where the bundles of Airflow's providers keep their files.
        for folder in (downloads / name, downloads / name / "tracking_repo"):
            yield name, folder
            yield name, folder / (arguments.get("subdir") or "")


def parse_interval_s() -> float:
    """Return the configured seconds between two parses of a file."""
    section = "dag_processor" if airflow_at_least(3, 0) else "scheduler"
    return float(conf.getint(section, "min_file_process_interval"))


_TRACE_CHARS = 20_000

_FRAME = re.compile(r'^ *File "([^"\n]+)", line (\d+)', re.MULTILINE)

_LIBRARY = re.compile(r"<frozen |/lib/python\d|/(?:site|dist)-packages/")

_CREDENTIALS = re.compile(r"(://[^\s/:@]*):[^\s/@]+@")


def describe_import_error(stacktrace: str, broken: BrokenFile) -> Failure:
    """Return the failure of a DAG file."""
    path, bundle = find_dag_file(broken.file)
    return Failure(
        kind="import",
        dag_id="",
        run_id="",
        file=one_line(path, max_chars=TEXT_CHARS),
        bundle=bundle,
        reason=last_line(stacktrace),
        line=find_line(stacktrace),
        run_url=find_airflow_url(),
        broken_since=format_time(broken.since),
        broken_for_s=int(broken.seen - broken.since),
    )


def last_line(stacktrace: str) -> str:
    """Return the last line of a trace, redacted and bounded."""
    last = stacktrace[-_TRACE_CHARS:].rstrip().rpartition("\n")[2]
    # The DAG processor did not read the secrets of the DAG file, so Airflow masks fewer of them here than in a task.
    return one_line(exception_text(_CREDENTIALS.sub(r"\1:***@", last)) or "", max_chars=LINE_CHARS)


def find_line(stacktrace: str) -> str | None:
    """Return the innermost line of a trace that is not in a library, such as ``orders.py, line 3``."""
    for path, number in reversed(_FRAME.findall(stacktrace[-_TRACE_CHARS:])):
        if not _LIBRARY.search(path):
            return f"{one_line(path.rpartition('/')[2], max_chars=NAME_CHARS)}, line {number}"
    return None


_PARSES_MISSED = 5


def is_due(broken: BrokenFile, grace_s: float) -> bool:
    """Return whether a file has been broken for the grace period and has raised nothing yet."""
    return not broken.outcome and broken.seen - broken.since >= grace_s


def advance(previous: BrokenFile | None, *, file: str, is_new: bool, now: float) -> BrokenFile:
    """Return the episode after one more parse that failed.

    :param previous: the remembered episode of the file.
    :param is_new: whether Airflow says that the error is new.
    """
    if previous is None:
        return BrokenFile(file=file, since=now, seen=now, is_confirmed=not is_new)
    gap_s = max(0.0, now - previous.seen)
    # Airflow calls each error a new one if it cannot keep its own note of the error: then only a long gap shows a repair.
    longest_gap_s = max(_PARSES_MISSED * parse_interval_s(), 2 * previous.gap_s)
    if is_new and (previous.is_confirmed or gap_s > longest_gap_s):
        return BrokenFile(file=file, since=now, seen=now, gap_s=gap_s)
    is_confirmed = previous.is_confirmed or not is_new
    return replace(previous, seen=max(now, previous.since), gap_s=gap_s, is_confirmed=is_confirmed)


_NOTES_MAX = 1000
"""The files that are kept in memory: each is noted again at its next parse."""


class Reporter:
    """The notes of this process that are not in the store yet.

    :param clock: returns seconds, as ``time.monotonic`` does.
    """

    def __init__(self, *, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._notes: dict[str, tuple[str, bool]] = {}
        """By the whole path: the trace, and whether a call since the last write said that the error is new."""
        self._closed_until = float("-inf")

    def report(self, filename: str, stacktrace: str, *, is_new: bool) -> None:
        """Note that a DAG file is broken, and write one incident if it has been so for the grace period.

        :param filename: its whole path.
        :param stacktrace: the trace of its error.
        :param is_new: whether Airflow says that the error is new.
        :raises StoreError: if the store cannot be used. It is tried again after 30 seconds, at the next parse of any file.
        """
        _, was_new = self._notes.pop(filename, ("", False))
        self._notes[filename] = stacktrace, is_new or was_new
        if self._clock() < self._closed_until:
            if len(self._notes) > _NOTES_MAX:
                del self._notes[next(iter(self._notes))]
            return
        try:
            for name, (trace, said_new) in list(self._notes.items()):
                with database(timeout_s=1).transaction() as tx:
                    _note(tx, name, trace, is_new=said_new)
                # Not before the commit: after an error, the note is written at a later parse.
                del self._notes[name]
        except StoreError:
            self._closed_until = self._clock() + 30
            raise


report = Reporter().report


def _note(tx: Transaction, filename: str, stacktrace: str, *, is_new: bool) -> None:
    broken = advance(broken_files.lock(tx, filename), file=filename, is_new=is_new, now=tx.now)
    if is_due(broken, settings().import_error_grace_s):
        broken = _raise_incident(tx, broken, stacktrace)
        broken_files.prune(tx)
    broken_files.save(tx, broken)


def _raise_incident(tx: Transaction, broken: BrokenFile, stacktrace: str) -> BrokenFile:
    failure = describe_import_error(stacktrace, broken)
    # In the transaction of the file: two DAG processors write one incident.
    decision = decide(
        Occurrence(failure=failure, occasion=(broken.file, broken.since)),
        # No DAG has set a field, and templates have no other variable.
        Wishes(render=new_renderer({"failure": failure})),
        record=lambda incident: add(tx, redacted(incident)),
    )
    if isinstance(decision, NotRaised):
        log.info("%s The DAG file is %s.", decision, failure.file)
        return replace(broken, outcome="ignored")
    count_todos("queued", todo_type="INCIDENT")
    text = "The DAG file %s has been broken since %s. Its incident waits in the outbox as %s."
    log.warning(text, failure.file, failure.broken_since, decision.identity)
    return replace(broken, outcome="written")
