"""Keep the sandbox's todos, tokens, faults and recorded requests. Any thread may use them."""

from __future__ import annotations

import contextlib
import json
import random
import re
import sqlite3
import threading
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any, Literal, TypeAlias, get_args
from urllib.parse import quote

from bzctrl_provider.sandbox import contract

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence
    from pathlib import Path

FaultName: TypeAlias = Literal["reset_before", "reset_after", "cut", "html", "empty", "no_todo", "slow"]
"""The faults that are not simply an HTTP status.

``reset_before``: the connection is reset, no todo is created. ``reset_after``: it is reset after the todo was created.
``cut``: the todo is created, the response ends half-way. ``html``: status 200 with a page instead of JSON.
``empty``: status 200 without a body. ``no_todo``: status 200 with the JSON of an error. ``slow``: the todo is created, the
response is sent ``delay_s`` later.
"""

FaultTarget: TypeAlias = Literal["create", "token", "any"]
"""Which requests may get a fault."""

NAMES: tuple[FaultName, ...] = get_args(FaultName)
TARGETS: tuple[FaultTarget, ...] = get_args(FaultTarget)


def _is_between(value: Any, lowest: float, highest: float, kind: type = float) -> bool:
    return type(value) in (int, kind) and lowest <= value <= highest


def check(rules: dict[str, bool]) -> None:
    """Raise if an argument is invalid.

    :param rules: each rule as an error names it, and whether it holds.
    :raises ValueError: naming every rule that does not hold.
    """
    if broken := [rule for rule, holds in rules.items() if not holds]:
        raise ValueError("; ".join(broken))


@dataclass(frozen=True)
class Fault:
    """One fault with its options, which ``Sandbox.fail_next`` describes.

    :raises ValueError: naming every invalid argument and the values that are allowed.
    """

    kind: int | FaultName
    on: FaultTarget = "create"
    retry_after_s: int | None = None
    retry_after_as_date: bool = False
    delay_s: float = 0
    location: str | None = None
    after_creation: bool = False

    def __post_init__(self) -> None:
        kind, seconds, location = self.kind, self.retry_after_s, self.location
        is_whole = _is_between(seconds or 0, 0, 10**9, int)
        may_follow = kind in (*range(500, 600), *NAMES) and kind != "reset_before"
        check(
            {
                f"fault must be an HTTP status from 300 to 599 or one of {', '.join(NAMES)}": kind
                in (*range(300, 600), *NAMES),
                f"on must be one of {', '.join(TARGETS)}": self.on in TARGETS,
                "retry_after_s must be whole seconds from 0 to 1,000,000,000": is_whole,
                "retry_after_as_date needs retry_after_s": not (self.retry_after_as_date and seconds is None),
                "delay_s must be seconds from 0 to 86,400": _is_between(self.delay_s, 0, 86_400),
                "'slow' needs delay_s": kind != "slow" or self.delay_s != 0,
                "location must be a URL in printable ASCII": bool(re.fullmatch("[ -~]*", f"{location}")),
                "location goes with a status from 300 to 399": location is None or kind in range(300, 400),
                "after_creation goes with a status from 500 to 599, html, empty or no_todo": not self.after_creation
                or may_follow,
            }
        )

    @property
    def takes_effect(self) -> bool:
        """Return whether the request takes effect nevertheless: the todo is created, or the token issued."""
        return self.after_creation or self.kind in ("reset_after", "cut", "slow")


_SECRET_HEADERS = ("authorization", "proxy-authorization", "cookie")
_SECRET_KEYS = ("password", "access_token", "refresh_token", "client_secret")


