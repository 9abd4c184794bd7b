"""The client: one session, one token, the two calls that BzCtrl documents."""

from __future__ import annotations

import copy
import json
import logging
import os
import threading
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING, Any, NoReturn
from urllib.parse import urlencode

from pydantic import SecretBytes

from bzctrl_provider.client.auth import shared_source
from bzctrl_provider.client.requester import Requester
from bzctrl_provider.client.response import parse_created, parse_token, refused_fresh_token, refuses_token
from bzctrl_provider.client.retry import RETRY_AFTER_MAX_S, Deadline
from bzctrl_provider.client.todo import Todo, build_message, complete_todo, too_large
from bzctrl_provider.exceptions import BzCtrlAuthError, BzCtrlError
from bzctrl_provider.text import LINE_CHARS, MAX_WORKERS, safe_repr

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from pydantic import SecretStr

    from bzctrl_provider.client.config import BzCtrlConfig
    from bzctrl_provider.client.response import Answer
    from bzctrl_provider.client.todo import AnyTodo, CreatedTodo, Message

log = logging.getLogger(__name__)

MESSAGE_MAX_BYTES = 1_000_000
"""The largest todo that is sent: BzCtrl repeats it in its response, which is read up to 1 MiB."""


def _encode(message: Message) -> SecretBytes:
    return SecretBytes(json.dumps(message, ensure_ascii=False).encode())


