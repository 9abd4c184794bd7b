"""The limits that several modules of the provider share.

A text or a list that is shown has one of four sizes. Any other limit stays with what it limits, with its reason.
"""

from __future__ import annotations

NAME_CHARS = 200
"""The most characters of a name: an id, a title, a path's last part."""

LINE_CHARS = 300
"""The most characters of a line: a reason, an address in a sentence, a path."""

TEXT_CHARS = 2000
"""The most characters of a text: an exception, an excerpt of a response, an address that has to work."""

LIST_ITEMS = 20
"""The most items of a list; the rest is a number."""

DIGITS_MAX = 400
"""The most digits of a number: every float can be written with fewer, and ``1e999999999`` would fill the memory."""

FAILURES_MAX = 1000
"""The most failures in a row that ``consecutive_failures`` waits for."""

WINDOW_MAX_S = 10 * 365 * 86_400
"""The longest ``dedup_window_s``: ten years."""

LOG_LINES_MAX = 50
"""The most lines of a task's log in an incident."""

MAX_WORKERS = 64
"""The most threads, and therefore connections, that one client uses."""