class TodoStore:
    """The todos, in memory and, if there is a data file, also in that file.

    :param data: the SQLite file, which is created if it does not exist; None keeps the todos only in memory.
    """

    def __init__(self, data: str | Path | None) -> None:
        self._data = data
        self._lock = threading.Lock()
        self._file: sqlite3.Connection | None = None
        self._todos: dict[str, dict[str, Any]] = {}

    def open(self) -> None:
        """Read the todos of the file, or start with none in memory.

        :raises OSError: if the file cannot be used: it is another program's, or another sandbox uses it.
        """
        self._todos = {}
        if self._data is None:
            return
        try:
            # `isolation_level=None`: transactions begin explicitly, not where Python guesses.
            file = sqlite3.connect(str(self._data), timeout=0, isolation_level=None, check_same_thread=False)
            self._file = file
            # Kept until the file is closed: two sandboxes would give the same keys.
            file.execute("PRAGMA locking_mode = EXCLUSIVE")
            file.execute("BEGIN EXCLUSIVE")
            foreign = "SELECT 1 FROM sqlite_master WHERE type = 'table' AND name <> 'todo'"
            if file.execute(foreign).fetchone():
                raise sqlite3.DatabaseError("it is another program's database")
            file.execute("CREATE TABLE IF NOT EXISTS todo (key TEXT PRIMARY KEY, record TEXT NOT NULL)")
            rows = file.execute("SELECT key, record FROM todo ORDER BY rowid").fetchall()
            file.execute("COMMIT")
        except sqlite3.Error as exc:
            self.close()
            raise OSError(f"cannot open the sandbox's data file {self._data}: {exc}") from exc
        self._todos = {key: json.loads(record) for key, record in rows}

    def close(self) -> None:
        """Close the file. The todos can still be read."""
        if self._file is not None:
            self._file.close()
        self._file = None

    def create(self, todo: Mapping[str, Any], *, base_url: str, now: datetime) -> dict[str, Any]:
        """Keep a todo under a new key.

        :param todo: the checked body of the request.
        :param base_url: the address that the client used; the todo's link begins with it.
        :param now: the time of creation.
        :return: the body with ``key``, ``taskLink``, ``tags``, ``createdAt``, and ``dueDate`` if its status is DONE.
        """
        created_at = now.astimezone(UTC)
        workspace = contract.get_workspace(todo)
        with self._lock:
            number = sum(contract.get_workspace(kept) == workspace for kept in self._todos.values()) + 1
            key = f"{workspace}-{number:02d}"
            record = {
                **todo,
                "key": key,
                "taskLink": f"{base_url}/app/#/todo/{quote(key, safe='')}",
                "tags": contract.make_tags(todo),
                "createdAt": created_at.isoformat(timespec="seconds"),
            }
            if todo["status"] == "DONE":
                record["dueDate"] = created_at.date().isoformat()
            if self._file is not None:
                self._file.execute("INSERT INTO todo VALUES (?, ?)", (key, json.dumps(record)))
            self._todos[key] = record
        return record

    def all(self) -> list[dict[str, Any]]:
        """Return copies of the todos, in order of creation."""
        with self._lock:
            return [dict(todo) for todo in self._todos.values()]

    def clear(self) -> None:
        """Remove every todo; keys start at 01 again."""
        with self._lock:
            if self._file is not None:
                self._file.execute("DELETE FROM todo")
            self._todos = {}


@dataclass(frozen=True)
class RecordedRequest:
    """One request that the sandbox received.

    It has no secret: the Authorization header, cookies and the form's password are redacted.
    """

    method: str
    path: str
    """Without the query."""
    headers: dict[str, str]
    """Names in lower case."""
    body: Any
    """The JSON object or the form as a dictionary; text if it was neither; None if there was none."""
    status: int | None
    """The status of the response; None if the connection was reset instead."""
    fault: str | None
    """The fault that was injected, such as ``"503"`` or ``"reset_after"``."""


def redact(values: Mapping[str, Any]) -> dict[str, Any]:
    """Return the headers or the body of a request with its secrets redacted.

    :param values: by the names of headers in lower case, or by the keys of a body.
    """
    secrets = _SECRET_HEADERS + _SECRET_KEYS
    return {name: "***" if name in secrets else value for name, value in values.items()}


def redact_body(raw: bytes, *, path: str, media_type: str) -> Any:
    """Return a body as it may be shown: an object or a form as a dictionary, without its secrets; otherwise the text.

    :param raw: the body as it was received.
    :param path: the path of the request; an unreadable body of a token request is redacted completely.
    :param media_type: the header's value, without parameters.
    """
    if not raw:
        return None
    with contextlib.suppress(KeyError, ValueError):
        body = contract.READERS[media_type](raw)
        if isinstance(body, dict):
            return redact(body)
    return "***" if path == contract.TOKEN_PATH else raw.decode("utf-8", errors="replace")


@dataclass(frozen=True)
class State:
    """The state that the endpoints share."""

    todos: TodoStore
    clock: Callable[[], datetime]
    """Returns the current time."""
    credentials: tuple[str, str] | None = field(default=None, repr=False)
    """The only username and password accepted; None accepts any."""
    token_lifetime_s: float = 3600
    tokens: dict[str, datetime] = field(default_factory=dict, repr=False)
    """The tokens that were issued, each with the time at which it expires."""
    requests: list[RecordedRequest] = field(default_factory=list)


