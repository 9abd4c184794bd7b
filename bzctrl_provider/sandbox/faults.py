"""Plan faults: which ones there are, and which request gets one. Nothing here touches a connection."""

from __future__ import annotations

import random
import re
import threading
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal, TypeAlias, get_args

if TYPE_CHECKING:
    from collections.abc import Sequence

FaultName: TypeAlias = Literal["reset_before", "reset_after", "cut", "html", "empty", "no_todo", "slow"]
"""The faults that are not simply an HTTP status.

``reset_before``: the connection is reset, no todo is created. ``reset_after``: it is reset after the todo was created.
``cut``: the todo is created, the response ends half-way. ``html``: status 200 with a page instead of JSON.
``empty``: status 200 without a body. ``no_todo``: status 200 with the JSON of an error. ``slow``: the todo is created, the
response is sent ``delay_s`` later.
"""

FaultTarget: TypeAlias = Literal["create", "token", "any"]
"""Which requests may get a fault."""

NAMES: tuple[FaultName, ...] = get_args(FaultName)
TARGETS: tuple[FaultTarget, ...] = get_args(FaultTarget)
KINDS = (*range(300, 600), *NAMES)

DEFAULT_RANDOM_FAULTS: tuple[int | FaultName, ...] = (429, 500, 503, "reset_before", "reset_after")


def _is_between(value: Any, lowest: float, highest: float, kind: type = float) -> bool:
    return type(value) in (int, kind) and lowest <= value <= highest


def check(rules: dict[str, bool]) -> None:
    """Raise if an argument is invalid.

    :param rules: each rule as an error names it, and whether it holds.
    :raises ValueError: naming every rule that does not hold.
    """
    if broken := [rule for rule, holds in rules.items() if not holds]:
        raise ValueError("; ".join(broken))


@dataclass(frozen=True)
class Fault:
    """One fault with its options, which ``Sandbox.fail_next`` describes.

    :raises ValueError: naming every invalid argument and the values that are allowed.
    """

    kind: int | FaultName
    on: FaultTarget = "create"
    retry_after_s: int | None = None
    retry_after_as_date: bool = False
    delay_s: float = 0
    location: str | None = None
    after_creation: bool = False

    def __post_init__(self) -> None:
        kind, seconds, location = self.kind, self.retry_after_s, self.location
        check(
            {
                f"fault must be an HTTP status from 300 to 599 or one of {', '.join(NAMES)}": kind in KINDS,
                f"on must be one of {', '.join(TARGETS)}": self.on in TARGETS,
                "retry_after_s must be whole seconds from 0 to 1,000,000,000": _is_between(
                    seconds or 0, 0, 10**9, int
                ),
                "retry_after_s goes with an HTTP status": seconds is None or kind not in NAMES,
                "retry_after_as_date needs retry_after_s": not self.retry_after_as_date
                or seconds is not None,
                "delay_s must be seconds from 0 to 86,400": _is_between(self.delay_s, 0, 86_400),
                "'slow' needs delay_s": kind != "slow" or self.delay_s != 0,
                "location must be a URL in printable ASCII": bool(re.fullmatch("[ -~]*", f"{location}")),
                "location goes with a status from 300 to 399": location is None or kind in range(300, 400),
                "after_creation goes with a status from 500 to 599, html, empty or no_todo": (
                    not self.after_creation or kind in (*range(500, 600), *NAMES[1:])
                ),
            }
        )

    @property
    def takes_effect(self) -> bool:
        """Return whether the request takes effect nevertheless: the todo is created, or the token issued."""
        return self.after_creation or self.kind in ("reset_after", "cut", "slow")


class FaultPlan:
    """The faults of the next requests: first the queue, in order, then the random ones. Any thread may use it."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._random = random.Random()  # noqa: S311 - it must be repeatable, and keeps no secret
        self._queue: list[Fault] = []
        self._rate = 0.0
        self._random_faults: list[Fault] = []

    def add(self, fault: Fault, *, times: int = 1) -> None:
        """Add a fault to the queue.

        :param fault: the fault of the next requests of its kind.
        :param times: how many requests, 1 (default) to 10,000.
        :raises ValueError: if ``times`` is anything else.
        """
        check({"times must be a whole number from 1 to 10,000": _is_between(times, 1, 10_000, int)})
        with self._lock:
            self._queue.extend([fault] * times)

    def add_at_random(self, rate: float, *, faults: Sequence[Fault], seed: int) -> None:
        """Let requests fail at random, in the same way for the same seed and the same sequence of requests.

        :param rate: the share of requests that fail, from 0 (none, which ends it) to 1 (all).
        :param faults: the faults that they may get, each equally likely.
        :param seed: the number that the random sequence starts from.
        :raises ValueError: if the rate is anything else.
        """
        check({"rate must be a number from 0 to 1": _is_between(rate, 0, 1)})
        with self._lock:
            self._rate, self._random_faults = rate, list(faults)
            self._random.seed(seed)

    def take(self, kind: str | None) -> Fault | None:
        """Return the fault of a request, and remove it from the queue.

        :param kind: ``create`` or ``token``; None for any other request, which gets no fault.
        :return: None if the request gets no fault.
        """
        if kind is None:
            return None
        with self._lock:
            for position, fault in enumerate(self._queue):
                if fault.on in (kind, "any"):
                    return self._queue.pop(position)
            fitting = [fault for fault in self._random_faults if fault.on in (kind, "any")]
            if fitting and self._random.random() < self._rate:
                return self._random.choice(fitting)
            return None

    def give_back(self, fault: Fault) -> None:
        """Put a fault back at the head of the queue, because its request was refused; a random one is dropped.

        :param fault: the fault that ``take`` returned.
        """
        with self._lock:
            if not any(fault is one for one in self._random_faults):
                self._queue.insert(0, fault)

    def clear(self) -> None:
        """Remove every fault, those in the queue and the random ones."""
        with self._lock:
            self._queue.clear()
            self._random_faults = []
