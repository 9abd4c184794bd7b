"""Decide whether a request is sent again, and after how many seconds: the retry table, as pure functions.

============================================  ==========================  =====================
what happened                                 token request               create request
============================================  ==========================  =====================
not connected                                 again                       again
certificate refused, or not to be sent        error                       error
sent, no whole response                       again                       never again
429, 503                                      again, after Retry-After    the same
500, 502, 504                                 again                       never again
any other response                            error                       error
============================================  ==========================  =====================

A create request is sent again only if BzCtrl certainly did not act on it: the API has no idempotency key, so a
second request would be a second todo.
"""

from __future__ import annotations

import math
import threading
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from enum import Enum
from http import HTTPStatus
from time import monotonic
from typing import Literal

RETRY_AFTER_MAX_S = 60.0
"""The longest wait that a ``Retry-After`` of BzCtrl is granted."""

_BACKOFF_MAX_S = 20.0

_BUSY_STATUSES = (HTTPStatus.TOO_MANY_REQUESTS, HTTPStatus.SERVICE_UNAVAILABLE)
_BROKEN_STATUSES = (HTTPStatus.INTERNAL_SERVER_ERROR, HTTPStatus.BAD_GATEWAY, HTTPStatus.GATEWAY_TIMEOUT)

RequestKind = Literal["token", "create"]


class SendFailure(Enum):
    """A reason why a request has no response."""

    NOT_CONNECTED = "No connection to BzCtrl"
    """There was no connection: nothing was sent."""
    UNTRUSTED = "The server's certificate was refused"
    """The server's certificate was refused, or the CA file cannot be used: nothing was sent."""
    UNSENDABLE = "The request cannot be sent"
    """Address, proxy or CA file cannot be used at all: nothing was sent."""
    NO_RESPONSE = "No whole response of BzCtrl"
    """The request was sent, at least in part, and no whole response came."""


def should_retry(kind: RequestKind, outcome: SendFailure | int) -> bool:
    """Decide whether a request is sent again.

    :param kind: which of the two requests it is.
    :param outcome: why there is no response, or the status of the response.
    """
    # Nothing was sent, and the next attempt may find BzCtrl up.
    if outcome is SendFailure.NOT_CONNECTED:
        return True
    # Nothing was sent, and the next attempt would end in the same way.
    if outcome in (SendFailure.UNTRUSTED, SendFailure.UNSENDABLE):
        return False
    # BzCtrl may have acted on it. A second token does no harm; a second todo does.
    if outcome is SendFailure.NO_RESPONSE or outcome in _BROKEN_STATUSES:
        return kind == "token"
    # BzCtrl says that it did not take the request on. Every other response is final.
    return outcome in _BUSY_STATUSES


def backoff_s(failures: int, *, asked_s: float | None, jitter: float) -> float:
    """Return how long to wait after so many failed attempts: a second, and twice as long after each further one.

    :param failures: 1 after the first attempt.
    :param asked_s: the seconds that BzCtrl asked for; granted up to ``RETRY_AFTER_MAX_S``.
    :param jitter: 0 to 1, spreads the clients over the second half of the wait.
    """
    if asked_s is not None:
        return min(asked_s, RETRY_AFTER_MAX_S)
    return min(2.0 ** (failures - 1), _BACKOFF_MAX_S) * (0.5 + jitter / 2)


def parse_retry_after(retry_after: str, *, now: datetime | None = None) -> float | None:
    """Return the seconds that a ``Retry-After`` header asks to wait, None if it is empty or unreadable.

    :param retry_after: seconds, or an HTTP date.
    """
    try:
        seconds = float(retry_after)
    except ValueError:
        try:
            seconds = (parsedate_to_datetime(retry_after) - (now or datetime.now(UTC))).total_seconds()
        except (ValueError, OverflowError, TypeError):  # also a date without a zone
            return None
    return max(seconds, 0.0) if math.isfinite(seconds) else None


class Deadline:
    """The time of one call: the bound of all its attempts and waits.

    :param limit_s: seconds from now on.
    :param stopped: an event that ends the waits of the call, and keeps it from sending again.
    """

    def __init__(self, limit_s: float, *, stopped: threading.Event | None = None) -> None:
        self.limit_s = limit_s
        self._ends_at = monotonic() + limit_s
        self._stopped = stopped or threading.Event()

    def remaining_s(self) -> float:
        """Return the seconds that are left; 0 when the time is used up or the call is stopped."""
        return 0.0 if self._stopped.is_set() else max(self._ends_at - monotonic(), 0.0)

    def wait(self, seconds: float) -> None:
        """Wait, but not longer than until the call is stopped."""
        self._stopped.wait(seconds)