class BzCtrlClient:
    """A creator of todos. Safe to use from several threads.

    A call ends after ``total_s`` seconds at the latest: all attempts of the token request, the create request
    and its one replay together.

    :param config: the settings.
    :param on_new_token: called with each token that BzCtrl grants, to mask it.
    """

    def __init__(self, config: BzCtrlConfig, *, on_new_token: Callable[[str], object] | None = None) -> None:
        request_s = config.max_attempts * config.timeout_s + (config.max_attempts - 1) * RETRY_AFTER_MAX_S
        # A token, the todo, a fresh token, the replay.
        self.total_s = 4 * request_s
        self.config = config
        self._on_new_token = on_new_token
        self._requesters = {os.getpid(): Requester(config)}

    @property
    def _requester(self) -> Requester:
        """Return the requester of this process: a forked child must not share its parent's sockets."""
        pid = os.getpid()
        if pid not in self._requesters:
            # Two threads that make one at the same moment use the first one.
            self._requesters.setdefault(pid, Requester(self.config))
        return self._requesters[pid]

    def __reduce__(self) -> NoReturn:
        raise TypeError("A client cannot be pickled: it holds the password.")

    def close(self) -> None:
        """Close the connections; the token stays for the next client."""
        self._requester.session.close()

    def authenticate(self, *, limit_s: float | None = None) -> None:
        """Get the token that this process shares, unless it has a valid one.

        :param limit_s: seconds for the whole call; default and at most ``total_s``.
        :raises BzCtrlError: why there is none.
        """
        self._get_token(self._new_deadline(limit_s))

    def check_credentials(self) -> None:
        """Ask for a new token, and for nothing else.

        :raises BzCtrlError: why there is none.
        """
        self._fetch_token(self._new_deadline(None))

    def create_todo(
        self, todo: AnyTodo | None = None, /, *, limit_s: float | None = None, **fields: Any
    ) -> CreatedTodo:
        """Create one incident or task.

        :param todo: a ``Todo``, or a mapping of its fields.
        :param limit_s: seconds for the whole call; default and at most ``total_s``.
        :param fields: the same fields one by one; they win over those of ``todo``.
        :return: for example ``CreatedTodo(key="EXA-CON-BUS-WOR-03", link="https://…", …)``.
        :raises BzCtrlValidationError: names every error of the todo; nothing was sent.
        :raises BzCtrlError: anything else; its ``outcome_unknown`` says whether the todo may exist.
        """
        if fields:
            todo = {**(vars(todo) if isinstance(todo, Todo) else todo or {}), **fields}
        return self._create({} if todo is None else todo, self._new_deadline(limit_s))

    def create_todos(
        self, todos: Iterable[AnyTodo], *, max_workers: int = 8, limit_s: float | None = None
    ) -> list[CreatedTodo | BzCtrlError]:
        """Create many, several at a time.

        :param todos: like ``create_todo``'s; all are read before the first one is sent.
        :param max_workers: how many at a time, 1 to 64.
        :param limit_s: seconds for each todo; default and at most ``total_s``.
        :return: for each todo, in the order and the length of the input, the created todo or the error. Once BzCtrl has
            refused the credentials, no further request is made: an account is easily locked.
        """
        if not isinstance(max_workers, int) or not 1 <= max_workers <= MAX_WORKERS:
            raise ValueError(f"max_workers must be 1 to {MAX_WORKERS}, not {safe_repr(max_workers)}")
        # Read before anything is sent: an iterable that raises an error creates nothing.
        given = list(todos)
        refused: list[BzCtrlAuthError] = []
        stopped = threading.Event()

        def create(todo: AnyTodo) -> CreatedTodo | BzCtrlError:
            if refused:
                return copy.copy(refused[0])
            try:
                return self._create(todo, self._new_deadline(limit_s, stopped=stopped))
            except BzCtrlError as exc:
                if isinstance(exc, BzCtrlAuthError):
                    refused.append(exc)
                return exc

        with ThreadPoolExecutor(max_workers, thread_name_prefix="bzctrl") as pool:
            try:
                return list(pool.map(create, given))
            except BaseException:  # the task is stopped: no new todo, no new attempt, no wait
                stopped.set()
                pool.shutdown(wait=False, cancel_futures=True)
                raise

    def _new_deadline(self, limit_s: float | None, *, stopped: threading.Event | None = None) -> Deadline:
        limit_s = self.total_s if limit_s is None else max(min(limit_s, self.total_s), 0)
        return Deadline(limit_s, stopped=stopped)

    def make_message(self, todo: AnyTodo) -> Message:
        """Complete a todo by the connection's defaults, and write its message.

        :param todo: like ``create_todo``'s.
        :raises BzCtrlValidationError: names every error of the todo.
        """
        defaults, message_format = self.config.defaults, self.config.message_format
        complete = complete_todo(todo, defaults=defaults, message_format=message_format)
        return build_message(complete, self.config)

    def send_raw(self, message: Message | None = None, *, token: SecretStr | None = None) -> Answer:
        """Send a request, and return its response whatever it says.

        :param message: of a create request; without one, the token request is sent.
        :param token: for a create request; it is not renewed.
        :raises BzCtrlTransportError: there is no response.
        """
        deadline = self._new_deadline(None)
        if not message:
            return self._requester.send("token", self._grant(), deadline=deadline)
        return self._requester.send("create", _encode(message), deadline=deadline, token=token)

    def _create(self, todo: AnyTodo, deadline: Deadline) -> CreatedTodo:
        message = self.make_message(todo)
        body = _encode(message)
        if len(body) > MESSAGE_MAX_BYTES:
            raise too_large(message, max_bytes=MESSAGE_MAX_BYTES)
        created = parse_created(self._send_with_token(body, deadline), message)
        name = created.key or safe_repr(created.title, max_chars=LINE_CHARS)
        log.info("Created the %s %s in BzCtrl: %s", created.todo_type, name, created.link or "without a link")
        return created

    def _send_with_token(self, body: SecretBytes, deadline: Deadline) -> Answer:
        # A token can end before its time: once, a fresh one is requested and the todo is sent again.
        for _ in range(2):
            token = self._get_token(deadline)
            answer = self._requester.send("create", body, deadline=deadline, token=token)
            if not refuses_token(answer):
                return answer
            shared_source(self.config).discard(token)
        raise refused_fresh_token(answer)

    def _get_token(self, deadline: Deadline) -> SecretStr:
        source = shared_source(self.config)
        return source.get(lambda: self._fetch_token(deadline), wait_s=deadline.remaining_s())

    def _fetch_token(self, deadline: Deadline) -> tuple[SecretStr, object]:
        token, expires_in = parse_token(self._requester.send("token", self._grant(), deadline=deadline))
        # Masked before its first use.
        if self._on_new_token:
            self._on_new_token(token.get_secret_value())
        return token, expires_in

    def _grant(self) -> SecretBytes:
        password = self.config.password.get_secret_value()
        grant = {"grant_type": "password", "username": self.config.username, "password": password}
        return SecretBytes(urlencode(grant).encode())
