"""The limits that several modules of the provider share."""

from __future__ import annotations

DIGITS_MAX = 400
"""The most digits of a number: every float can be written with fewer, and ``1e999999999`` would fill the memory."""

MAX_WORKERS = 64
"""The most threads, and therefore connections, that one client uses."""
