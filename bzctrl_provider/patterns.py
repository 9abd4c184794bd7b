"""Match names against patterns in which ``*`` is any text and ``?`` is one character."""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from fnmatch import translate
from functools import cached_property
from typing import TYPE_CHECKING

from bzctrl_provider.text import safe_repr

if TYPE_CHECKING:
    from collections.abc import Iterable


@dataclass(frozen=True)
class Patterns:
    """Hold some patterns, any of which may fit.

    Only ``*`` and ``?`` are special: ``[`` is itself, as in the ids of mapped tasks. Upper and lower case differ, and a
    pattern has to fit the whole name.

    :param texts: the patterns as they were written.
    """

    texts: tuple[str, ...]
    _expression: re.Pattern[str] = field(init=False, repr=False, compare=False)
    _literals: frozenset[str] = field(init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        wild = [text for text in self.texts if "*" in text or "?" in text]
        object.__setattr__(self, "_literals", frozenset(self.texts) - set(wild))
        # The standard library's translation does not backtrack: thirty asterisks take no longer than one.
        translated = "|".join(translate(text.replace("[", "[[]")) for text in wild)
        object.__setattr__(self, "_expression", re.compile(translated or r"(?!)"))

    @classmethod
    def parse(cls, value: object) -> Patterns:
        """Read patterns from a list of texts, or from one text.

        :raises ValueError: the value is something else, empty, or has an empty pattern.
        """
        texts = [value] if isinstance(value, str) else value
        if not isinstance(texts, list) or not all(isinstance(text, str) for text in texts):
            raise ValueError(f"must be a pattern or a list of patterns, not {safe_repr(value)}")
        if not texts:
            raise ValueError("must have at least one pattern: leave it out to match everything")
        stripped = tuple(text.strip() for text in texts)
        if not all(stripped):
            raise ValueError('must not have an empty pattern: write "*" to match everything')
        return cls(stripped)

    @cached_property
    def match_everything(self) -> bool:
        """Return whether one of them is ``*``, so that no name needs to be known."""
        return any(not text.strip("*") for text in self.texts)

    def match(self, name: str) -> bool:
        """Return whether any pattern fits a name."""
        return name in self._literals or self._expression.match(name) is not None

    def match_any(self, names: Iterable[str]) -> bool:
        """Return whether any pattern fits any of the names."""
        return any(map(self.match, names))
