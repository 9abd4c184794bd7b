"""A broken DAG file: each parse of it is noted in the store, and its incident is written when it is due.

Airflow 3 calls this in the loop of the DAG processor, which must not wait: a statement has one second, and after a failure of the
store the notes stay in memory for 30 seconds. So the path of a file comes only from the configuration: the bundle of a
repository looks up a connection when it is made.

Airflow says at each parse that a file is broken, and never that it has been repaired. It says "new" instead of
"existing" for the first parse after a repair, because it deletes its own note of the error then.
"""

from __future__ import annotations

import logging
import os
import re
import tempfile
import time
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

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
from bzctrl_provider.store.database import StoreError, database
from bzctrl_provider.text import LINE_CHARS, NAME_CHARS, TEXT_CHARS, one_line

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from bzctrl_provider.store.database import Transaction

log = logging.getLogger(__name__)

_DEFAULT_INTERVAL_S = 30.0


@dataclass(frozen=True, kw_only=True)
class DagFile:
    """Name a DAG file.

    :param path: its path, relative to the root of its bundle if that is known.
    :param bundle: the name of its bundle; None on Airflow 2, or if it is not known.
    """

    path: str
    bundle: str | None = None


def find_dag_file(filename: str) -> DagFile:
    """Return the names of a DAG file. Never raises."""
    found = DagFile(path=filename)
    root_chars = 0
    for bundle, root in _roots():
        relative = _relative(filename, root)
        if relative and len(root) > root_chars:
            found, root_chars = DagFile(path=relative, bundle=bundle), len(root)
    return found


def _relative(filename: str, root: str) -> str | None:
    # Airflow 2 resolves links in the path of a file, and not in that of its folder.
    for start in {os.path.normpath(root), os.path.realpath(root)}:
        path = os.path.normpath(filename)
        if path.startswith(f"{start}{os.sep}"):
            return path[len(start) + 1 :]
    return None


def _roots() -> Iterator[tuple[str | None, str]]:
    try:
        dags_folder = conf.get("core", "dags_folder")
        if not airflow_at_least(3, 0):
            yield None, dags_folder
            return
        bundles: Any = conf.getjson("dag_processor", "dag_bundle_config_list")
        storage = conf.get("dag_processor", "dag_bundle_storage_path", fallback=None)
        for bundle in bundles or []:
            name, arguments = str(bundle["name"]), bundle.get("kwargs") or {}
            if arguments.get("path"):
                yield name, str(arguments["path"])
            elif str(bundle.get("classpath", "")).endswith("LocalDagBundle"):
                yield name, dags_folder
            else:
                yield from ((name, root) for root in _downloaded(name, storage, arguments))
    except Exception:  # noqa: BLE001 - the whole path names the file as well
        return


def _downloaded(name: str, storage: str | None, arguments: dict[str, Any]) -> Iterator[str]:
    """Yield where a bundle of Airflow's providers keeps its files."""
    base = Path(storage or Path(tempfile.gettempdir()) / "airflow" / "dag_bundles") / name
    subdir = str(arguments.get("subdir") or "").strip("/")
    for folder in (base, base / "tracking_repo"):
        yield str(folder)
        if subdir:
            yield str(folder / subdir)


def parse_interval_s() -> float:
    """Return the configured seconds between two parses of a file. Never raises."""
    try:
        section = "dag_processor" if airflow_at_least(3, 0) else "scheduler"
        return float(conf.getint(section, "min_file_process_interval"))
    except Exception:  # noqa: BLE001 - the interval decides only when a file that Airflow forgets counts as repaired
        return _DEFAULT_INTERVAL_S


_TRACE_CHARS = 20_000

_FRAME = re.compile(r'^ *File "([^"\n]+)", line (\d+)', re.MULTILINE)

_LIBRARY = re.compile(r"<frozen |/lib/python\d|/(?:site|dist)-packages/")

_CREDENTIALS = re.compile(r"(://[^\s/:@]*):[^\s/@]+@")


def describe_import_error(dag_file: DagFile, stacktrace: str, broken: BrokenFile) -> Failure:
    """Return the failure of a DAG file."""
    return Failure(
        kind="import",
        dag_id="",
        run_id="",
        file=one_line(dag_file.path, max_chars=TEXT_CHARS),
        bundle=dag_file.bundle,
        reason=last_line(stacktrace),
        line=find_line(stacktrace),
        run_url=find_airflow_url(),
        broken_since=format_time(broken.since),
        broken_for_s=int(broken.seen - broken.since),
    )


def last_line(stacktrace: str) -> str:
    """Return the last line of a trace, redacted and bounded."""
    lines = [line for line in stacktrace[-_TRACE_CHARS:].splitlines() if line.strip()]
    # The DAG processor did not read the secrets of the DAG file, so Airflow masks fewer of them here than in a task.
    text = _CREDENTIALS.sub(r"\1:***@", lines[-1]) if lines else ""
    return one_line(exception_text(text) or "", max_chars=LINE_CHARS)