class SandboxControls:
    """The control of faults and state: the methods of ``Sandbox`` and the endpoints under ``/sandbox/``.

    :param state: what they control.
    """

    def __init__(self, state: State) -> None:
        self._state = state
        self._lock = threading.Lock()
        self._queue: list[Fault] = []
        self._random = random.Random()  # noqa: S311 - it must be repeatable, and keeps no secret
        self._random_faults: list[Fault] = []
        self._rate = 0.0

    def fail_next(
        self,
        fault: int | FaultName,
        *,
        times: int = 1,
        on: FaultTarget = "create",
        retry_after_s: int | None = None,
        retry_after_as_date: bool = False,
        delay_s: float = 0,
        location: str | None = None,
        after_creation: bool = False,
    ) -> None:
        """Let the next requests fail. Faults wait in a queue and are injected in the order of the calls.

        A fault that is injected after the todo was created stays in the queue while requests are refused (401, 400).

        :param fault: an HTTP status from 300 to 599, or one of ``reset_before`` (the connection is reset, no todo is
            created), ``reset_after`` (it is reset after the todo was created), ``cut`` (the todo is created, the
            response ends half-way), ``html`` (status 200 with a page instead of JSON), ``empty`` (status 200 without
            a body), ``no_todo`` (status 200 with the JSON of an error), ``slow`` (the todo is created, the response is
            sent ``delay_s`` later).
        :param times: how many requests, 1 (default) to 10,000.
        :param on: which requests: ``create`` (default), ``token`` or ``any``. On a token request, read "the token is
            issued" for "the todo is created".
        :param retry_after_s: whole seconds for the Retry-After header of a status, 0 to 1,000,000,000; no header by
            default.
        :param retry_after_as_date: whether that header is an HTTP date instead of seconds, default false.
        :param delay_s: seconds before the response or the reset, 0 (default) to 86,400; ``slow`` needs it, any other
            fault may have it. Other requests do not wait.
        :param location: the Location header of a status from 300 to 399; by default the sandbox's page.
        :param after_creation: whether the todo is created before a status from 500 to 599, ``html``, ``empty`` or
            ``no_todo`` is sent, default false.
        :raises ValueError: naming every invalid argument and the values that are allowed.
        """
        planned = Fault(fault, on, retry_after_s, retry_after_as_date, delay_s, location, after_creation)
        check({"times must be a whole number from 1 to 10,000": _is_between(times, 1, 10_000, int)})
        with self._lock:
            self._queue.extend([planned] * times)

    def fail_randomly(
        self,
        rate: float,
        *,
        faults: Sequence[int | FaultName] = (429, 500, 503, "reset_before", "reset_after"),
        seed: int = 0,
        on: FaultTarget = "create",
        retry_after_s: int | None = None,
        delay_s: float = 0,
    ) -> None:
        """Let requests fail at random, in the same way for the same seed and the same sequence of requests.

        Faults in the queue of ``fail_next`` come first. A second call replaces the first.

        :param rate: the share of requests that fail, from 0 (none: this ends it) to 1 (all).
        :param faults: statuses and names as in ``fail_next``, each equally likely; by default 429, 500, 503,
            ``reset_before`` and ``reset_after``.
        :param seed: a whole number that the random sequence starts from, default 0.
        :param on: which requests: ``create`` (default), ``token`` or ``any``.
        :param retry_after_s: whole seconds for the Retry-After header of the statuses; no header by default.
        :param delay_s: seconds before each of these responses, default 0; ``slow`` needs it.
        :raises ValueError: naming every invalid argument and the values that are allowed.
        """
        planned = [Fault(one, on, retry_after_s, delay_s=delay_s) for one in faults]
        check({"rate must be a number from 0 to 1": _is_between(rate, 0, 1)})
        with self._lock:
            self._rate, self._random_faults = rate, planned
            self._random.seed(seed)

    def take_fault(self, kind: str | None) -> Fault | None:
        """Return the fault of a request, and remove it from the queue.

        :param kind: ``create`` or ``token``; None for any other request, which gets no fault.
        :return: None if the request gets no fault.
        """
        if kind is None:
            return None
        with self._lock:
            for position, fault in enumerate(self._queue):
                if fault.on in (kind, "any"):
                    return self._queue.pop(position)
            fitting = [fault for fault in self._random_faults if fault.on in (kind, "any")]
            if fitting and self._random.random() < self._rate:
                return self._random.choice(fitting)
            return None

    def give_back(self, fault: Fault) -> None:
        """Put a fault at the head of the queue, because its request was refused.

        :param fault: the fault that ``take_fault`` returned.
        """
        with self._lock:
            self._queue.insert(0, fault)

    def clear_faults(self) -> None:
        """Remove every fault, those in the queue and the random ones."""
        with self._lock:
            self._queue = []
            self._random_faults = []

    def expire_tokens(self) -> None:
        """Revoke every token: the next create request with one gets a 401."""
        self._state.tokens.clear()

    def reset(self) -> None:
        """Remove todos (also those in a data file), tokens, requests and faults; keys start at 01 again."""
        self.clear_faults()
        self.expire_tokens()
        self._state.todos.clear()
        self._state.requests.clear()
