"""Failures on demand: what can go wrong, and which request it happens to. Nothing here touches a connection."""

from __future__ import annotations

import math
import random
import threading
from collections import deque
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final, Literal, TypeAlias, get_args

if TYPE_CHECKING:
    from collections.abc import Sequence

FaultName: TypeAlias = Literal["reset_before", "reset_after", "cut", "html", "empty", "slow"]
"""The faults that are not simply an HTTP status.

`reset_before`: the connection is reset, and no todo was made. `reset_after`: it is reset after the todo was made.
`cut`: the todo is made, the answer breaks off half-way. `html`: status 200 with a page instead of JSON.
`empty`: status 200 with nothing. `slow`: the todo is made, the answer comes `delay_s` later.
"""

FaultTarget: TypeAlias = Literal["create", "token", "any"]
"""Which requests a fault may happen to."""

RequestKind: TypeAlias = Literal["create", "token"]

NAMES: Final[tuple[FaultName, ...]] = get_args(FaultName)
TARGETS: Final[tuple[FaultTarget, ...]] = get_args(FaultTarget)
STATUSES: Final = range(300, 600)
SERVER_ERRORS: Final = range(500, 600)
REDIRECTS: Final = range(300, 400)

DEFAULT_RANDOM_FAULTS: Final[tuple[int | FaultName, ...]] = (429, 500, 503, "reset_before", "reset_after")

_ALWAYS_AFTER: Final = ("reset_after", "cut", "slow")
_MAYBE_AFTER: Final = ("html", "empty")


@dataclass(frozen=True)
class Fault:
    """One failure, ready to be played.

    :param kind: an HTTP status from 300 to 599, or a `FaultName`.
    :param on: which requests it may happen to: `create` (default), `token` or `any`.
    :param retry_after_s: whole seconds for the Retry-After header of a status; no header by default.
    :param retry_after_as_date: whether that header is a date instead of seconds.
    :param delay_s: seconds before the answer, default 0; `slow` needs them, any other fault may have them.
    :param location: the Location header of a status from 300 to 399; the sandbox's page by default.
    :param after_creation: whether the todo is made before a status from 500 to 599, `html` or `empty` is answered.
    :raises ValueError: naming every argument that does not fit and all that is allowed.
    """

    kind: int | FaultName
    on: FaultTarget = "create"
    retry_after_s: int | None = None
    retry_after_as_date: bool = False
    delay_s: float | None = None
    location: str | None = None
    after_creation: bool = False

    def __post_init__(self) -> None:
        problems = [
            *_kind_problems(self.kind),
            *_target_problems(self.on),
            *_time_problems(self),
            *_switch_problems(self),
            *_placement_problems(self),
        ]
        if problems:
            raise ValueError("; ".join(problems))

    @property
    def name(self) -> str:
        """Its name as the record of a request shows it: `"503"`, `"reset_after"`."""
        return str(self.kind)

    @property
    def takes_effect(self) -> bool:
        """Whether the request does its work all the same: the todo, or the token, is made."""
        return self.after_creation or self.kind in _ALWAYS_AFTER


def _is_number(value: object, kinds: tuple[type, ...] = (int, float)) -> bool:
    # True and False are integers to Python, and never what a caller means here.
    return isinstance(value, kinds) and not isinstance(value, bool) and math.isfinite(value)  # type: ignore[arg-type] # one of `kinds`, all numbers


def _kind_problems(kind: object) -> list[str]:
    if isinstance(kind, str) and kind in NAMES:
        return []
    if _is_number(kind, (int,)) and kind in STATUSES:
        return []
    return [f"fault must be an HTTP status from 300 to 599 or one of {', '.join(NAMES)}, not {kind!r}"]


def _target_problems(on: object) -> list[str]:
    return [] if on in TARGETS else [f"on must be one of {', '.join(TARGETS)}, not {on!r}"]


def _time_problems(fault: Fault) -> list[str]:
    kind, retry_after_s, delay_s = fault.kind, fault.retry_after_s, fault.delay_s
    problems = []
    if retry_after_s is not None:
        if not _is_number(retry_after_s, (int,)) or retry_after_s < 0:
            problems.append(f"retry_after_s must be whole seconds, 0 or more, not {retry_after_s!r}")
        if kind in NAMES:
            problems.append(f"retry_after_s goes with an HTTP status, not with {kind!r}")
    elif fault.retry_after_as_date:
        problems.append("retry_after_as_date needs retry_after_s")
    if delay_s is not None and (not _is_number(delay_s) or delay_s < 0):
        problems.append(f"delay_s must be seconds, 0 or more, not {delay_s!r}")
    if kind == "slow" and not delay_s:
        problems.append("'slow' needs delay_s")
    return problems


