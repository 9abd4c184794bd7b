"""Patterns of names: those of routes, of silences, and of ``[bzctrl] include_dags`` and ``exclude_dags``.

A pattern is one of a shell, as in Python's ``fnmatch``: ``*`` is any text, ``?`` is one character, ``[ab]`` is one of these
characters, and ``[!ab]`` is one of all others; ``[[]`` is the character ``[``. Upper and lower case differ, and a pattern
has to fit the whole name. ``settings`` imports this module, so it imports nothing heavy.
"""

from __future__ import annotations

from fnmatch import fnmatchcase
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterable


def fits_any(patterns: Iterable[str], name: str) -> bool:
    """Return whether any of the patterns fits a name."""
    return any(fnmatchcase(name, pattern) for pattern in patterns)


def read_patterns(value: object) -> tuple[str, ...]:
    """Return the patterns that a user has written as a list of texts, or as one text.

    :raises ValueError: the value is something else, empty, or has an empty pattern.
    """
    texts = [value] if isinstance(value, str) else value
    if not isinstance(texts, list) or not all(isinstance(text, str) for text in texts):
        raise ValueError(f"must be a pattern or a list of patterns, not {value!r}")
    if not texts:
        raise ValueError("must have at least one pattern: leave it out to match everything")
    patterns = tuple(text.strip() for text in texts)
    if not all(patterns):
        raise ValueError('must not have an empty pattern: write "*" to match everything')
    return patterns
