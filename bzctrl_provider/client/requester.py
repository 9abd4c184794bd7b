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
import re
import ssl
import time
from http.cookiejar import DefaultCookiePolicy
from random import random
from typing import TYPE_CHECKING, Any, cast
from urllib.parse import unquote

import requests
from pydantic import SecretStr
from requests.adapters import HTTPAdapter
from urllib3.connection import HTTPConnection, HTTPSConnection
from urllib3.exceptions import HTTPError, NewConnectionError, SSLError
from urllib3.util import Timeout

import bzctrl_provider
from bzctrl_provider.client.config import is_loopback
from bzctrl_provider.client.response import Answer, RequestInfo, UntrustedError, transport_error
from bzctrl_provider.client.retry import backoff_s, parse_retry_after, should_retry
from bzctrl_provider.exceptions import BzCtrlTransportError
from bzctrl_provider.text import MAX_WORKERS

if TYPE_CHECKING:
    import socket

    from pydantic import SecretBytes

    from bzctrl_provider.client.config import BzCtrlConfig
    from bzctrl_provider.client.retry import Deadline, RequestKind, SendFailure

log = logging.getLogger(__name__)


class _DeadlineReader(io.RawIOBase):
    """A reader of a socket until a point in time, however often something arrives."""

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
    """A response that ends within the timeout that its socket has at the beginning."""

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
    """The adapter of requests to these connections. Like its base, it never sends a request again by itself."""

    def get_connection_with_tls_context(self, *args: Any, **kwargs: Any) -> Any:
        """Return the pool of an address; one of SOCKS keeps its own connections."""
        pool: Any = super().get_connection_with_tls_context(*args, **kwargs)
        pool.ConnectionCls = _CONNECTIONS.get(pool.ConnectionCls, pool.ConnectionCls)
        return pool


class _Session(requests.Session):
    def get_redirect_target(self, resp: requests.Response) -> str | None:  # noqa: ARG002 - requests' signature
        """Return no target: requests would read the Location and the whole body, even if it does not follow it."""
        return None


def _log_retry(outcome: SendFailure | int, wait_s: float, left: int) -> None:
    why = f"BzCtrl answered with {outcome}" if isinstance(outcome, int) else outcome.value
    log.warning("%s: the next attempt follows in %.0f s (attempts left: %d).", why, wait_s, left)


def proxy_passwords(proxies: dict[str, str]) -> list[str]:
    """Return the passwords in the addresses of proxies, as they are written and decoded; also of malformed ones."""
    found = [re.search(r"(?:^|//)[^/:]*:(?!//)(.+)@", address) for address in proxies.values()]
    passwords = [match[1] for match in found if match]
    return list(dict.fromkeys([*passwords, *map(unquote, passwords)]))


