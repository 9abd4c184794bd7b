"""The client: one session, one token, the two calls that BzCtrl documents."""

from __future__ import annotations

import copy
import json
import logging
import os
import threading
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from http import HTTPStatus
from http.cookiejar import DefaultCookiePolicy
from typing import TYPE_CHECKING, Any, Literal
from urllib.parse import urlencode

import requests
from pydantic import SecretBytes, SecretStr
from urllib3.util import Timeout

import bzctrl_provider
from bzctrl_provider.client.auth import BearerAuth, NoAuth, Token, shared_source
from bzctrl_provider.client.response import (
    RequestInfo,
    parse_created,
    parse_token,
    refused_fresh_token,
    transport_error,
    without_frames,
)
from bzctrl_provider.client.retry import RETRY_AFTER_MAX_S, BzCtrlRetry, bounded_call, remaining_s
from bzctrl_provider.client.todo import (
    CreatedTodo,
    InProgressSpelling,
    MessageFormat,
    Todo,
    build_message,
    complete_todo,
    too_large,
)
from bzctrl_provider.client.transport import BzCtrlAdapter
from bzctrl_provider.exceptions import BzCtrlAuthError, BzCtrlError, BzCtrlTransportError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Mapping

    from requests.auth import AuthBase

    from bzctrl_provider.client.auth import TokenSource
    from bzctrl_provider.client.endpoints import Endpoints

log = logging.getLogger(__name__)

MESSAGE_MAX_BYTES = 1_000_000
"""The largest todo that is sent: BzCtrl repeats it in its answer, and that is read up to 1 MiB."""

MAX_WORKERS = 64
"""The most threads, and so connections, that one client uses."""


class _Session(requests.Session):
    def get_redirect_target(self, resp: requests.Response) -> str | None:  # noqa: ARG002 - requests' signature
        """Look for none: requests would read the Location, whatever is in it, even where it does not follow it."""
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


