"""The token: kept for the whole process, renewed shortly before it expires, asked for once at a time."""

from __future__ import annotations

import copy
import math
import os
import threading
import time
from typing import TYPE_CHECKING, Any

from bzctrl_provider.exceptions import BzCtrlError, BzCtrlTransportError
from bzctrl_provider.text import digest_of

if TYPE_CHECKING:
    from collections.abc import Callable

    from pydantic import SecretStr

    from bzctrl_provider.client.config import BzCtrlConfig

_LEAD_MAX_S = 60.0
"""How long before its end a token is renewed: time for a slow request that starts with it. A tenth of a
shorter life."""

_UNKNOWN_LIFETIME_S = 300.0
"""The life of a token without a usable ``expires_in``; a 401 before its end leads to the replay with a fresh one."""

_TTL_MIN_S = 10.0
"""The shortest time that a token is used: one with a life of 0 s must not cost a request and a masked secret each time."""


def token_ttl_s(expires_in: Any) -> float:
    """Return for how many seconds a token is used.

    :param expires_in: of the response: documented as a number of seconds; it may also be missing, text or nonsense.
    """
    try:
        lifetime_s = float(expires_in)
    except (TypeError, ValueError, OverflowError):
        lifetime_s = math.nan
    if not 0 <= lifetime_s < math.inf:  # also not a number
        lifetime_s = _UNKNOWN_LIFETIME_S
    return max(lifetime_s - min(_LEAD_MAX_S, lifetime_s / 10), _TTL_MIN_S)


class TokenSource:
    """The keeper of the token of one set of credentials, for every client that has them.

    :param clock: monotonic seconds.
    """

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._lock = threading.Lock()
        self._token: SecretStr | None = None
        self._renew_at = 0.0
        self._error: BzCtrlError | None = None

    def get(self, fetch: Callable[[], tuple[SecretStr, object]], *, wait_s: float) -> SecretStr:
        """Return a live token; if there is none, one caller fetches it and the others wait for its result.

        The others share a failure as well: a wrong password costs one refused login, not one a thread.

        :param fetch: asks BzCtrl; returns the token and its ``expires_in``.
        :param wait_s: how long to wait for another caller's request.
        :raises BzCtrlError: what the fetch raised; BzCtrlTransportError after ``wait_s``.
        """
        # Read before the lock is taken: another error after that is one of a request for which this caller has waited.
        known_error = self._error
        if not self._lock.acquire(timeout=wait_s):
            problem = f"No token: another thread has been asking BzCtrl for one for more than {wait_s:.0f} s."
            raise BzCtrlTransportError(problem)
        try:
            # Read once: another thread may discard it meanwhile.
            token = self._token
            if token and self._clock() < self._renew_at:
                return token
            if self._error and self._error is not known_error:
                # One object for several threads would mix up their tracebacks.
                raise copy.copy(self._error)
            try:
                token, expires_in = fetch()
            except BzCtrlError as exc:
                self._error = copy.copy(exc)
                raise
            self._token, self._renew_at = token, self._clock() + token_ttl_s(expires_in)
            return token
        finally:
            self._lock.release()

    def discard(self, token: SecretStr) -> None:
        """Forget a token that BzCtrl refused, unless another one has taken its place meanwhile."""
        # Without the lock, which another caller's request may hold for minutes: at worst, one more token is requested.
        if self._token is token:
            self._token = None


_sources: dict[str, TokenSource] = {}


def shared_source(config: BzCtrlConfig) -> TokenSource:
    """Return this process's source of tokens for these credentials at this address."""
    # A digest, so that no password is the key of a dictionary.
    key = digest_of(config.endpoints.token_url, config.username, config.password.get_secret_value())
    # One step, so that two threads get the same source without a lock.
    return _sources.setdefault(key, TokenSource())


# Airflow forks: a source's lock that another thread of the parent holds would stay locked in the child for ever.
os.register_at_fork(after_in_child=_sources.clear)
