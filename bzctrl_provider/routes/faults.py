"""Faults of a routes file, each with its line."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterable


@dataclass(frozen=True, order=True)
class RouteFault:
    """State one fault.

    :param line: its line in the file, from 1; 0 if it concerns the file as a whole.
    :param text: the fault and its remedy.
    """

    line: int
    text: str

    def __str__(self) -> str:
        return f"line {self.line}: {self.text}" if self.line else self.text


class RoutesError(ValueError):
    """Report all faults of a routes file at once.

    :param faults: the faults.
    """

    def __init__(self, faults: Iterable[RouteFault]) -> None:
        self.faults = tuple(sorted(faults))
        super().__init__("\n".join(map(str, self.faults)))

    def __reduce__(self) -> tuple[type[RoutesError], tuple[tuple[RouteFault, ...]]]:
        return type(self), (self.faults,)
