"""The token: kept for the whole process, renewed shortly before it expires, asked for once at a time."""

from __future__ import annotations

import copy
import hashlib
import math
import os
import threading
import time
from collections import OrderedDict
from typing import TYPE_CHECKING, NamedTuple

from requests.auth import AuthBase

from bzctrl_provider.exceptions import BzCtrlError, BzCtrlTransportError

if TYPE_CHECKING:
    from collections.abc import Callable

    from pydantic import SecretStr
    from requests import PreparedRequest

_LEAD_MAX_S = 60.0
"""How long before its end a token is renewed: time for a slow request that starts with it. A tenth of a
shorter life."""

_UNKNOWN_LIFETIME_S = 300.0
"""The life of a token without a usable ``expires_in``; a 401 before its end leads to the replay with a fresh one."""

_TTL_MIN_S = 10.0
"""The shortest time that a token is used: one with a life of 0 s must not cost a request and a masked secret each time."""

_SOURCES_MAX = 64
"""How many connections' tokens a process keeps; a triggerer that lives for months must not collect them."""


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


class BearerAuth(AuthBase):
    """Put the token on a request; as an auth object, because requests would let ``.netrc`` overwrite a header."""

    def __init__(self, token: Token) -> None:
        self._token = token

    def __call__(self, request: PreparedRequest) -> PreparedRequest:
        """Add the header."""
        request.headers["Authorization"] = f"Bearer {self._token.value.get_secret_value()}"
        return request


class NoAuth(AuthBase):
    """Keep ``.netrc`` from adding credentials to the token request, which has its own."""

    def __call__(self, request: PreparedRequest) -> PreparedRequest:
        """Leave the request as it is."""
        return request


class _Request:
    """Hold a token request in progress, and its result for every thread that waits for it."""

    def __init__(self) -> None:
        self.done = threading.Event()
        self.token: Token | None = None
        self.error: BzCtrlError | None = None


class TokenSource:
    """Keep the token of one set of credentials for every client that has them.

    :param clock: monotonic seconds.
    """

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._lock = threading.Lock()
        self._token: Token | None = None
        self._request: _Request | None = None

    def get(self, fetch: Callable[[], tuple[SecretStr, object]], *, wait_s: float) -> Token:
        """Return a live token; if there is none, one caller fetches it and the others wait for its result.

        The others share a failure as well: a wrong password costs one refused login, not one a thread.

        :param fetch: asks BzCtrl; returns the token and its ``expires_in``.
        :param wait_s: how long to wait for another caller's request.
        :raises BzCtrlError: what the fetch raised; BzCtrlTransportError after ``wait_s``.
        """
        with self._lock:
            if self._token and self._clock() < self._token.renew_at:
                return self._token
            request = self._request
            mine = request is None
            if request is None:
                request = self._request = _Request()
        if mine:
            return self._fetch(fetch, request)
        if not request.done.wait(wait_s):
            raise BzCtrlTransportError(
                f"No token: another thread has been asking BzCtrl for one for more than {wait_s:.0f} s."
            )
        if request.token is None:
            raise (
                copy.copy(request.error)
                if request.error
                else BzCtrlTransportError("No token: its request failed.")
            )
        return request.token

    def _fetch(self, fetch: Callable[[], tuple[SecretStr, object]], request: _Request) -> Token:
        try:
            value, expires_in = fetch()
            request.token = Token(value, self._clock() + token_ttl_s(expires_in))
        except BzCtrlError as exc:
            request.error = copy.copy(exc)
            raise
        finally:
            with self._lock:
                self._token = request.token
                self._request = None
            request.done.set()
        return request.token

    def discard(self, token: Token) -> None:
        """Forget a token that BzCtrl refused, unless another one has taken its place meanwhile."""
        with self._lock:
            if self._token is token:
                self._token = None

    def __repr__(self) -> str:
        return f"<{type(self).__name__}>"


_sources: OrderedDict[str, TokenSource] = OrderedDict()
_sources_lock = threading.Lock()


def shared_source(token_url: str, username: str, password: SecretStr) -> TokenSource:
    """Return this process's source of tokens for these credentials at this address."""
    # A digest, so that no password is the key of a dictionary.
    credentials = f"{token_url}\0{username}\0{password.get_secret_value()}"
    key = hashlib.sha256(credentials.encode("utf-8", "surrogatepass")).hexdigest()
    with _sources_lock:
        source = _sources.setdefault(key, TokenSource())
        _sources.move_to_end(key)
        if len(_sources) > _SOURCES_MAX:
            _sources.popitem(last=False)
        return source


def forget_tokens() -> None:
    """Forget every token of this process."""
    global _sources_lock  # noqa: PLW0603 - after a fork the old lock may be held by a thread that is gone
    _sources_lock = threading.Lock()
    _sources.clear()


# Airflow forks: a lock that another thread of the parent holds would stay locked in the child for ever.
os.register_at_fork(after_in_child=forget_tokens)
