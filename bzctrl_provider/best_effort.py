"""Work beside an incident that must not cost it: a count, a mark, a detail."""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from types import TracebackType

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

    def __exit__(
        self, kind: type[BaseException] | None, exc: BaseException | None, traceback: TracebackType | None
    ) -> bool:
        """Log an error, and end it; the end of the process or of a task is no error."""
        if not isinstance(exc, Exception):
            return False
        from bzctrl_provider.reason_text import exception_text

        log.log(self._level, "Skipped %s: %s", self._work, exception_text(exc))
        return True
