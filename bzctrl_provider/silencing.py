"""The silences of the deployment for a failure in Airflow. Nothing here raises: a silence must not cost an incident."""

from __future__ import annotations

import logging
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from typing import TYPE_CHECKING

from bzctrl_provider.best_effort import best_effort
from bzctrl_provider.limits import LIST_ITEMS, NAME_CHARS
from bzctrl_provider.memory import read_variable, variable_name, write_variable
from bzctrl_provider.silences import count_silenced, parse_silences, silenced_note

if TYPE_CHECKING:
    from collections.abc import Callable

    from bzctrl_provider.failure import Failure, LazyFailure
    from bzctrl_provider.silences import Silence, Silences

log = logging.getLogger(__name__)

SILENCES_VARIABLE = "bzctrl_silences"

_KEYS_MAX = 50
"""The most counts of one DAG: one may make new task ids in each run."""


@dataclass(frozen=True)
class Silencing:
    """The decision about one failure.

    :param silence: the silence that covers it; None if its incident is raised.
    :param note: a sentence for the description about earlier failures that were silenced; empty if there were none.
    :param variable: the name of the Variable that counts those of the DAG.
    :param key: the failure's key in it.
    """

    silence: Silence | None = None
    note: str = ""
    variable: str = ""
    key: str = ""

    def forget(self) -> None:
        """Begin the count again, after an incident with the note was raised."""
        if not self.note:
            return
        with best_effort("the reset of the count of silenced failures"):
            counts = read_variable(self.variable)
            counts.pop(self.key, None)
            write_variable(self.variable, counts)


def find_silencing(
    failure: Failure | LazyFailure, *, now: Callable[[], datetime] = lambda: datetime.now(UTC)
) -> Silencing:
    """Return whether a failure is silenced; if so, count it.

    :param failure: the failure. A deadline alert is never silenced: the triggerer cannot wait for a Variable.
    :param now: returns the present time, with a time zone.
    """
    if failure.kind == "deadline":
        return Silencing()
    silencing = Silencing()
    with best_effort(f"the silences of the Variable {SILENCES_VARIABLE}"):
        text = _read_text()
        if text and text.strip():
            task_ids = failure.task_ids
            silencing = Silencing(
                silence=_parse(text).find_silence(failure.dag_id or None, task_ids, now=now()),
                variable=variable_name("silenced", failure.dag_id),
                key=",".join(sorted(task_ids))[:NAME_CHARS],
            )
    if not silencing.variable:
        return silencing
    note = ""
    with best_effort("the count of silenced failures"):
        note = _count(silencing, run_id=failure.run_id, now=now())
    return replace(silencing, note=note)


def _count(silencing: Silencing, *, run_id: str, now: datetime) -> str:
    """Count a silenced failure; return the note for one that is raised."""
    counts = read_variable(silencing.variable)
    record = counts.get(silencing.key)
    record = record if isinstance(record, dict) else {}
    if silencing.silence is None:
        return silenced_note(record)
    # The operator and the policy may both see the failure of one run.
    if record.get("run_id") != run_id:
        counted = {**count_silenced(record, silencing.silence, now=now), "run_id": run_id}
        items = list({**counts, silencing.key: counted}.items())
        write_variable(silencing.variable, dict(items[-_KEYS_MAX:]))
    return ""


def _read_text() -> str | None:
    from airflow.providers.common.compat.sdk import Variable

    # By position: the parameter's name changed with Airflow 3.
    text: str | None = Variable.get(SILENCES_VARIABLE, None)
    return text


def _parse(text: str) -> Silences:
    silences = parse_silences(text)
    if silences.errors:
        log.warning(
            "The Variable %s has faults, and the entries with faults silence nothing: %s",
            SILENCES_VARIABLE,
            " ".join(silences.errors[:LIST_ITEMS]),
        )
    return silences
