"""The silences of the deployment for a failure in Airflow. Nothing here raises: a silence must not cost an incident."""

from __future__ import annotations

import logging
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import TYPE_CHECKING

from bzctrl_provider.best_effort import best_effort
from bzctrl_provider.limits import LIST_ITEMS
from bzctrl_provider.outbox.incident import format_time
from bzctrl_provider.silences import parse_silences
from bzctrl_provider.store import problems
from bzctrl_provider.store.database import database

if TYPE_CHECKING:
    from collections.abc import Callable

    from bzctrl_provider.failure import Failure, LazyFailure
    from bzctrl_provider.repeats import Problem
    from bzctrl_provider.silences import Silence, Silences

log = logging.getLogger(__name__)

SILENCES_VARIABLE = "bzctrl_silences"


@dataclass(frozen=True)
class Silencing:
    """The decision about one failure.

    :param silence: the silence that covers it; None if its incident is raised.
    :param note: a sentence for the description about earlier failures that were silenced; empty if there were none.
    :param key: of the problem that counts them, which ends with the incident; None if there is none.
    """

    silence: Silence | None = None
    note: str = ""
    key: str | None = None


def find_silencing(
    failure: Failure | LazyFailure,
    *,
    now: Callable[[], datetime] = lambda: datetime.now(UTC),
    read_text: Callable[[], str | None] | None = None,
    is_counted: bool = True,
) -> Silencing:
    """Return whether a failure is silenced; if so, count it.

    :param failure: the failure.
    :param now: returns the present time, with a time zone.
    :param read_text: returns the text of the Variable; default: as a task and a callback can read it.
    :param is_counted: whether the failure has happened; otherwise nothing is written.
    """
    silence, is_used = None, False
    with best_effort(f"the silences of the Variable {SILENCES_VARIABLE}"):
        text = (read_text or _read_text)()
        is_used = bool(text and text.strip())
        if is_used:
            silence = _parse(text).find_silence(failure.dag_id or None, failure.task_ids, now=now())
    if not is_used:
        return Silencing()
    if not is_counted:
        return Silencing(silence)
    key = problems.key_of("silenced", failure.dag_id, *sorted(failure.task_ids))
    with best_effort("the count of silenced failures"), database().transaction() as tx:
        if silence is None:
            return _with_note(problems.find(tx, key), key)
        problem = problems.lock(tx, key, f"silenced {failure.dag_id}")
        # The operator and the policy may both see the failure of one run.
        problems.save(tx, key, problem.with_failure(failure.run_id, now=tx.now))
    return Silencing(silence)


def _with_note(problem: Problem, key: str) -> Silencing:
    if not problem.in_a_row or problem.since is None:
        return Silencing()
    times = "once" if problem.in_a_row == 1 else f"{problem.in_a_row} times"
    return Silencing(note=f"This failure was silenced {times} since {format_time(problem.since)}.", key=key)


def _read_text() -> str | None:
    from airflow.providers.common.compat.sdk import Variable

    # By position: the parameter's name changed with Airflow 3.
    text: str | None = Variable.get(SILENCES_VARIABLE, None)
    return text


def _parse(text: str | None) -> Silences:
    silences = parse_silences(text)
    if silences.errors:
        log.warning(
            "The Variable %s has faults, and the entries with faults silence nothing: %s",
            SILENCES_VARIABLE,
            " ".join(silences.errors[:LIST_ITEMS]),
        )
    return silences