class BzCtrlClient:
    """Creates todos. Safe to use from several threads.

    A call ends after ``total_s`` seconds at the latest: all attempts of the token request, the create request
    and its one replay together.

    :param endpoints: where BzCtrl is.
    :param username: of the API user.
    :param password: of the API user.
    :param timeout_s: seconds for one attempt of one HTTP request, from connecting to the end of the answer.
    :param max_attempts: how often one request is sent at the most, where sending it again is safe.
    :param verify: whether the server's certificate is checked, or the path of a CA file to check it with.
    :param message_format: ``add-task`` or ``predefined``; see ``build_message``.
    :param in_progress_spelling: ``IN PROGRESS`` or ``INPROGRESS``.
    :param defaults: ``domain_workspace``, ``reporter`` and ``assignee`` for todos that have none.
    :param connection: what the place of these settings is called in errors.
    :param on_new_token: called with each token that BzCtrl grants, to mask it.
    :param tokens: where the token is kept; default: one place for each set of credentials of this process.
    :param injected: ``sleep``, ``jitter`` and ``clock`` of the retries.
    """

    def __init__(
        self,
        endpoints: Endpoints,
        *,
        username: str,
        password: SecretStr,
        timeout_s: float = 30.0,
        max_attempts: int = 3,
        verify: bool | str = True,
        message_format: MessageFormat = "add-task",
        in_progress_spelling: InProgressSpelling = "IN PROGRESS",
        defaults: Mapping[str, Any] | None = None,
        connection: str = "the connection",
        on_new_token: Callable[[str], object] | None = None,
        tokens: TokenSource | None = None,
        **injected: Any,
    ) -> None:
        self.endpoints = endpoints
        self.username = username
        # A token, the todo, a fresh token, the replay: each with all its attempts and its longest waits.
        self.total_s = 4 * (max_attempts * timeout_s + (max_attempts - 1) * RETRY_AFTER_MAX_S)
        self._password = password
        self._timeout_s = timeout_s
        self._max_attempts = max_attempts
        self._message_format: MessageFormat = message_format
        self._in_progress_spelling: InProgressSpelling = in_progress_spelling
        self._defaults = dict(defaults or {})
        self._connection = connection
        self._on_new_token = on_new_token
        self._own_tokens = tokens
        self._injected = injected
        self._connect()
        user_agent = f"airflow-provider-bzctrl/{bzctrl_provider.__version__}"
        common = {"Accept": "application/json", "Accept-Encoding": "identity", "User-Agent": user_agent}
        # The environment's proxies and CA files, and all of a request but its body and token, are worked out
        # once for each of the two requests and not for each todo.
        self._settings = {
            what: self._session.merge_environment_settings(url, {}, False, verify, None)
            for what, url in (("token", endpoints.token_url), ("create", endpoints.create_url))
        }
        if endpoints.is_clear_text_to_this_machine:
            # A proxy is another machine, which would see the password.
            self._settings = {what: {**settings, "proxies": {}} for what, settings in self._settings.items()}
        self._templates = {
            "token": self._session.prepare_request(
                requests.Request(
                    "POST",
                    endpoints.token_url,
                    headers=common | {"Content-Type": "application/x-www-form-urlencoded"},
                    auth=NoAuth(),
                )
            ),
            "create": self._session.prepare_request(
                requests.Request(
                    "PUT" if message_format == "predefined" else "POST",
                    endpoints.create_url,
                    headers=common | {"Content-Type": "application/json"},
                    auth=NoAuth(),
                )
            ),
        }

    def _connect(self) -> None:
        """Make the session; in a forked child once more, which must not share its parent's sockets and locks."""
        self._pid = os.getpid()
        self._tokens = self._own_tokens or shared_source(
            self.endpoints.token_url, self.username, self._password
        )
        self._session = self._new_session(self._injected)

    def _new_session(self, injected: Mapping[str, Any]) -> requests.Session:
        session = _Session()
        session.cookies.set_policy(DefaultCookiePolicy(allowed_domains=[]))
        create = BzCtrlAdapter(
            retry=BzCtrlRetry.for_request("create", attempts=self._max_attempts, **injected),
            connections=MAX_WORKERS,
        )
        token = create.sharing(BzCtrlRetry.for_request("token", attempts=self._max_attempts, **injected))
        session.mount(self.endpoints.create_url, create)
        session.mount(self.endpoints.token_url, token)
        return session

    def close(self) -> None:
        """Close the connections; the token stays for the next client."""
        self._session.close()

    def check_credentials(self) -> None:
        """Ask for a new token, and for nothing else.

        :raises BzCtrlError: why there is none.
        """
        with self._call():
            self._fetch_token()

    def create_todo(self, todo: Todo | Mapping[str, Any] | None = None, /, **fields: Any) -> CreatedTodo:
        """Create one incident or task.

        :param todo: a ``Todo``, or a mapping of its fields.
        :param fields: the same fields one by one; they win over those of ``todo``.
        :return: for example ``CreatedTodo(key="EXA-CON-BUS-WOR-03", link="https://…", …)``.
        :raises BzCtrlValidationError: names every fault of the todo; nothing was sent.
        :raises BzCtrlError: anything else; its ``outcome_unknown`` tells whether the todo may exist.
        """
        values: Todo | Mapping[str, Any] = todo if todo is not None else {}
        if fields:
            values = {**(vars(values) if isinstance(values, Todo) else values), **fields}
        complete = complete_todo(values, defaults=self._defaults, message_format=self._message_format)
        message = build_message(
            complete, message_format=self._message_format, in_progress_spelling=self._in_progress_spelling
        )
        body = SecretBytes(json.dumps(message, ensure_ascii=False).encode())
        if len(body) > MESSAGE_MAX_BYTES:
            raise too_large(message, max_bytes=MESSAGE_MAX_BYTES)
        with self._call():
            created = parse_created(*self._send_with_token(body), message)
        log.info(
            "Created the %s %s in BzCtrl: %s",
            created.todo_type,
            created.key or repr(created.title),
            created.link or "without a link",
        )
        return created

    def create_todos(
        self, todos: Iterable[Todo | Mapping[str, Any]], *, max_workers: int = 8
    ) -> list[CreatedTodo | BzCtrlError]:
        """Create many, several at a time.

        :param todos: like ``create_todo``'s; a generator is read as the work goes on.
        :param max_workers: how many at a time, 1 to 64.
        :return: for each todo, in the order and the length of the input, what was created or why it was not. Once
            BzCtrl has refused the credentials, no further request is made: an account is easily locked.
        """
        if not 1 <= max_workers <= MAX_WORKERS:
            raise ValueError(f"max_workers must be 1 to {MAX_WORKERS}, not {max_workers}")
        bulk = _Bulk(self, todos)
        with ThreadPoolExecutor(max_workers, thread_name_prefix="bzctrl") as pool:
            workers = [pool.submit(bulk.work) for _ in range(max_workers)]
            try:
                for worker in workers:
                    worker.result()
            finally:  # also when the task is stopped meanwhile: no new todo then
                bulk.stopped = True
        return bulk.results

    @contextmanager
    def _call(self) -> Iterator[None]:
        """Bound one call, and begin it with connections of this process."""
        if os.getpid() != self._pid:
            self._connect()
        with bounded_call(self.total_s):
            yield

    def _send_with_token(self, body: SecretBytes) -> tuple[requests.Response, RequestInfo]:
        for replayed in (False, True):
            token = self._tokens.get(self._fetch_token, wait_s=remaining_s())
            response, request_info = self._send("create", body, BearerAuth(token), secret=token)
            if response.status_code != HTTPStatus.UNAUTHORIZED:
                return response, request_info
            self._tokens.discard(token)
            if replayed:
                raise refused_fresh_token(response, request_info)
        raise AssertionError  # the second round returns or raises

    def _fetch_token(self) -> tuple[SecretStr, object]:
        token, expires_in = parse_token(*self._send("token", self._grant(), NoAuth()))
        if self._on_new_token:
            self._on_new_token(token.get_secret_value())
        return token, expires_in

    def _grant(self) -> SecretBytes:
        password = self._password.get_secret_value()
        grant = {"grant_type": "password", "username": self.username, "password": password}
        return SecretBytes(urlencode(grant).encode())

    def _send(
        self,
        what: Literal["token", "create"],
        body: SecretBytes,
        auth: AuthBase,
        *,
        secret: Token | None = None,
    ) -> tuple[requests.Response, RequestInfo]:
        request = _filled(self._templates[what], body.get_secret_value(), auth)
        url = request.url or ""
        secrets = [self._password, secret.value] if secret else [self._password]
        request_info = RequestInfo(what, url, self._max_attempts, secrets, self._connection)
        if remaining_s() <= 0:
            raise BzCtrlTransportError(
                f"{request_info} was not sent: the {self.total_s:g} s for this call are used up."
            )
        try:
            return self._session.send(
                request,
                timeout=Timeout(total=self._timeout_s),  # type: ignore[arg-type]  # the stubs lack urllib3's
                allow_redirects=False,
                **self._settings[what],
            ), request_info
        except Exception as exc:  # noqa: BLE001 - whatever it is, it was raised where the secrets are
            error = transport_error(exc, request_info)
        except BaseException as exc:  # noqa: BLE001 - the task is stopped in the middle of the request
            raise without_frames(exc) from None
        # Outside of the handler: the error says what went wrong, and its causes are urllib3's, four deep.
        raise error


class _Bulk:
    """One run over many todos: what its threads share."""

    def __init__(self, client: BzCtrlClient, todos: Iterable[Todo | Mapping[str, Any]]) -> None:
        self._client = client
        self._todos = iter(todos)
        self._lock = threading.Lock()
        self._refused: BzCtrlAuthError | None = None
        self.results: list[Any] = []
        self.stopped = False

    def work(self) -> None:
        while True:
            with self._lock:
                if self.stopped:
                    return
                try:
                    todo = next(self._todos)
                except StopIteration:
                    return
                except BaseException:
                    self.stopped = True
                    raise
                index = len(self.results)
                self.results.append(None)
            self.results[index] = self._create(todo)

    def _create(self, todo: Todo | Mapping[str, Any]) -> CreatedTodo | BzCtrlError:
        if self._refused:
            return copy.copy(self._refused)
        try:
            return self._client.create_todo(todo)
        except BzCtrlAuthError as exc:
            self._refused = exc
            return exc
        except BzCtrlError as exc:
            return exc
