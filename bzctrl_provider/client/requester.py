"""Send the two requests of the API, each as often as ``client.retry`` decides."""

from __future__ import annotations

import logging
from http.cookiejar import DefaultCookiePolicy
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

import requests
from pydantic import SecretStr
from requests.utils import select_proxy
from urllib3.util import Timeout

import bzctrl_provider
from bzctrl_provider.client.auth import BearerAuth, NoAuth, Token
from bzctrl_provider.client.redaction import proxy_passwords
from bzctrl_provider.client.request import HTTP_ERRORS, RequestInfo, classify, transport_error, without_frames
from bzctrl_provider.client.retry import SendFailure, retry_wait_s
from bzctrl_provider.client.transport import BzCtrlAdapter
from bzctrl_provider.exceptions import BzCtrlTransportError
from bzctrl_provider.limits import MAX_WORKERS

if TYPE_CHECKING:
    from collections.abc import Callable

    from pydantic import SecretBytes
    from requests.auth import AuthBase

    from bzctrl_provider.client.deadline import Deadline
    from bzctrl_provider.client.endpoints import Endpoints
    from bzctrl_provider.client.retry import RequestKind

log = logging.getLogger(__name__)


class _Session(requests.Session):
    def get_redirect_target(self, resp: requests.Response) -> str | None:  # noqa: ARG002 - requests' signature
        """Return no target: requests would read the Location, whatever is in it, even if it does not follow it."""
        return None


def _filled(template: requests.PreparedRequest, body: bytes, auth: AuthBase) -> requests.PreparedRequest:
    """Return a request with a body; ``copy()`` and ``prepare_body()`` of requests do more than is needed here."""
    request = requests.PreparedRequest()
    request.method = template.method
    request.url = template.url
    request.headers = template.headers.copy()
    request.headers["Content-Length"] = str(len(body))
    request.body = body
    return auth(request)


class _Prepared:
    """Hold the parts that all requests of a kind share; no ``repr`` shows the passwords of proxies.

    :param request: without a body.
    :param verify: whether the server's certificate is checked, or the path of a CA file.
    :param password: of the API user.
    :param uses_proxy: whether the proxies of the environment are used.
    """

    def __init__(
        self,
        session: requests.Session,
        request: requests.Request,
        *,
        verify: bool | str,
        password: SecretStr,
        uses_proxy: bool,
    ) -> None:
        settings = session.merge_environment_settings(request.url, {}, False, verify, None)
        proxies = settings["proxies"] if uses_proxy else {}
        self.template = session.prepare_request(request)
        self.settings: dict[str, Any] = {**settings, "proxies": proxies}
        self.secrets = (password, *map(SecretStr, proxy_passwords(proxies)))
        self.has_valid_proxy = _is_address(select_proxy(request.url, proxies))
        """Also if there is none. For one without a host, urllib3 raises a TypeError."""


