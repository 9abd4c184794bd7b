"""Plan faults: which ones there are, and which request gets one. Nothing here touches a connection."""

from __future__ import annotations

import math
import random
import threading
from collections import deque
from collections.abc import Collection
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal, TypeAlias, get_args

if TYPE_CHECKING:
    from collections.abc import Sequence

FaultName: TypeAlias = Literal["reset_before", "reset_after", "cut", "html", "empty", "slow"]
"""The faults that are not simply an HTTP status.

``reset_before``: the connection is reset, no todo is created. ``reset_after``: it is reset after the todo was created.
``cut``: the todo is created, the response ends half-way. ``html``: status 200 with a page instead of JSON.
``empty``: status 200 without a body. ``slow``: the todo is created, the response is sent ``delay_s`` later.
"""

FaultTarget: TypeAlias = Literal["create", "token", "any"]
"""Which requests may get a fault."""

RequestKind: TypeAlias = Literal["create", "token"]

NAMES: tuple[FaultName, ...] = get_args(FaultName)
TARGETS: tuple[FaultTarget, ...] = get_args(FaultTarget)
STATUSES = range(300, 600)
SERVER_ERRORS = range(500, 600)
REDIRECTS = range(300, 400)

DEFAULT_RANDOM_FAULTS: tuple[int | FaultName, ...] = (429, 500, 503, "reset_before", "reset_after")

MAX_WAITING_FAULTS = 10_000
"""How many faults may wait at a time, and so the most ``times`` of one call."""

MAX_RANDOM_FAULTS = 100
MAX_DELAY_S = 86_400
MAX_RETRY_AFTER_S = 1_000_000_000

_EXCERPT_LENGTH = 60
_MAX_BITS = 128
_ALWAYS_AFTER = ("reset_after", "cut", "slow")
_MAYBE_AFTER = ("html", "empty")


