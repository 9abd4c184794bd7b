"""Whether to send a request again, and after how many seconds: the retry table, on urllib3's ``Retry``.

============================================  ==========================  =====================
what happened                                 token request               create request
============================================  ==========================  =====================
not connected                                 again                       again
certificate refused                           error                       error
sent, no whole answer                         again                       never again
429, 503                                      again, after Retry-After    the same
500, 502, 504                                 again                       never again
anything else                                 error                       error
============================================  ==========================  =====================

A create request is sent again only where BzCtrl certainly did not act on it: it knows no idempotency key, so a
second one would be a second todo.
"""

from __future__ import annotations

import logging
import math
import random
import time
from contextlib import contextmanager
from contextvars import ContextVar
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from typing import TYPE_CHECKING, Any, Literal

from urllib3.exceptions import MaxRetryError, ResponseError
from urllib3.util.retry import Retry

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from typing import Self

    from urllib3.response import BaseHTTPResponse

log = logging.getLogger(__name__)

RETRY_AFTER_MAX_S = 60.0
"""The longest wait that BzCtrl's ``Retry-After`` is granted."""

_BACKOFF_S = 1.0
_BACKOFF_MAX_S = 20.0

_RETRY_STATUSES = {
    "token": frozenset({429, 500, 502, 503, 504}),
    "create": frozenset({429, 503}),
}

_ends_at: ContextVar[float] = ContextVar("bzctrl_call_ends_at", default=math.inf)


@contextmanager
def bounded_call(total_s: float, *, clock: Callable[[], float] = time.monotonic) -> Iterator[None]:
    """Bound all attempts and waits within it; a context variable, because urllib3 passes nothing of ours along."""
    reset = _ends_at.set(clock() + total_s)
    try:
        yield
    finally:
        _ends_at.reset(reset)


def remaining_s(clock: Callable[[], float] = time.monotonic) -> float:
    """Return the seconds that the call in progress still has; infinite outside of one."""
    return _ends_at.get() - clock()


def parse_retry_after(retry_after: str | None, *, now: datetime | None = None) -> float | None:
    """Return the seconds that a ``Retry-After`` header asks to wait, None where it is absent or unreadable.

    :param retry_after: seconds, or an HTTP date.
    """
    if retry_after is None:
        return None
    try:
        seconds = float(retry_after)
    except ValueError:
        try:
            at = parsedate_to_datetime(retry_after)
        except (ValueError, OverflowError, TypeError):
            return None
        # A date without a zone is meant as GMT (RFC 9110, section 5.6.7).
        at = at if at.tzinfo else at.replace(tzinfo=UTC)
        seconds = (at - (now or datetime.now(UTC))).total_seconds()
    return max(seconds, 0.0) if math.isfinite(seconds) else None


def backoff_s(failures: int, *, asked_s: float | None, jitter: float) -> float:
    """Return how long to wait after so many failed attempts.

    :param failures: 1 after the first attempt.
    :param asked_s: what BzCtrl asked for; granted up to ``RETRY_AFTER_MAX_S``.
    :param jitter: 0 to 1, spreads the clients over the second half of the wait.
    """
    if asked_s is not None:
        return min(asked_s, RETRY_AFTER_MAX_S)
    return min(_BACKOFF_S * 2.0 ** (failures - 1), _BACKOFF_MAX_S) * (0.5 + jitter / 2)


class BzCtrlRetry(Retry):
    """urllib3's decision for one of the two requests, with BzCtrl's waits and within the call's total time.

    :param sleep: waits for so many seconds.
    :param jitter: returns 0 to 1.
    """

    RETRY_AFTER_STATUS_CODES = frozenset({429, 503})

    def __init__(
        self,
        *args: Any,
        sleep: Callable[[float], None] = time.sleep,
        jitter: Callable[[], float] = random.random,
        clock: Callable[[], float] = time.monotonic,
        **kwargs: Any,
    ) -> None:
        super().__init__(*args, **kwargs)
        self._sleep = sleep
        self._jitter = jitter
        self._clock = clock
        self.backoff_s = 0.0

    @classmethod
    def for_request(cls, request: Literal["token", "create"], *, attempts: int, **injected: Any) -> Self:
        """Make the policy of a request that is sent ``attempts`` times at the most."""
        again = attempts - 1
        return cls(
            total=again,
            connect=again,
            read=again if request == "token" else 0,
            status=again,
            other=0,  # a refused certificate, above all: it will be refused again
            redirect=0,
            allowed_methods=None,
            status_forcelist=_RETRY_STATUSES[request],
            raise_on_status=False,
            **injected,
        )

    def new(self, **kw: Any) -> Self:
        """Carry what is injected along: urllib3 makes a new object for each attempt."""
        return super().new(sleep=self._sleep, jitter=self._jitter, clock=self._clock, **kw)

    def __repr__(self) -> str:
        return f"attempts left: {self.total}"  # urllib3 logs it with each retry

    def increment(self, *args: Any, **kwargs: Any) -> Self:
        """Count an attempt; give up also where the wait for the next one would outlast the call."""
        counted = super().increment(*args, **kwargs)
        response: BaseHTTPResponse | None = kwargs.get("response")
        asked_s = parse_retry_after(response.headers.get("Retry-After")) if response else None
        counted.backoff_s = backoff_s(len(counted.history), asked_s=asked_s, jitter=self._jitter())
        if counted.backoff_s >= remaining_s(self._clock):
            reason = kwargs.get("error") or ResponseError("no time left for another attempt")
            raise MaxRetryError(kwargs["_pool"], kwargs.get("url") or "", reason)
        if response:  # of a connection that failed, urllib3 tells itself
            log.warning(
                "BzCtrl answered with %d: the next attempt follows in %.0f s (attempts left: %s).",
                response.status,
                counted.backoff_s,
                counted.total,
            )
        return counted

    def sleep(self, response: BaseHTTPResponse | None = None) -> None:  # noqa: ARG002 - urllib3's signature
        """Wait between two attempts, as long as ``increment`` found right."""
        self._sleep(self.backoff_s)
