"""Send the two requests of the API, each as often as ``client.retry`` decides."""

from __future__ import annotations

import logging
from http.cookiejar import DefaultCookiePolicy
from random import random
from typing import TYPE_CHECKING, Any

import requests
from pydantic import SecretStr
from urllib3.util import Timeout

import bzctrl_provider
from bzctrl_provider.client.endpoints import is_loopback
from bzctrl_provider.client.redaction import proxy_passwords
from bzctrl_provider.client.response import HTTP_ERRORS, Answer, RequestInfo, transport_error
from bzctrl_provider.client.retry import retry_wait_s
from bzctrl_provider.client.transport import BzCtrlAdapter
from bzctrl_provider.exceptions import BzCtrlTransportError
from bzctrl_provider.limits import MAX_WORKERS

if TYPE_CHECKING:
    from pydantic import SecretBytes

    from bzctrl_provider.client.auth import Token
    from bzctrl_provider.client.config import BzCtrlConfig
    from bzctrl_provider.client.deadline import Deadline
    from bzctrl_provider.client.retry import RequestKind, SendFailure

log = logging.getLogger(__name__)

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
