"""A clock whose time a test sets."""

from __future__ import annotations


class Clock:
    """Return ``now``, which a test changes; a monotonic time in seconds."""

    def __init__(self):
        self.now = 1000.0

    def __call__(self):
        return self.now
