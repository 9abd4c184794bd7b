"""Keep the sandbox's todos, tokens and recorded requests. Every method may be called from any thread."""

from __future__ import annotations

import json
import secrets
import sqlite3
import threading
import uuid
from collections import OrderedDict, deque
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any
from urllib.parse import quote

from bzctrl_provider.sandbox.contract import get_workspace, make_tags

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping
    from pathlib import Path

MAX_REQUESTS = 10_000
"""How many requests are kept; the oldest are dropped first, so that a sandbox left running does not grow without end."""

MAX_REQUESTS_LENGTH = 64 * 1024 * 1024
"""How many characters the kept requests may have together; the oldest are dropped first."""

MAX_TOKENS = 10_000
"""How many tokens are valid at a time; the oldest are revoked first."""

_BUSY_TIMEOUT_S = 5.0
# SQLite keeps a number by which a program recognises its own files; this one spells "BzCt".
_APPLICATION_ID = int.from_bytes(b"BzCt")


def utc_now() -> datetime:
    """Return the current time, in UTC."""
    return datetime.now(UTC)


class TodoStore:
    """Keep the todos, in memory or in an SQLite file that several sandboxes may share.

    It can be used between ``open`` and ``close``.

    :param data: the file, which is created if it does not exist; None keeps the todos in memory.
    :param clock: returns the time of creation.
    """

    def __init__(self, data: str | Path | None = None, *, clock: Callable[[], datetime] = utc_now) -> None:
        self._clock = clock
        self._lock = threading.Lock()
        self._name = ":memory:" if data is None else str(data)
        self._opened: sqlite3.Connection | None = None

    def open(self) -> None:
        """Open the file, or start with no todos in memory.

        :raises OSError: if the file cannot be opened.
        :raises ValueError: if the file is not a sandbox's data file; it is not changed.
        """
        try:
            # `isolation_level=None`: transactions begin explicitly, not where Python guesses.
            self._opened = sqlite3.connect(
                self._name,
                timeout=_BUSY_TIMEOUT_S,
                isolation_level=None,
                check_same_thread=False,
            )
        except sqlite3.Error as exc:
            raise OSError(f"cannot open the sandbox's data file {self._name}: {exc}") from exc
        try:
            self._prepare()
        except BaseException:
            self.close()
            raise

    def close(self) -> None:
        """Close the file; todos in memory are lost. A second call does nothing."""
        with self._lock:
            if self._opened is not None:
                self._opened.close()
            self._opened = None

    @property
    def _database(self) -> sqlite3.Connection:
        if self._opened is None:
            raise RuntimeError(
                "the sandbox is not running: its todos can be read between start() and stop(), or inside `with`"
            )
        return self._opened

    def _prepare(self) -> None:
        not_ours = f"{self._name} is not a data file of the sandbox; name another file, or one that does not exist yet"
        try:
            with self._transaction() as database:
                (application_id,) = database.execute("PRAGMA application_id").fetchone()
                (tables,) = database.execute("SELECT count(*) FROM sqlite_master").fetchone()
                if application_id == _APPLICATION_ID:
                    return
                if tables:
                    raise ValueError(not_ours)
                database.execute(f"PRAGMA application_id = {_APPLICATION_ID}")
                database.execute("CREATE TABLE counter (workspace TEXT PRIMARY KEY, last INTEGER NOT NULL)")
                database.execute(
                    "CREATE TABLE todo (number INTEGER PRIMARY KEY, key TEXT NOT NULL UNIQUE, record TEXT NOT NULL)",
                )
        except sqlite3.OperationalError as exc:
            raise OSError(f"cannot use the sandbox's data file {self._name}: {exc}") from exc
        except sqlite3.DatabaseError as exc:
            raise ValueError(not_ours) from exc

    @contextmanager
    def _transaction(self) -> Iterator[sqlite3.Connection]:
        # IMMEDIATE takes SQLite's write lock at once: two processes can never read the same counter.
        with self._lock:
            self._database.execute("BEGIN IMMEDIATE")
            try:
                yield self._database
            except BaseException:
                self._database.execute("ROLLBACK")
                raise
            self._database.execute("COMMIT")

    def create(self, todo: Mapping[str, Any], *, base_url: str) -> dict[str, Any]:
        """Keep a todo under a new key.

        :param todo: the checked body of the request.
        :param base_url: the address the client used; the todo's link begins with it.
        :return: the body with ``key``, ``taskLink``, ``tags``, ``createdAt``, and ``dueDate`` if its status is DONE.
        """
        created_at = self._clock().astimezone(UTC)
        workspace = get_workspace(todo)
        with self._transaction() as database:
            database.execute("INSERT OR IGNORE INTO counter VALUES (?, 0)", (workspace,))
            database.execute("UPDATE counter SET last = last + 1 WHERE workspace = ?", (workspace,))
            (last,) = database.execute(
                "SELECT last FROM counter WHERE workspace = ?", (workspace,)
            ).fetchone()
            key = f"{workspace}-{last:02d}"
            record = {
                **todo,
                "key": key,
                "taskLink": f"{base_url}/app/#/todo/{quote(key, safe='')}",
                "tags": make_tags(todo),
                "createdAt": created_at.isoformat(timespec="seconds"),
            }
            if todo["status"] == "DONE":
                record["dueDate"] = created_at.date().isoformat()
            database.execute("INSERT INTO todo (key, record) VALUES (?, ?)", (key, json.dumps(record)))
        return record

    def all(self) -> list[dict[str, Any]]:
        """Return every todo, in order of creation."""
        with self._lock:
            rows = self._database.execute("SELECT record FROM todo ORDER BY number").fetchall()
        return [json.loads(record) for (record,) in rows]

    def newest(self, limit: int) -> tuple[list[dict[str, Any]], int]:
        """Return the newest todos, newest first, and the number of all todos.

        :param limit: how many to return at most.
        """
        with self._lock:
            rows = self._database.execute(
                "SELECT record, (SELECT count(*) FROM todo) FROM todo ORDER BY number DESC LIMIT ?",
                (limit,),
            ).fetchall()
        return [json.loads(record) for record, _ in rows], rows[0][1] if rows else 0

    def get(self, key: str) -> dict[str, Any] | None:
        """Return the todo with this key, or None.

        :param key: such as ``EXA-CON-BUS-WOR-01``.
        """
        with self._lock:
            row = self._database.execute("SELECT record FROM todo WHERE key = ?", (key,)).fetchone()
        return None if row is None else json.loads(row[0])

    def clear(self) -> None:
        """Remove every todo; keys start at 01 again."""
        with self._transaction() as database:
            database.execute("DELETE FROM todo")
            database.execute("DELETE FROM counter")


