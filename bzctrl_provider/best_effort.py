"""Work beside an incident that must not cost it: a count, a mark, a detail."""

from __future__ import annotations

import logging
from contextlib import contextmanager
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator

log = logging.getLogger(__name__)


@contextmanager
def best_effort(work: str, *, level: int = logging.WARNING) -> Iterator[None]:
    """Log an error of a block, and go on after the block.

    ```python
    with best_effort("the count of silences"):
        return read_count()
    return 0
    ```

    :param work: what the block does, as a noun: the log says "Skipped the count of silences: OSError: …".
    :param level: of the log.
    """
    try:
        yield
    except Exception as exc:  # noqa: BLE001 - whatever it is, what follows is worth more
        from bzctrl_provider.reason_text import exception_text

        log.log(level, "Skipped %s: %s", work, exception_text(exc))
