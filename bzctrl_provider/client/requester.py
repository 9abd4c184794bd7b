"""Send the two requests of the API, each as often as ``client.retry`` decides.

The connections are those of requests, which lack two things: whether a request was sent, and a bound for a whole response.
A create request that was sent must not be sent again, but urllib3 has one error for a broken TLS handshake and for a
connection that broke later. And its read timeout bounds the silence between two packets, so a server that sends one
byte at a time would hold a task for ever.
"""

from __future__ import annotations

import http.client
import io
import logging
import ssl
import time
from http.cookiejar import DefaultCookiePolicy
from random import random
from typing import TYPE_CHECKING, Any, cast

import requests
from pydantic import SecretStr
from requests.adapters import HTTPAdapter
from requests.exceptions import InvalidProxyURL
from urllib3.connection import HTTPConnection, HTTPSConnection
from urllib3.exceptions import NewConnectionError, SSLError
from urllib3.util import Timeout

import bzctrl_provider
from bzctrl_provider.client.config import is_loopback
from bzctrl_provider.client.response import (
    HTTP_ERRORS,
    Answer,
    RequestInfo,
    UntrustedError,
    proxy_passwords,
    transport_error,
)
from bzctrl_provider.client.retry import retry_wait_s
from bzctrl_provider.exceptions import BzCtrlTransportError
from bzctrl_provider.text import MAX_WORKERS

if TYPE_CHECKING:
    import socket

    from pydantic import SecretBytes

    from bzctrl_provider.client.auth import Token
    from bzctrl_provider.client.config import BzCtrlConfig
    from bzctrl_provider.client.retry import Deadline, RequestKind, SendFailure

log = logging.getLogger(__name__)


class _DeadlineReader(io.RawIOBase):
    """Read a socket until a point in time, however often something arrives."""

    def __init__(self, sock: socket.socket, raw: io.RawIOBase) -> None:
        self._sock = sock
        self._raw = raw
        self._ends_at = time.monotonic() + (sock.gettimeout() or float("inf"))

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any, /) -> int | None:
        remaining_s = self._ends_at - time.monotonic()
        if remaining_s <= 0:
            raise TimeoutError("the response did not end in time")
        self._sock.settimeout(remaining_s)
        return cast("int | None", self._raw.readinto(buffer))

    def close(self) -> None:
        self._raw.close()
        super().close()


class _DeadlineResponse(http.client.HTTPResponse):
    """Read a response that ends within the timeout that its socket has at the beginning."""

    def __init__(self, sock: socket.socket, *args: Any, **kwargs: Any) -> None:
        super().__init__(sock, *args, **kwargs)
        self.fp = io.BufferedReader(_DeadlineReader(sock, self.fp.detach()))


class _HTTPConnection(HTTPConnection):
    response_class = _DeadlineResponse


class _HTTPSConnection(HTTPSConnection):
    response_class = _DeadlineResponse

    def connect(self) -> None:
        """Connect, and report each failure as one before anything was sent."""
        try:
            super().connect()
        except (ssl.SSLCertVerificationError, SSLError) as exc:
            raise UntrustedError(self, str(exc)) from exc
        except (OSError, http.client.HTTPException) as exc:
            raise NewConnectionError(self, f"Failed to establish a new connection: {exc}") from exc


_CONNECTIONS = {HTTPConnection: _HTTPConnection, HTTPSConnection: _HTTPSConnection}


class BzCtrlAdapter(HTTPAdapter):
    """Adapt requests to these connections. Like its base, it never sends a request again by itself."""

    def get_connection_with_tls_context(self, *args: Any, **kwargs: Any) -> Any:
        """Return the pool of an address; one of SOCKS keeps its own connections."""
        try:
            pool: Any = super().get_connection_with_tls_context(*args, **kwargs)
        except TypeError:  # of requests, for a proxy such as http://user:password@
            raise InvalidProxyURL("the proxy of this machine's environment has no host") from None
        pool.ConnectionCls = _CONNECTIONS.get(pool.ConnectionCls, pool.ConnectionCls)
        return pool


_HEADERS = {
    "Accept": "application/json",
    "Accept-Encoding": "identity",
    "User-Agent": f"airflow-provider-bzctrl/{bzctrl_provider.__version__}",
}


class _Session(requests.Session):
    def get_redirect_target(self, resp: requests.Response) -> str | None:  # noqa: ARG002 - requests' signature
        """Return no target: requests would read the Location and the whole body, even if it does not follow it."""
        return None


