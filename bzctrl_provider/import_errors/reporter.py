"""Each parse of a broken DAG file is noted in the store, and its incident is written when it is due.

Airflow 3 calls this in the loop of the DAG processor, which must not wait: a statement has one second, and after a failure of the
store the notes stay in memory for 30 seconds.
"""

from __future__ import annotations

import logging
import time
from dataclasses import replace
from typing import TYPE_CHECKING, NamedTuple

from bzctrl_provider.import_errors.dag_files import find_dag_file, parse_interval_s
from bzctrl_provider.import_errors.episodes import advance, is_due
from bzctrl_provider.import_errors.occurrence import describe_import_error, read_broken_file, wish_nothing
from bzctrl_provider.incidents.decide import decide
from bzctrl_provider.metrics import count_todos
from bzctrl_provider.outbox.incident import NotRaised, redacted
from bzctrl_provider.outbox.writer import add
from bzctrl_provider.settings import settings
from bzctrl_provider.store import broken_files
from bzctrl_provider.store.database import StoreError, database

if TYPE_CHECKING:
    from collections.abc import Callable

    from bzctrl_provider.store.broken_files import BrokenFile
    from bzctrl_provider.store.database import Transaction

log = logging.getLogger(__name__)

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
