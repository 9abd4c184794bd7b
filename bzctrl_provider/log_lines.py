"""The last lines of a task's log, kept in its process, for the incident of its failure.

Another process writes the log of Airflow 3, and a task cannot read it, so the task keeps the lines itself.
"""

from __future__ import annotations

import logging
import re
from collections import deque
from contextlib import suppress
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from airflow.providers.common.compat.sdk import redact

from bzctrl_provider._airflow_internals import add_to_task_log, is_step_of_airflow
from bzctrl_provider.best_effort import best_effort
from bzctrl_provider.limits import LOG_LINES_MAX, TEXT_CHARS
from bzctrl_provider.text import plain_text

if TYPE_CHECKING:
    from collections.abc import Mapping

    from airflow.providers.common.compat.sdk import Context

_COLORS = r"\x1b\[[0-9;]*m"


class _Tail(logging.Handler):
    """The last messages of the log of the task that runs in this process, until Airflow logs that it failed."""

    def __init__(self) -> None:
        super().__init__(logging.INFO)
        self.begin(None, 0)

    def begin(self, ti: object, lines: int) -> None:
        """Begin with a task instance, of which so many messages are kept: each is a line or more."""
        self._ti, self._messages, self._is_over = ti, deque[str](maxlen=lines), False

    def emit(self, record: logging.LogRecord) -> None:
        """Keep the message of a record of Python's logging."""
        with suppress(Exception):  # arguments that do not fit: the log has the error
            by_airflow = is_step_of_airflow(record.name, record.module)
            self._keep(record.getMessage(), record.levelno, by_airflow=by_airflow)

    def process(self, _logger: object, method: str, event: dict[str, Any]) -> dict[str, Any]:
        """Keep the message of an event of structlog, as one of its processors."""
        with suppress(Exception):
            if method != "debug":
                by_airflow = is_step_of_airflow(event.get("logger", event.get("logger_name")))
                level = logging.ERROR if method == "error" else logging.INFO
                self._keep(str(event["event"]), level, by_airflow=by_airflow)
        return event

    def _keep(self, message: str, level: int, *, by_airflow: bool) -> None:
        if by_airflow:
            self._is_over |= level >= logging.ERROR
        elif not self._is_over:
            if len(message) > TEXT_CHARS:
                # Redacted first, because half a secret would not be recognized.
                message = str(redact(message))[-TEXT_CHARS:]
            self._messages.append(message)

    def read(self, ti: object) -> str:
        """Return the messages; none if they are of another task instance, as there can be in a test run."""
        return "\n".join(self._messages) if ti is self._ti else ""


_tail = _Tail()
"""Of this process."""


@dataclass(frozen=True)
class KeepLogLines:
    """An ``on_execute_callback`` by which a task keeps the last lines of its log while it runs.

    :param lines: how many.
    """

    lines: int

    def __call__(self, context: Context) -> None:
        """Begin to keep them."""
        with best_effort("the lines of the log that are kept for the incident"):
            _tail.begin(context.get("ti"), self.lines)
            add_to_task_log(_tail)


def keep_log_lines(task: Any, lines: int) -> None:
    """Let a task keep the last lines of its log; if this is asked for more than once, the most lines count."""
    if count_kept_lines(task) < lines:
        task.on_execute_callback = [KeepLogLines(lines), *_callbacks(task)]


def count_kept_lines(task: Any) -> int:
    """Return how many lines of its log a task keeps."""
    if getattr(task, "inherits_from_empty_operator", False):
        # It has no log, and the scheduler would have to run it because of the callback.
        return LOG_LINES_MAX
    return max((call.lines for call in _callbacks(task) if isinstance(call, KeepLogLines)), default=0)


def _callbacks(task: Any) -> list[Any]:
    callbacks = task.on_execute_callback or []
    return list(callbacks) if isinstance(callbacks, list | tuple) else [callbacks]


def read_log_lines(context: Mapping[str, Any]) -> str | None:
    """Return what the task of a callback has kept, redacted by Airflow; None if there is nothing."""
    text = re.sub(_COLORS, "", _tail.read(context.get("ti")))
    return last_lines(plain_text(str(redact(text))), LOG_LINES_MAX)


def last_lines(text: str | None, lines: int) -> str | None:
    """Return the last lines of a text, in at most 2,000 characters; None if there are none."""
    kept = [line.rstrip() for line in (text or "").splitlines() if line.strip()]
    text = "\n".join(kept[-lines:]) if lines else ""
    return (text if len(text) <= TEXT_CHARS else f"…{text[1 - TEXT_CHARS :]}") or None