class Requester:
    """Send requests over one session. Safe to use from several threads.

    :param config: the settings of the client.
    """

    def __init__(self, config: BzCtrlConfig) -> None:
        self._config = config
        self._session = _Session()
        self._session.cookies.set_policy(DefaultCookiePolicy(allowed_domains=[]))
        adapter = BzCtrlAdapter(pool_maxsize=MAX_WORKERS)
        for scheme in ("https://", "http://"):
            self._session.mount(scheme, adapter)
        token_url, create_url = config.endpoints
        create_method = "PUT" if config.message_format == "predefined" else "POST"
        self._targets: dict[RequestKind, tuple[str, str, str]] = {
            "token": ("POST", token_url, "application/x-www-form-urlencoded"),
            "create": (create_method, create_url, "application/json"),
        }
        self._templates: dict[RequestKind, requests.PreparedRequest] = {}
        self._settings: dict[RequestKind, Any] = {}
        self._secrets = [config.password]
        for kind, (_, url, _) in self._targets.items():
            settings = self._session.merge_environment_settings(url, {}, True, config.verify, None)
            if url.startswith("http://") and is_loopback(url):
                # A proxy is another machine, which would see the password.
                settings["proxies"] = {}
            self._settings[kind] = settings
            self._secrets += map(SecretStr, proxy_passwords(settings["proxies"]))
        # The environment was read, and `.netrc` must not replace the token.
        self._session.trust_env = False

    def close(self) -> None:
        """Close the connections."""
        self._session.close()

    def send(
        self, kind: RequestKind, body: SecretBytes, *, deadline: Deadline, token: Token | None = None
    ) -> Answer:
        """Send a request, again if that is safe and may help, and return the last response.

        :raises BzCtrlTransportError: there is none.
        """
        secrets = (*self._secrets, token.value) if token else self._secrets
        info = RequestInfo(kind, self._targets[kind][1], self._config, secrets)
        if deadline.remaining_s() <= 0:
            problem = f"{info} was not sent: the {deadline.limit_s:g} s for this call are used up."
            raise BzCtrlTransportError(problem)
        attempts = self._config.max_attempts
        for attempt in range(1, attempts + 1):
            result, outcome = self._attempt(info, body, token, deadline)
            wait_s = retry_wait_s(
                kind,
                outcome,
                failures=attempt,
                max_attempts=attempts,
                remaining_s=deadline.remaining_s(),
                jitter=random(),  # noqa: S311 - no secret
                retry_after=result.headers.get("Retry-After", "") if isinstance(result, Answer) else "",
            )
            if wait_s is None:
                break
            why = f"BzCtrl answered with {outcome}" if isinstance(outcome, int) else outcome.value
            left = attempts - attempt
            log.warning("%s: the next attempt follows in %.0f s (attempts left: %d).", why, wait_s, left)
            deadline.wait(wait_s)
            if deadline.remaining_s() <= 0:  # the call was stopped meanwhile
                break
        if isinstance(result, BzCtrlTransportError):
            raise result
        return result

    def _attempt(
        self, info: RequestInfo, body: SecretBytes, token: Token | None, deadline: Deadline
    ) -> tuple[Answer | BzCtrlTransportError, SendFailure | int]:
        """Send a request once; return the response with its status, or the error with its kind."""
        timeout_s = max(min(self._config.timeout_s, deadline.remaining_s()), 0.001)
        try:
            response = self._session.send(
                self._prepare(info.what, body, token),
                # The total of both, as `(connect, read)` would allow twice the time.
                timeout=Timeout(total=timeout_s),  # type: ignore[arg-type]  # the stubs lack urllib3's
                allow_redirects=False,
                **self._settings[info.what],
            )
            return Answer.read(response, info), response.status_code
        except HTTP_ERRORS as exc:
            # Without its causes, urllib3's, four deep: the error itself says what went wrong.
            return transport_error(exc, info)
        except BaseException as exc:  # noqa: BLE001 - such as a signal handler's; it is raised again
            # The frames of requests and urllib3 hold the request with its secrets. Tracebacks with local variables would show
            # them, as Airflow 3.0's console does.
            exc.__context__ = None
            raise exc.with_traceback(None) from None

    def _prepare(self, kind: RequestKind, body: SecretBytes, token: Token | None) -> requests.PreparedRequest:
        if (template := self._templates.get(kind)) is None:
            method, url, content_type = self._targets[kind]
            headers = {**_HEADERS, "Content-Type": content_type}
            # Once, as this costs more than the rest; not by the session, which would merge settings that it does not have.
            template = self._templates[kind] = requests.Request(method, url, headers=headers).prepare()
        request = template.copy()
        if token:
            request.headers["Authorization"] = f"Bearer {token.value.get_secret_value()}"
        request.prepare_body(body.get_secret_value(), None)
        return request
