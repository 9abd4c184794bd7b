"""The client: one session, one token, the two calls that BzCtrl documents."""

from __future__ import annotations

import json
import logging
import os
import random
import threading
import time
from functools import partial
from http import HTTPStatus
from types import MappingProxyType
from typing import TYPE_CHECKING, Any, NamedTuple
from urllib.parse import urlencode

from pydantic import SecretBytes, SecretStr

from bzctrl_provider.client.auth import shared_source
from bzctrl_provider.client.deadline import Deadline
from bzctrl_provider.client.requester import Requester
from bzctrl_provider.client.response import parse_created, parse_token, refused_fresh_token
from bzctrl_provider.client.retry import RETRY_AFTER_MAX_S
from bzctrl_provider.client.todo import (
    CreatedTodo,
    InProgressSpelling,
    MessageFormat,
    Todo,
    build_message,
    complete_todo,
    too_large,
)
from bzctrl_provider.limits import MAX_WORKERS
from bzctrl_provider.text import safe_repr

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping

    import requests

    from bzctrl_provider.client.auth import Token, TokenSource
    from bzctrl_provider.client.endpoints import Endpoints
    from bzctrl_provider.client.request import RequestInfo
    from bzctrl_provider.exceptions import BzCtrlError

log = logging.getLogger(__name__)

MESSAGE_MAX_BYTES = 1_000_000
"""The largest todo that is sent: BzCtrl repeats it in its response, which is read up to 1 MiB."""

_TITLE_CHARS = 300

_connect_lock = threading.Lock()


def _renew_lock() -> None:
    """Make a new lock in a forked child: a thread that is not in the child may hold the old one."""
    global _connect_lock  # noqa: PLW0603 - see above
    _connect_lock = threading.Lock()


os.register_at_fork(after_in_child=_renew_lock)


class _Process(NamedTuple):
    """Hold the objects of one process: a forked child must not share its parent's sockets and locks."""

    pid: int
    requester: Requester
    tokens: TokenSource


