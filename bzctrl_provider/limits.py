"""The limits that several modules of the provider share."""

from __future__ import annotations

DIGITS_MAX = 400
"""The most digits of a number: every float can be written with fewer, and ``1e999999999`` would fill the memory."""

FAILURES_MAX = 1000
"""The most failures in a row that ``consecutive_failures`` waits for."""

WINDOW_MAX_S = 10 * 365 * 86_400
"""The longest ``dedup_window_s``: ten years."""

MAX_WORKERS = 64
"""The most threads, and therefore connections, that one client uses."""
