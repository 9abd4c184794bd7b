"""The silences of the deployment for a failure in Airflow. Nothing here raises: a silence must not cost an incident."""

from __future__ import annotations

import logging
import time
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any

from bzctrl_provider.reason_text import exception_text

if TYPE_CHECKING:
    from collections.abc import Callable

    from bzctrl_provider.failure import Failure, LazyFailure
    from bzctrl_provider.silences import Silence, Silences

log = logging.getLogger(__name__)

SILENCES_VARIABLE = "bzctrl_silences"

_KEPT_FOR = timedelta(seconds=5)
"""How long the Variable is not read again, by this process and by the others that use the same local spool.

When many runs fail at once, each callback is a process of its own, and each of its requests keeps the DAG processor busy.
"""

_MARK = ".silences.json"

_KEY_CHARS = 200
_KEYS_MAX = 50

_Read = tuple[float, "Silences | None"]
_read: _Read | None = None


@dataclass(frozen=True)
class Silencing:
    """Hold the decision about one failure.

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
        from bzctrl_provider.memory import read_variable, write_variable

        try:
            counts = read_variable(self.variable)
            counts.pop(self.key, None)
            write_variable(self.variable, counts)
        except Exception as exc:  # noqa: BLE001 - see the module
            log.warning("The count of silenced failures could not be reset: %s", exception_text(exc))


def find_silencing(
    failure: Failure | LazyFailure, *, now: Callable[[], datetime] = lambda: datetime.now(UTC)
) -> Silencing:
    """Return whether a failure is silenced; if so, count it.

    :param failure: the failure. A deadline alert is never silenced: the triggerer cannot wait for a Variable.
    :param now: returns the present time, with a time zone.
    """
    if failure.kind == "deadline":
        return Silencing()
    try:
        silences = _read_silences()
        if silences is None:
            return Silencing()
        # Only here: most deployments have no silences, and each callback of a DAG is a process of its own.
        from bzctrl_provider.memory import read_variable, variable_name, write_variable
        from bzctrl_provider.silences import count_silenced, silenced_note

        task_ids = failure.task_ids
        silence = silences.find_silence(failure.dag_id or None, task_ids, now=now())
    except Exception as exc:  # noqa: BLE001 - see the module
        log.warning(
            "The Variable %s cannot be read, so no failure is silenced: %s",
            SILENCES_VARIABLE,
            exception_text(exc),
        )
        return Silencing()
    variable = variable_name("silenced", failure.dag_id)
    key = ",".join(sorted(task_ids))[:_KEY_CHARS]
    try:
        counts = read_variable(variable)
        record = counts.get(key)
        record = record if isinstance(record, dict) else {}
        if silence is None:
            return Silencing(note=silenced_note(record), variable=variable, key=key)
        # The operator and the policy may both see the failure of one run.
        if record.get("run_id") != failure.run_id:
            counted = {**count_silenced(record, silence, now=now()), "run_id": failure.run_id}
            write_variable(variable, _bounded({**counts, key: counted}))
    except Exception as exc:  # noqa: BLE001 - see the module
        log.warning("The silenced failures could not be counted: %s", exception_text(exc))
    return Silencing(silence)


def _read_silences() -> Silences | None:
    """Return the silences; None if the Variable is not set."""
    global _read  # noqa: PLW0603 - what this process has read
    if _read and time.monotonic() - _read[0] < _KEPT_FOR.total_seconds():
        return _read[1]
    text = _read_text()
    silences = None
    if text and text.strip():
        from bzctrl_provider.silences import parse_silences

        silences = parse_silences(text)
    if silences and silences.faults:
        log.warning(
            "The Variable %s has faults, and the entries with faults silence nothing: %s",
            SILENCES_VARIABLE,
            " ".join(silences.faults[:20]),
        )
    _read = (time.monotonic(), silences)
    return silences


def _read_text() -> str | None:
    """Return the Variable, which another process may just have read."""
    from bzctrl_provider.spool.marks import read_mark, write_mark

    mark = read_mark(_MARK, max_age=_KEPT_FOR) or {}
    if "text" in mark and isinstance(mark["text"], str | None):
        return mark["text"]
    from airflow.providers.common.compat.sdk import Variable

    # By position: the parameter's name changed with Airflow 3.
    text: str | None = Variable.get(SILENCES_VARIABLE, None)
    try:
        write_mark(_MARK, {"text": text}, makes_folder=False)
    except Exception as exc:  # noqa: BLE001 - the next process reads the Variable
        log.debug("The silences could not be kept in the spool. %s", exception_text(exc))
    return text


def _bounded(counts: dict[str, Any]) -> dict[str, Any]:
    """Return the last counts that were begun."""
    return dict(list(counts.items())[-_KEYS_MAX:])
