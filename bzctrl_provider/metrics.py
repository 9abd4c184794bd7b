"""Count todos through Airflow's own metrics. Nothing here raises: a metric must not cost an incident."""

from __future__ import annotations

import logging
import time
from collections import Counter
from contextlib import contextmanager
from datetime import timedelta
from itertools import zip_longest
from typing import TYPE_CHECKING, Any, Literal

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator

log = logging.getLogger(__name__)

Outcome = Literal["created", "failed", "deduplicated", "silenced", "ignored", "queued", "grouped"]


def count_todos(outcome: Outcome, *, todo_type: object, number: int = 1) -> None:
    """Increase the counter ``bzctrl.todos.<outcome>``.

    :param outcome: the outcome of the todos.
    :param todo_type: ``INCIDENT`` or ``TASK``; becomes a tag.
    :param number: how many todos.
    """
    if number > 0:
        _send("incr", f"bzctrl.todos.{outcome}", number, tags={"todo_type": _tag(todo_type)})


def count_results(results: Iterable[object], *, todo_types: Iterable[object] = ()) -> None:
    """Count the todos of a bulk as created or failed.

    :param results: for each todo what was created, or the error.
    :param todo_types: the type of each todo, as far as it is known; an error does not have it.
    """
    counted: Counter[tuple[Outcome, str]] = Counter()
    for result, todo_type in zip_longest(results, todo_types):
        outcome: Outcome = "failed" if isinstance(result, BaseException) else "created"
        counted[outcome, _tag(getattr(result, "todo_type", todo_type))] += 1
    for (outcome, tag), number in counted.items():
        count_todos(outcome, todo_type=tag, number=number)


@contextmanager
def time_create(*, todo_type: object, clock: Callable[[], float] = time.monotonic) -> Iterator[None]:
    """Measure the timer ``bzctrl.create`` around a block, also if the block raises.

    :param todo_type: ``INCIDENT`` or ``TASK``; becomes a tag.
    :param clock: returns seconds.
    """
    started = clock()
    try:
        yield
    finally:
        # A timedelta, because the unit of a number depends on Airflow's version and options.
        elapsed = timedelta(seconds=clock() - started)
        _send("timing", "bzctrl.create", elapsed, tags={"todo_type": _tag(todo_type)})


def gauge_outbox(*, waiting: int, oldest_s: float) -> None:
    """Set the gauges ``bzctrl.outbox.waiting`` and ``bzctrl.outbox.oldest_s``.

    :param waiting: how many todos wait in the outbox.
    :param oldest_s: the age of the oldest in seconds; 0 if none waits.
    """
    _send("gauge", "bzctrl.outbox.waiting", waiting)
    # Whole seconds; a negative gauge would be a difference.
    _send("gauge", "bzctrl.outbox.oldest_s", max(0, round(oldest_s)))


def gauge_unwritten(number: int) -> None:
    """Set the gauge ``bzctrl.failed_runs.unwritten``.

    :param number: how many failed runs a scheduler keeps in memory, because the store cannot be used.
    """
    _send("gauge", "bzctrl.failed_runs.unwritten", number)


def _send(kind: Literal["incr", "timing", "gauge"], *values: Any, **tags: Any) -> None:
    try:
        # Imported here: with the first metric, Airflow reads its options for them.
        from airflow.providers.common.compat.sdk import Stats

        getattr(Stats, kind)(*values, **tags)
    except Exception as exc:  # noqa: BLE001 - a metric must not cost an incident, whatever its client raises
        log.debug("A metric could not be sent: %s", type(exc).__name__)


def _tag(todo_type: object) -> str:
    # Any other text would be one more series in the metrics' database.
    name = str(todo_type).upper() if isinstance(todo_type, str) else ""
    return name if name in ("INCIDENT", "TASK") else "unknown"