class Requester:
    """Send requests over one session. Safe to use from several threads.

    :param endpoints: where BzCtrl is.
    :param password: of the API user, which must be in no error.
    :param timeout_s: seconds for one attempt.
    :param max_attempts: how often a request is sent at most.
    :param verify: whether the server's certificate is checked, or the path of a CA file.
    :param create_method: ``POST`` or ``PUT``.
    :param connection: how an error calls the place of these settings.
    :param sleep: waits for so many seconds; default: the deadline's own wait.
    :param jitter: returns 0 to 1.
    """

    def __init__(
        self,
        endpoints: Endpoints,
        *,
        password: SecretStr,
        timeout_s: float,
        max_attempts: int,
        verify: bool | str,
        create_method: str,
        connection: str,
        sleep: Callable[[float], object] | None,
        jitter: Callable[[], float],
    ) -> None:
        self._timeout_s = timeout_s
        self._max_attempts = max_attempts
        self._connection = connection
        self._sleep = sleep
        self._jitter = jitter
        self._session = _Session()
        self._session.cookies.set_policy(DefaultCookiePolicy(allowed_domains=[]))
        adapter = BzCtrlAdapter(connections=MAX_WORKERS)
        for url in (endpoints.create_url, endpoints.token_url):
            self._session.mount(url, adapter)
        headers = {
            "Accept": "application/json",
            "Accept-Encoding": "identity",
            "User-Agent": f"airflow-provider-bzctrl/{bzctrl_provider.__version__}",
        }

        def prepare(method: str, url: str, content_type: str) -> _Prepared:
            request = requests.Request(
                method, url, headers={**headers, "Content-Type": content_type}, auth=NoAuth()
            )
            # A proxy is another machine, which would see the password.
            uses_proxy = not endpoints.is_clear_text_to_this_machine
            return _Prepared(self._session, request, verify=verify, password=password, uses_proxy=uses_proxy)

        self._prepared = {
            "token": prepare("POST", endpoints.token_url, "application/x-www-form-urlencoded"),
            "create": prepare(create_method, endpoints.create_url, "application/json"),
        }

    def close(self) -> None:
        """Close the connections."""
        self._session.close()

    def send(
        self, kind: RequestKind, body: SecretBytes, *, deadline: Deadline, token: Token | None = None
    ) -> tuple[requests.Response, RequestInfo]:
        """Send a request, again if that is safe and may help, and return the last response.

        :raises BzCtrlTransportError: there is none.
        """
        prepared = self._prepared[kind]
        request = _filled(
            prepared.template, body.get_secret_value(), BearerAuth(token) if token else NoAuth()
        )
        secrets = (*prepared.secrets, token.value) if token else prepared.secrets
        info = RequestInfo(kind, request.url or "", self._max_attempts, secrets, self._connection)
        if deadline.remaining_s() <= 0:
            raise BzCtrlTransportError(
                f"{info} was not sent: the {deadline.limit_s:g} s for this call are used up."
            )
        if not prepared.has_valid_proxy:
            raise BzCtrlTransportError(
                f"{info} was not sent: the proxy of this machine's environment (HTTPS_PROXY, HTTP_PROXY or ALL_PROXY) has "
                "no host. Correct it there, or name BzCtrl's host in NO_PROXY."
            )
        for attempt in range(1, self._max_attempts + 1):
            result, outcome = self._attempt(request, prepared, info, deadline)
            wait_s = retry_wait_s(
                kind,
                outcome,
                failures=attempt,
                max_attempts=self._max_attempts,
                remaining_s=deadline.remaining_s(),
                jitter=self._jitter(),
                retry_after=None
                if isinstance(result, BzCtrlTransportError)
                else result.headers.get("Retry-After"),
            )
            if wait_s is None:
                break
            _log_retry(outcome, wait_s, attempts_left=self._max_attempts - attempt)
            (self._sleep or deadline.wait)(wait_s)
            if deadline.remaining_s() <= 0:  # the call was stopped meanwhile
                break
        if isinstance(result, BzCtrlTransportError):
            raise result
        return result, info

    def _attempt(
        self,
        request: requests.PreparedRequest,
        prepared: _Prepared,
        info: RequestInfo,
        deadline: Deadline,
    ) -> tuple[requests.Response | BzCtrlTransportError, SendFailure | int]:
        """Send a request once; return the response with its status, or the error with its kind."""
        timeout_s = max(min(self._timeout_s, deadline.remaining_s()), 0.001)
        try:
            response = self._session.send(
                request,
                timeout=Timeout(total=timeout_s),  # type: ignore[arg-type]  # the stubs lack urllib3's
                allow_redirects=False,
                **prepared.settings,
            )
        except HTTP_ERRORS as exc:
            # Without its causes, urllib3's, four deep: the error itself says what went wrong.
            return transport_error(exc, info), classify(exc)
        except BaseException as exc:  # noqa: BLE001 - such as a signal handler's; it is raised again
            raise without_frames(exc) from None
        return response, response.status_code


def _is_address(proxy: str | None) -> bool:
    try:
        return proxy is None or bool(urlsplit(proxy if "://" in proxy else f"http://{proxy}").hostname)
    except ValueError:
        return False


def _log_retry(outcome: SendFailure | int, wait_s: float, *, attempts_left: int) -> None:
    log.warning(
        "%s: the next attempt follows in %.0f s (attempts left: %d).",
        f"BzCtrl answered with {outcome}" if isinstance(outcome, int) else _NO_RESPONSE[outcome],
        wait_s,
        attempts_left,
    )


_NO_RESPONSE = {
    SendFailure.NOT_CONNECTED: "No connection to BzCtrl",
    SendFailure.NO_RESPONSE: "No whole response of BzCtrl",
}