class Requester:
    """A sender of requests over one session. Safe to use from several threads.

    :param config: the settings of the client.
    """

    def __init__(self, config: BzCtrlConfig) -> None:
        self._config = config
        self.session = _Session()
        self.session.cookies.set_policy(DefaultCookiePolicy(allowed_domains=[]))
        adapter = BzCtrlAdapter(pool_maxsize=MAX_WORKERS)
        for scheme in ("https://", "http://"):
            self.session.mount(scheme, adapter)
        token_url, create_url = config.endpoints
        self._urls: dict[RequestKind, str] = {"token": token_url, "create": create_url}
        self._templates: dict[RequestKind, requests.PreparedRequest] = {}
        self._settings = {kind: self._read_environment(url) for kind, url in self._urls.items()}
        passwords = [text for each in self._settings.values() for text in proxy_passwords(each["proxies"])]
        self._secrets = [config.password, *map(SecretStr, passwords)]
        # Only after the environment was read: without it, `.netrc` would replace the token.
        self.session.trust_env = False

    def _read_environment(self, url: str) -> Any:
        """Return the proxies and the CA file for a URL."""
        settings = self.session.merge_environment_settings(url, {}, True, self._config.verify, None)
        if url.startswith("http://") and is_loopback(url):
            # A proxy is another machine, which would see the password.
            settings["proxies"] = {}
        return settings

    def send(
        self, kind: RequestKind, body: SecretBytes, *, deadline: Deadline, token: SecretStr | None = None
    ) -> Answer:
        """Send a request, again if that is safe and may help, and return the last response.

        :raises BzCtrlTransportError: there is none.
        """
        secrets = (*self._secrets, token) if token else self._secrets
        info = RequestInfo(kind, self._urls[kind], self._config, secrets)
        if deadline.remaining_s() <= 0:
            problem = f"{info} was not sent: the {deadline.limit_s:g} s for this call are used up."
            raise BzCtrlTransportError(problem)
        attempts = self._config.max_attempts
        for attempt in range(1, attempts + 1):
            result, outcome = self._attempt(info, body, token, deadline)
            if attempt == attempts or not should_retry(kind, outcome):
                break
            retry_after = result.headers.get("Retry-After", "") if isinstance(result, Answer) else ""
            wait_s = backoff_s(attempt, asked_s=parse_retry_after(retry_after), jitter=random())  # noqa: S311 - no secret
            # A wait that the call does not survive would only delay the error.
            if wait_s >= deadline.remaining_s():
                break
            _log_retry(outcome, wait_s, attempts - attempt)
            deadline.wait(wait_s)
            if deadline.remaining_s() <= 0:  # the call was stopped meanwhile
                break
        if isinstance(result, BzCtrlTransportError):
            raise result
        return result

    def _attempt(
        self, info: RequestInfo, body: SecretBytes, token: SecretStr | None, deadline: Deadline
    ) -> tuple[Answer | BzCtrlTransportError, SendFailure | int]:
        """Send a request once; return the response with its status, or the error with its kind."""
        timeout_s = max(min(self._config.timeout_s, deadline.remaining_s()), 0.001)
        try:
            response = self.session.send(
                self._prepare(info, body, token),
                # The total of both, as `(connect, read)` would allow twice the time.
                timeout=Timeout(total=timeout_s),  # type: ignore[arg-type]  # the stubs lack urllib3's
                allow_redirects=False,
                **self._settings[info.what],
            )
            return Answer.read(response, info), response.status_code
        # No other error is caught as one of HTTP: Airflow ends a task by `AirflowTaskTimeout`, and 2.11 also by
        # `AirflowTaskTerminated`, both BaseException. A handler of the user's own that raises an OSError, such as
        # TimeoutError, cannot be distinguished from a socket that does.
        except (requests.RequestException, HTTPError, http.client.HTTPException, OSError) as exc:
            # Without its causes, urllib3's, four deep: the error itself says what went wrong.
            return transport_error(exc, info)
        except BaseException as exc:  # noqa: BLE001 - such as a signal handler's; it is raised again
            # The frames of requests and urllib3 hold the request with its secrets. Tracebacks with local variables would show
            # them, as Airflow 3.0's console does.
            exc.__context__ = None
            raise exc.with_traceback(None) from None

    def _prepare(
        self, info: RequestInfo, body: SecretBytes, token: SecretStr | None
    ) -> requests.PreparedRequest:
        # Prepared once and copied: otherwise, it would cost a fifth of the CPU of a todo, and all threads share one processor.
        if info.what not in self._templates:
            self._templates[info.what] = self._make_template(info)
        request = self._templates[info.what].copy()
        if token:
            request.headers["Authorization"] = f"Bearer {token.get_secret_value()}"
        request.prepare_body(body.get_secret_value(), None)
        return request

    def _make_template(self, info: RequestInfo) -> requests.PreparedRequest:
        method, content_type = "POST", "application/json"
        if info.what == "token":
            content_type = "application/x-www-form-urlencoded"
        elif self._config.message_format == "predefined":
            method = "PUT"
        headers = {
            "Accept": "application/json",
            "Accept-Encoding": "identity",
            "Content-Type": content_type,
            "User-Agent": f"airflow-provider-bzctrl/{bzctrl_provider.__version__}",
        }
        # Not by the session, which would merge settings that it does not have.
        return requests.Request(method, info.url, headers=headers).prepare()