def _switch_problems(fault: Fault) -> list[str]:
    switches: dict[str, object] = {
        "retry_after_as_date": fault.retry_after_as_date,
        "after_creation": fault.after_creation,
    }
    return [
        f"{name} must be true or false, not {value!r}"
        for name, value in switches.items()
        if not isinstance(value, bool)
    ]


def _placement_problems(fault: Fault) -> list[str]:
    kind, location = fault.kind, fault.location
    status = kind if isinstance(kind, int) else None
    problems = []
    if location is not None:
        if not (isinstance(location, str) and location.isascii() and location.isprintable()):
            problems.append(f"location must be a URL in printable ASCII, not {location!r}")
        if status not in REDIRECTS:
            problems.append(f"location goes with a status from 300 to 399, not with {kind!r}")
    if fault.after_creation is True:
        may = status in SERVER_ERRORS or kind in _MAYBE_AFTER or kind in _ALWAYS_AFTER
        if not may:
            problems.append(
                f"after_creation goes with a status from 500 to 599, html or empty, not with {kind!r}"
            )
    return problems


class FaultPlan:
    """Which fault happens to which request: first those asked for by name, in order, then those left to chance.

    Every method may be used from any thread.
    """

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._queue: deque[Fault] = deque()
        self._chance: tuple[float, tuple[Fault, ...]] = (0.0, ())
        self._random = random.Random(0)  # noqa: S311 - it must repeat itself, and keeps no secret

    def add(self, fault: Fault, *, times: int = 1) -> int:
        """Let a fault happen to the next requests that fit.

        :param fault: what happens.
        :param times: to how many requests, 1 or more.
        :return: how many faults now wait.
        :raises ValueError: where `times` is not 1 or more.
        """
        if not _is_number(times, (int,)) or times < 1:
            msg = f"times must be a whole number, 1 or more, not {times!r}"
            raise ValueError(msg)
        with self._lock:
            self._queue.extend([fault] * times)
            return len(self._queue)

    def add_at_random(self, rate: float, *, faults: Sequence[Fault], seed: int = 0) -> None:
        """Let requests fail by chance, the same way for the same seed and the same sequence of requests.

        :param rate: the share of requests that fail, from 0 (none, which ends it) to 1 (all).
        :param faults: what may happen to them, each equally likely.
        :param seed: where chance begins.
        :raises ValueError: naming every argument that does not fit.
        """
        problems = []
        if not _is_number(rate) or not 0 <= rate <= 1:
            problems.append(f"rate must be a number from 0 to 1, not {rate!r}")
        if not faults:
            problems.append("faults must name at least one fault")
        if not _is_number(seed, (int,)):
            problems.append(f"seed must be a whole number, not {seed!r}")
        if problems:
            raise ValueError("; ".join(problems))
        with self._lock:
            self._chance = (rate, tuple(faults))
            self._random.seed(seed)

    def take(self, kind: RequestKind) -> Fault | None:
        """Return the fault that happens to the request that has just come, and use it up.

        :param kind: what the request wants.
        :return: None where nothing goes wrong.
        """
        with self._lock:
            for position, fault in enumerate(self._queue):
                if fault.on in (kind, "any"):
                    del self._queue[position]
                    return fault
            rate, faults = self._chance
            fitting = [fault for fault in faults if fault.on in (kind, "any")]
            if fitting and self._random.random() < rate:
                return self._random.choice(fitting)
            return None

    def give_back(self, fault: Fault) -> None:
        """Put a fault back in the first place, because the request it was meant for never did its work.

        A fault that chance chose is dropped: chance has no queue.

        :param fault: what `take` returned.
        """
        with self._lock:
            if not any(fault is chosen for chosen in self._chance[1]):
                self._queue.appendleft(fault)

    def clear(self) -> None:
        """Let nothing go wrong any more, neither in order nor by chance."""
        with self._lock:
            self._queue.clear()
            self._chance = (0.0, ())