@dataclass(frozen=True)
class Fault:
    """Hold one fault with its checked options.

    :param kind: an HTTP status from 300 to 599, or a ``FaultName``.
    :param on: which requests may get it: ``create`` (default), ``token`` or ``any``.
    :param retry_after_s: whole seconds for the Retry-After header of a status; no header by default.
    :param retry_after_as_date: whether that header is a date instead of seconds.
    :param delay_s: seconds before the response, default 0; ``slow`` needs it, any other fault may have it.
    :param location: the Location header of a status from 300 to 399; the sandbox's page by default.
    :param after_creation: whether the todo is created before a status from 500 to 599, ``html`` or ``empty`` is sent.
    :raises ValueError: naming every invalid argument and the values that are allowed.
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
            *_check_kind(self.kind),
            *_check_target(self.on),
            *_check_time(self),
            *_check_switch(self),
            *_check_placement(self),
        ]
        if problems:
            raise ValueError("; ".join(problems))

    @property
    def name(self) -> str:
        """Return its name as the record of a request shows it: ``"503"``, ``"reset_after"``."""
        return str(self.kind)

    @property
    def takes_effect(self) -> bool:
        """Return whether the request takes effect nevertheless: the todo is created, or the token issued."""
        return self.after_creation or self.kind in _ALWAYS_AFTER


def check_fault_list(faults: object) -> None:
    """Check that random faults are given as a list of bounded length.

    :param faults: the argument of ``fail_randomly``.
    :raises ValueError: if it is not a list, or one of more than ``MAX_RANDOM_FAULTS``.
    """
    if isinstance(faults, str) or not isinstance(faults, Collection):
        raise ValueError(  # noqa: TRY004 - the documented error of every invalid argument
            f"faults must be a list of statuses and names, not {_excerpt(faults)}"
        )
    if len(faults) > MAX_RANDOM_FAULTS:
        raise ValueError(f"faults must have at most {MAX_RANDOM_FAULTS} items, not {len(faults)}")


def _excerpt(value: object) -> str:
    if isinstance(value, int) and value.bit_length() > _MAX_BITS:
        return f"a number of {value.bit_length():,} bits"  # Python refuses to write thousands of digits
    text = repr(value)
    return text if len(text) <= _EXCERPT_LENGTH else f"{text[: _EXCERPT_LENGTH - 1]}…"


def _is_number(value: object, kinds: tuple[type, ...] = (int, float)) -> bool:
    # True and False are integers to Python, and never what a caller means here.
    if isinstance(value, bool) or not isinstance(value, kinds):
        return False
    return not isinstance(value, float) or math.isfinite(value)


def _check_kind(kind: object) -> list[str]:
    if isinstance(kind, str) and kind in NAMES:
        return []
    if _is_number(kind, (int,)) and kind in STATUSES:
        return []
    return [
        f"fault must be an HTTP status from 300 to 599 or one of {', '.join(NAMES)}, not {_excerpt(kind)}"
    ]


def _check_target(on: object) -> list[str]:
    return [] if on in TARGETS else [f"on must be one of {', '.join(TARGETS)}, not {_excerpt(on)}"]


def _check_time(fault: Fault) -> list[str]:
    kind, retry_after_s, delay_s = fault.kind, fault.retry_after_s, fault.delay_s
    problems = []
    if retry_after_s is not None:
        if not _is_number(retry_after_s, (int,)) or not 0 <= retry_after_s <= MAX_RETRY_AFTER_S:
            problems.append(
                f"retry_after_s must be whole seconds from 0 to {MAX_RETRY_AFTER_S:,}, not {_excerpt(retry_after_s)}"
            )
        if kind in NAMES:
            problems.append(f"retry_after_s goes with an HTTP status, not with {_excerpt(kind)}")
    elif fault.retry_after_as_date:
        problems.append("retry_after_as_date needs retry_after_s")
    if delay_s is not None and (not _is_number(delay_s) or not 0 <= delay_s <= MAX_DELAY_S):
        problems.append(f"delay_s must be seconds from 0 to {MAX_DELAY_S:,}, not {_excerpt(delay_s)}")
    if kind == "slow" and not delay_s:
        problems.append("'slow' needs delay_s")
    return problems


def _check_switch(fault: Fault) -> list[str]:
    switches: dict[str, object] = {
        "retry_after_as_date": fault.retry_after_as_date,
        "after_creation": fault.after_creation,
    }
    return [
        f"{name} must be true or false, not {_excerpt(value)}"
        for name, value in switches.items()
        if not isinstance(value, bool)
    ]


def _check_placement(fault: Fault) -> list[str]:
    kind, location = fault.kind, fault.location
    status = kind if isinstance(kind, int) else None
    problems = []
    if location is not None:
        if not (isinstance(location, str) and location.isascii() and location.isprintable()):
            problems.append(f"location must be a URL in printable ASCII, not {_excerpt(location)}")
        if status not in REDIRECTS:
            problems.append(f"location goes with a status from 300 to 399, not with {_excerpt(kind)}")
    if fault.after_creation is True:
        may = status in SERVER_ERRORS or kind in _MAYBE_AFTER or kind in _ALWAYS_AFTER
        if not may:
            problems.append(
                f"after_creation goes with a status from 500 to 599, html or empty, not with {_excerpt(kind)}"
            )
    return problems


class FaultPlan:
    """Decide which request gets which fault: first the queue, in order, then the random faults.

    Every method may be called from any thread.
    """

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._queue: deque[Fault] = deque()
        self._rate = 0.0
        self._random_faults: tuple[Fault, ...] = ()
        self._random = random.Random(0)  # noqa: S311 - it must be repeatable, and keeps no secret

    def add(self, fault: Fault, *, times: int = 1) -> None:
        """Add a fault to the queue.

        :param fault: the fault of the next requests of its kind.
        :param times: how many requests, 1 (default) to ``MAX_WAITING_FAULTS``.
        :raises ValueError: if ``times`` is not in that range, or if too many faults would wait.
        """
        if not _is_number(times, (int,)) or not 1 <= times <= MAX_WAITING_FAULTS:
            raise ValueError(
                f"times must be a whole number from 1 to {MAX_WAITING_FAULTS:,}, not {_excerpt(times)}"
            )
        with self._lock:
            waiting = len(self._queue)
            if waiting + times > MAX_WAITING_FAULTS:
                raise ValueError(
                    f"times must be at most {MAX_WAITING_FAULTS - waiting:,}, not {times:,}: {waiting:,} faults wait "
                    f"already, and at most {MAX_WAITING_FAULTS:,} may; clear_faults() removes them"
                )
            self._queue.extend([fault] * times)

    def add_at_random(self, rate: float, *, faults: Sequence[Fault], seed: int = 0) -> None:
        """Let requests fail at random, in the same way for the same seed and the same sequence of requests.

        :param rate: the share of requests that fail, from 0 (none, which ends it) to 1 (all).
        :param faults: the faults that they may get, each equally likely.
        :param seed: the number that the random sequence starts from.
        :raises ValueError: naming every invalid argument.
        """
        problems = []
        if not _is_number(rate) or not 0 <= rate <= 1:
            problems.append(f"rate must be a number from 0 to 1, not {_excerpt(rate)}")
        if not faults:
            problems.append("faults must name at least one fault")
        if not _is_number(seed, (int,)):
            problems.append(f"seed must be a whole number, not {_excerpt(seed)}")
        if problems:
            raise ValueError("; ".join(problems))
        with self._lock:
            self._rate, self._random_faults = rate, tuple(faults)
            self._random.seed(seed)

    def take(self, kind: RequestKind) -> Fault | None:
        """Return the fault of a request, and remove it from the queue.

        :param kind: the kind of the request.
        :return: None if the request gets no fault.
        """
        with self._lock:
            for position, fault in enumerate(self._queue):
                if fault.on in (kind, "any"):
                    del self._queue[position]
                    return fault
            fitting = [fault for fault in self._random_faults if fault.on in (kind, "any")]
            if fitting and self._random.random() < self._rate:
                return self._random.choice(fitting)
            return None

    def give_back(self, fault: Fault) -> None:
        """Put a fault back at the head of the queue, because its request was refused.

        A random fault is dropped: it came from no queue.

        :param fault: the fault that ``take`` returned.
        """
        with self._lock:
            if not any(fault is one for one in self._random_faults):
                self._queue.appendleft(fault)

    def clear(self) -> None:
        """Remove every fault, those in the queue and the random ones."""
        with self._lock:
            self._queue.clear()
            self._rate, self._random_faults = 0.0, ()
