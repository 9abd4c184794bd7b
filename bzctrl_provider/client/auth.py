"""The token: kept for the whole process, renewed shortly before it expires, asked for once at a time."""

from __future__ import annotations

import copy
import math
import os
import threading
import time
from concurrent.futures import Future
from typing import TYPE_CHECKING, NamedTuple

from bzctrl_provider.exceptions import BzCtrlError, BzCtrlTransportError
from bzctrl_provider.text import digest_of

if TYPE_CHECKING:
    from collections.abc import Callable

    from pydantic import SecretStr

    from bzctrl_provider.client.config import BzCtrlConfig

    Fetch = Callable[[], tuple[SecretStr, object]]

_LEAD_MAX_S = 60.0
"""How long before its end a token is renewed: time for a slow request that starts with it. A tenth of a
shorter life."""

_UNKNOWN_LIFETIME_S = 300.0
"""The life of a token without a usable ``expires_in``; a 401 before its end leads to the replay with a fresh one."""

_TTL_MIN_S = 10.0
"""The shortest time that a token is used: one with a life of 0 s must not cost a request and a masked secret each time."""


class Token(NamedTuple):
    """Hold a granted token.

    :param value: the secret itself.
    :param renew_at: when to ask for another one, on the clock of its source.
    """

    value: SecretStr
    renew_at: float


def token_ttl_s(expires_in: object) -> float:
    """Return for how many seconds a token is used.

    :param expires_in: of the response: documented as a number of seconds; it may also be missing, text or nonsense.
    """
    try:
        lifetime_s = float(expires_in) if isinstance(expires_in, str | int | float) else math.nan
    except (ValueError, OverflowError):
        lifetime_s = math.nan
    if isinstance(expires_in, bool) or not math.isfinite(lifetime_s) or lifetime_s < 0:
        lifetime_s = _UNKNOWN_LIFETIME_S
    return max(lifetime_s - min(_LEAD_MAX_S, lifetime_s / 10), _TTL_MIN_S)


class TokenSource:
    """Keep the token of one set of credentials for every client that has them.

    :param clock: monotonic seconds.
    """

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._lock = threading.Lock()
        self._token: Token | None = None
        self._request: Future[Token | BzCtrlError] | None = None

    def get(self, fetch: Fetch, *, wait_s: float) -> Token:
        """Return a live token; if there is none, one caller fetches it and the others wait for its result.

        The others share a failure as well: a wrong password costs one refused login, not one a thread.

        :param fetch: asks BzCtrl; returns the token and its ``expires_in``.
        :param wait_s: how long to wait for another caller's request.
        :raises BzCtrlError: what the fetch raised; BzCtrlTransportError after ``wait_s``.
        """
        with self._lock:
            if self._token and self._clock() < self._token.renew_at:
                return self._token
            mine = self._request is None
            request = self._request = self._request or Future()
        if mine:
            return self._fetch(fetch, request)
        try:
            outcome = request.result(wait_s)
        except TimeoutError:
            problem = f"No token: another thread has been asking BzCtrl for one for more than {wait_s:.0f} s."
            raise BzCtrlTransportError(problem) from None
        if isinstance(outcome, Token):
            return outcome
        # One object for several threads would mix up their tracebacks.
        raise copy.copy(outcome)

    def _fetch(self, fetch: Fetch, request: Future[Token | BzCtrlError]) -> Token:
        token: Token | None = None
        error: BzCtrlError = BzCtrlTransportError("No token: its request failed.")
        try:
            value, expires_in = fetch()
            token = Token(value, self._clock() + token_ttl_s(expires_in))
        except BzCtrlError as exc:
            error = copy.copy(exc)
            raise
        finally:
            with self._lock:
                self._token, self._request = token, None
            request.set_result(token or error)
        return token

    def discard(self, token: Token) -> None:
        """Forget a token that BzCtrl refused, unless another one has taken its place meanwhile."""
        with self._lock:
            if self._token is token:
                self._token = None


_sources: dict[str, TokenSource] = {}


def shared_source(config: BzCtrlConfig) -> TokenSource:
    """Return this process's source of tokens for these credentials at this address."""
    # A digest, so that no password is the key of a dictionary.
    key = digest_of(config.endpoints.token_url, config.username, config.password.get_secret_value())
    # One step, so that two threads get the same source without a lock.
    return _sources.setdefault(key, TokenSource())


def forget_tokens() -> None:
    """Forget every token of this process."""
    _sources.clear()


# Airflow forks: a source's lock that another thread of the parent holds would stay locked in the child for ever.
os.register_at_fork(after_in_child=forget_tokens)