class TokenStore:
    """Keep the access tokens that were issued.

    :param lifetime_s: seconds after which a token expires.
    :param clock: returns the current time.
    """

    def __init__(self, *, lifetime_s: float, clock: Callable[[], datetime] = utc_now) -> None:
        self._lifetime = timedelta(seconds=lifetime_s)
        self._clock = clock
        self._lock = threading.Lock()
        # In order of issue, which is the order of expiry.
        self._expiries: OrderedDict[str, datetime] = OrderedDict()

    def issue(self) -> dict[str, Any]:
        """Issue a token, and return the content of its response."""
        token = secrets.token_urlsafe(32)
        now = self._clock()
        with self._lock:
            while self._expiries and (len(self._expiries) >= MAX_TOKENS or self._get_first_expiry() <= now):
                self._expiries.popitem(last=False)
            self._expiries[token] = now + self._lifetime
        return {
            "access_token": token,
            "refresh_token": secrets.token_urlsafe(32),
            "token_type": "Bearer",
            "expires_in": int(self._lifetime.total_seconds()),
            "scope": "*",
            "jti": str(uuid.uuid4()),
        }

    def _get_first_expiry(self) -> datetime:
        return next(iter(self._expiries.values()))

    def is_live(self, token: str) -> bool:
        """Return whether a token was issued here, has not expired and was not revoked.

        :param token: the access token.
        """
        with self._lock:
            expiry = self._expiries.get(token)
        return expiry is not None and self._clock() < expiry

    def revoke_all(self) -> None:
        """Revoke every token that was issued."""
        with self._lock:
            self._expiries.clear()


@dataclass(frozen=True)
class RecordedRequest:
    """Hold one request that the sandbox received.

    It has no secret: the Authorization header, cookies and the form's password are redacted.
    """

    method: str
    path: str
    """Without the query."""
    headers: dict[str, str]
    """Names in lower case."""
    body: Any
    """The JSON, or the form as a dictionary; text if it was neither; None if there was none.

    A body over 64 KiB is recorded as text: its beginning and "… (truncated: the body has 70,000 bytes)".
    """
    status: int | None
    """The status of the response; None if the connection was reset instead."""
    fault: str | None
    """The fault that was injected, such as ``"503"`` or ``"reset_after"``."""

    def as_dict(self) -> dict[str, Any]:
        """Return the record as plain JSON."""
        return asdict(self)


class RequestLog:
    """Keep the newest requests, in order of their responses, bounded in number and in size."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        # As JSON: its length is known, and reading it makes copies.
        self._records: deque[str] = deque()
        self._length = 0

    def add(self, record: RecordedRequest) -> None:
        """Keep a request, and drop the oldest ones over ``MAX_REQUESTS`` or ``MAX_REQUESTS_LENGTH``.

        :param record: the request.
        """
        text = json.dumps(record.as_dict())
        with self._lock:
            self._records.append(text)
            self._length += len(text)
            while len(self._records) > MAX_REQUESTS or self._length > MAX_REQUESTS_LENGTH:
                self._length -= len(self._records.popleft())

    def all(self) -> list[RecordedRequest]:
        """Return copies of all the records, the oldest first."""
        with self._lock:
            records = list(self._records)
        return [RecordedRequest(**json.loads(text)) for text in records]

    def clear(self) -> None:
        """Remove all the records."""
        with self._lock:
            self._records.clear()
            self._length = 0


@dataclass(frozen=True)
class State:
    """Hold everything that the endpoints share."""

    todos: TodoStore
    tokens: TokenStore
    requests: RequestLog = field(default_factory=RequestLog)
    credentials: tuple[str, str] | None = None
    """The only username and password accepted; None accepts any."""

    def accepts(self, username: str, password: str) -> bool:
        """Return whether these credentials are accepted.

        :param username: from the form.
        :param password: from the form.
        """
        return self.credentials in (None, (username, password))