class BzCtrlClient:
    """Create todos. Safe to use from several threads.

    A call ends after ``total_s`` seconds at the latest: all attempts of the token request, the create request
    and its one replay together.

    :param endpoints: where BzCtrl is.
    :param username: of the API user.
    :param password: of the API user.
    :param timeout_s: seconds for one attempt of one HTTP request, from connecting to the end of the response.
    :param max_attempts: how often one request is sent at most, if sending it again is safe.
    :param verify: whether the server's certificate is checked, or the path of a CA file to check it with.
    :param message_format: ``add-task`` or ``predefined``; see ``build_message``.
    :param in_progress_spelling: ``IN PROGRESS`` or ``INPROGRESS``.
    :param defaults: ``domain_workspace``, ``reporter`` and ``assignee`` for todos that have none.
    :param connection: how an error calls the place of these settings.
    :param on_new_token: called with each token that BzCtrl grants, to mask it; an error of it is logged, not raised.
    :param tokens: keeps the token; default: one for each set of credentials of this process.
    :param sleep: waits for so many seconds between two attempts; default: a wait that ends when the call is stopped.
    :param jitter: returns 0 to 1, see ``client.retry.backoff_s``.
    :param clock: monotonic seconds.
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
        sleep: Callable[[float], object] | None = None,
        jitter: Callable[[], float] = random.random,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self.endpoints = endpoints
        self.username = username
        # A token, the todo, a fresh token, the replay: each with all its attempts and its longest waits.
        self.total_s = 4 * (max_attempts * timeout_s + (max_attempts - 1) * RETRY_AFTER_MAX_S)
        self._password = password
        self._message_format: MessageFormat = message_format
        self._in_progress_spelling: InProgressSpelling = in_progress_spelling
        self._defaults = dict(defaults or {})
        self._on_new_token = on_new_token
        self._own_tokens = tokens
        self._clock = clock
        self._new_requester = partial(
            Requester,
            endpoints,
            password=password,
            timeout_s=timeout_s,
            max_attempts=max_attempts,
            verify=verify,
            create_method="PUT" if message_format == "predefined" else "POST",
            connection=connection,
            sleep=sleep,
            jitter=jitter,
        )
        self._process = self._connect()

    def _connect(self) -> _Process:
        tokens = self._own_tokens or shared_source(self.endpoints.token_url, self.username, self._password)
        return _Process(os.getpid(), self._new_requester(), tokens)

    def _own_process(self) -> _Process:
        """Return the objects of this process; in a forked child one thread makes them, and others see them when they are complete."""
        if self._process.pid != os.getpid():
            with _connect_lock:
                if self._process.pid != os.getpid():
                    self._process = self._connect()
        return self._process

    def close(self) -> None:
        """Close the connections; the token stays for the next client."""
        self._process.requester.close()

    @property
    def defaults(self) -> Mapping[str, Any]:
        """Return the fields for todos that have none, read-only."""
        return MappingProxyType(self._defaults)

    def authenticate(self, *, limit_s: float | None = None) -> None:
        """Get the token that this process shares, unless it has a valid one.

        :param limit_s: seconds for the whole call; default and at most ``total_s``.
        :raises BzCtrlError: why there is none.
        """
        self._get_token(self._own_process(), self._new_deadline(limit_s))

    def check_credentials(self) -> None:
        """Ask for a new token, and for nothing else.

        :raises BzCtrlError: why there is none.
        """
        self._fetch_token(self._own_process().requester, self._new_deadline())

    def create_todo(
        self,
        todo: Todo | Mapping[str, Any] | None = None,
        /,
        *,
        limit_s: float | None = None,
        **fields: Any,
    ) -> CreatedTodo:
        """Create one incident or task.

        :param todo: a ``Todo``, or a mapping of its fields.
        :param limit_s: seconds for the whole call; default and at most ``total_s``.
        :param fields: the same fields one by one; they win over those of ``todo``.
        :return: for example ``CreatedTodo(key="EXA-CON-BUS-WOR-03", link="https://…", …)``.
        :raises BzCtrlValidationError: names every error of the todo; nothing was sent.
        :raises BzCtrlError: anything else; its ``outcome_unknown`` says whether the todo may exist.
        """
        values: Todo | Mapping[str, Any] = todo if todo is not None else {}
        if fields:
            values = {**(vars(values) if isinstance(values, Todo) else values), **fields}
        return self._create(values, self._new_deadline(limit_s))

    def create_todos(
        self,
        todos: Iterable[Todo | Mapping[str, Any]],
        *,
        max_workers: int = 8,
        limit_s: float | None = None,
    ) -> list[CreatedTodo | BzCtrlError]:
        """Create many, several at a time.

        :param todos: like ``create_todo``'s; a generator is read as the work goes on.
        :param max_workers: how many at a time, 1 to 64.
        :param limit_s: seconds for each todo; default and at most ``total_s``.
        :return: for each todo, in the order and the length of the input, the created todo or the error. Once BzCtrl has
            refused the credentials, no further request is made: an account is easily locked.
        :raises BzCtrlBulkError: ``todos`` raised an error while it was read; its ``results`` are those of the todos
            before.
        """
        # Imported here: most tasks create one todo, and need no pool of threads.
        from bzctrl_provider.client.bulk import Bulk

        if not isinstance(max_workers, int) or not 1 <= max_workers <= MAX_WORKERS:
            raise ValueError(f"max_workers must be 1 to {MAX_WORKERS}, not {safe_repr(max_workers)}")
        stopped = threading.Event()

        def create(todo: Todo | Mapping[str, Any]) -> CreatedTodo:
            return self._create(todo, self._new_deadline(limit_s, stopped=stopped))

        return Bulk(create, todos, stopped=stopped).run(max_workers=max_workers)

    def _new_deadline(
        self, limit_s: float | None = None, *, stopped: threading.Event | None = None
    ) -> Deadline:
        limit_s = self.total_s if limit_s is None else max(min(limit_s, self.total_s), 0)
        return Deadline(limit_s, clock=self._clock, stopped=stopped)

    def _create(self, todo: Todo | Mapping[str, Any], deadline: Deadline) -> CreatedTodo:
        complete = complete_todo(todo, defaults=self._defaults, message_format=self._message_format)
        message = build_message(
            complete, message_format=self._message_format, in_progress_spelling=self._in_progress_spelling
        )
        body = SecretBytes(json.dumps(message, ensure_ascii=False).encode())
        if len(body) > MESSAGE_MAX_BYTES:
            raise too_large(message, max_bytes=MESSAGE_MAX_BYTES)
        created = parse_created(*self._send_with_token(body, deadline), message)
        log.info(
            "Created the %s %s in BzCtrl: %s",
            created.todo_type,
            created.key or safe_repr(created.title, max_chars=_TITLE_CHARS),
            created.link or "without a link",
        )
        return created

    def _send_with_token(
        self, body: SecretBytes, deadline: Deadline
    ) -> tuple[requests.Response, RequestInfo]:
        process = self._own_process()
        for replayed in (False, True):
            token = self._get_token(process, deadline)
            response, info = process.requester.send("create", body, deadline=deadline, token=token)
            if response.status_code != HTTPStatus.UNAUTHORIZED:
                return response, info
            process.tokens.discard(token)
            if replayed:
                raise refused_fresh_token(response, info)
        raise AssertionError  # the second round returns or raises

    def _get_token(self, process: _Process, deadline: Deadline) -> Token:
        fetch = partial(self._fetch_token, process.requester, deadline)
        return process.tokens.get(fetch, wait_s=deadline.remaining_s())

    def _fetch_token(self, requester: Requester, deadline: Deadline) -> tuple[SecretStr, object]:
        token, expires_in = parse_token(*requester.send("token", self._grant(), deadline=deadline))
        if self._on_new_token:
            try:
                self._on_new_token(token.get_secret_value())
            except Exception as exc:  # noqa: BLE001 - the todo is worth more than a mask in other logs
                log.warning("A new token could not be masked in logs: %s", type(exc).__name__)
        return token, expires_in

    def _grant(self) -> SecretBytes:
        password = self._password.get_secret_value()
        grant = {"grant_type": "password", "username": self.username, "password": password}
        return SecretBytes(urlencode(grant).encode())
