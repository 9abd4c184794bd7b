"""Work beside an incident that must not cost it, and the text of an error: redacted by Airflow, and bounded."""

from __future__ import annotations

import logging
from traceback import format_exception_only

from airflow.providers.common.compat.sdk import redact

from bzctrl_provider.text import TEXT_CHARS, plain_text

log = logging.getLogger(__name__)


class best_effort:  # noqa: N801 - a context manager is written as a function
    """A block whose error is logged; what follows the block goes on.

    ```python
    with best_effort("the count of silences"):
        return read_count()
    return 0
    ```

    :param work: the work of the block, as a noun: the log says "Skipped the count of silences: OSError: …".
    :param level: of the log.
    """

    def __init__(self, work: str, *, level: int = logging.WARNING) -> None:
        self._work = work
        self._level = level

    def __enter__(self) -> None:
        """Begin the block."""

    def __exit__(self, kind: object, exc: BaseException | None, traceback: object) -> bool:
        """Log an error, and end it; the end of the process or of a task is no error."""
        if not isinstance(exc, Exception):
            return False
        log.log(self._level, "Skipped %s: %s", self._work, exception_text(exc))
        return True


def exception_text(exception: object) -> str | None:
    """Return the type and the message of an exception, redacted by Airflow, in at most 2,000 characters.

    A longer one keeps its beginning and its end, because most errors give their cause there.
    """
    if exception is None:
        return None
    if isinstance(exception, BaseException):
        module = f"{type(exception).__module__}."
        exception = "".join(format_exception_only(exception))
        if module.startswith("airflow."):  # which module it is differs with the version
            exception = exception.removeprefix(module)
    return cut_middle(plain_text(str(redact(str(exception)))).strip())


def cut_middle(text: str) -> str:
    """Return a text in at most 2,000 characters: its beginning and its last line, of a long line the end."""
    if len(text) <= TEXT_CHARS:
        return text
    last = text.rsplit("\n", 1)[-1][-TEXT_CHARS // 2 :]
    return f"{text[: TEXT_CHARS - len(last) - 3]}\n…\n{last}"