def find_line(stacktrace: str) -> str | None:
    """Return the innermost line of a trace that is not in a library, such as ``orders.py, line 3``."""
    for path, number in reversed(_FRAME.findall(stacktrace[-_TRACE_CHARS:])):
        if not _LIBRARY.search(path):
            return f"{one_line(path.rpartition('/')[2], max_chars=NAME_CHARS)}, line {number}"
    return None


def read_broken_file(failure: Failure, broken: BrokenFile) -> Occurrence:
    """Return the occurrence of a DAG file that has been broken for too long."""
    return Occurrence(failure=failure, occasion=(broken.file, broken.since))


def wish_nothing(failure: Failure) -> Wishes:
    """Return wishes without any field: no DAG has set one. Templates have ``failure`` as their only variable."""
    return Wishes(render=new_renderer({"failure": failure}))


_PARSES_MISSED = 5


def is_due(broken: BrokenFile, grace_s: float) -> bool:
    """Return whether a file has been broken for the grace period and has raised nothing yet."""
    return not broken.outcome and broken.seen - broken.since >= grace_s


def advance(
    previous: BrokenFile | None, *, file: str, is_new: bool, now: float, parse_interval_s: float
) -> BrokenFile:
    """Return the episode after one more parse that failed.

    :param previous: the remembered episode of the file.
    :param is_new: whether Airflow says that the error is new.
    :param parse_interval_s: the seconds between two parses of a file, as they are configured.
    """
    if previous is None:
        return BrokenFile(file=file, since=now, seen=now, is_confirmed=not is_new)
    gap_s = max(0.0, now - previous.seen)
    if is_new and (previous.is_confirmed or gap_s > _longest_gap(previous, parse_interval_s)):
        return BrokenFile(file=file, since=now, seen=now, gap_s=gap_s)
    return replace(
        previous,
        seen=max(now, previous.since),
        gap_s=gap_s,
        is_confirmed=previous.is_confirmed or not is_new,
    )


def _longest_gap(previous: BrokenFile, parse_interval_s: float) -> float:
    """Return after how many seconds a file was clean in between, if Airflow calls each error a new one.

    It does so if it cannot keep its own note of the error.
    """
    return max(_PARSES_MISSED * parse_interval_s, 2 * previous.gap_s)


_TIMEOUT_S = 1
_NOTES_MAX = 1000
"""The files that are kept in memory: each is noted again at its next parse."""


class _Note(NamedTuple):
    stacktrace: str
    is_new: bool


class Reporter:
    """The notes of this process that are not in the store yet.

    :param clock: returns seconds, as ``time.monotonic`` does.
    """

    def __init__(self, *, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._notes: dict[str, _Note] = {}
        self._closed_until = float("-inf")

    def report(self, filename: str, stacktrace: str, *, is_new: bool) -> None:
        """Note that a DAG file is broken, and write one incident if it has been so for the grace period.

        :param filename: its whole path.
        :param stacktrace: the trace of its error.
        :param is_new: whether Airflow says that the error is new.
        :raises StoreError: if the store cannot be used. It is tried again after 30 seconds, at the next parse of any file.
        """
        earlier = self._notes.pop(filename, None)
        self._notes[filename] = _Note(stacktrace, is_new or bool(earlier and earlier.is_new))
        if self._clock() < self._closed_until:
            if len(self._notes) > _NOTES_MAX:
                del self._notes[next(iter(self._notes))]
            return
        try:
            for name, note in list(self._notes.items()):
                with database(timeout_s=_TIMEOUT_S).transaction() as tx:
                    _note(tx, name, note)
                del self._notes[name]
        except StoreError:
            self._closed_until = self._clock() + 30
            raise


_reporter = Reporter()

report = _reporter.report


def _note(tx: Transaction, filename: str, note: _Note) -> None:
    broken = advance(
        broken_files.lock(tx, filename),
        file=filename,
        is_new=note.is_new,
        now=tx.now,
        parse_interval_s=parse_interval_s(),
    )
    if is_due(broken, settings().import_error_grace_s):
        broken = _raise_incident(tx, broken, note.stacktrace)
        broken_files.prune(tx)
    broken_files.save(tx, broken)


def _raise_incident(tx: Transaction, broken: BrokenFile, stacktrace: str) -> BrokenFile:
    failure = describe_import_error(find_dag_file(broken.file), stacktrace, broken)
    # In the transaction of the file: two DAG processors write one incident.
    decision = decide(
        read_broken_file(failure, broken),
        wish_nothing(failure),
        record=lambda incident: add(tx, redacted(incident)),
    )
    if isinstance(decision, NotRaised):
        log.info("%s The DAG file is %s.", decision, failure.file)
        return replace(broken, outcome="ignored")
    count_todos("queued", todo_type="INCIDENT")
    log.warning(
        "The DAG file %s has been broken since %s. Its incident waits in the outbox as %s.",
        failure.file,
        failure.broken_since,
        decision.identity,
    )
    return replace(broken, outcome="written")
