"""What the sandbox remembers: todos, tokens, and the requests it received. Every member may be used from any thread."""

from __future__ import annotations

import json
import secrets
import sqlite3
import threading
import uuid
from collections import deque
from contextlib import contextmanager
from copy import deepcopy
from dataclasses import asdict, dataclass, field
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any, Final
from urllib.parse import quote

from bzctrl_provider.sandbox.contract import tags_of, workspace_of

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping
    from pathlib import Path

MAX_REQUESTS: Final = 10_000
"""How many requests are remembered; the oldest go first, so that a sandbox left running does not grow for ever."""

_BUSY_TIMEOUT_S: Final = 5.0
# SQLite keeps a number for programs to know their own files by; this one spells "BzCt".
_APPLICATION_ID: Final = int.from_bytes(b"BzCt")


def utc_now() -> datetime:
    """Return this moment, in UTC."""
    return datetime.now(UTC)


class TodoStore:
    """The todos, in memory or in an SQLite file that several sandboxes may share.

    It can be used between `open` and `close`.

    :param data: the file, made where there is none; None keeps the todos in memory.
    :param clock: what tells the time of creation.
    """

    def __init__(self, data: str | Path | None = None, *, clock: Callable[[], datetime] = utc_now) -> None:
        self._clock = clock
        self._lock = threading.Lock()
        self._name = ":memory:" if data is None else str(data)
        self._opened: sqlite3.Connection | None = None

    def open(self) -> None:
        """Open the file, or begin with an empty memory.

        :raises OSError: where the file cannot be opened.
        :raises ValueError: where the file is something other than a sandbox's data file; it is left as it was.
        """
        try:
            # `isolation_level=None`: transactions begin where we say, not where Python guesses.
            self._opened = sqlite3.connect(
                self._name,
                timeout=_BUSY_TIMEOUT_S,
                isolation_level=None,
                check_same_thread=False,
            )
        except sqlite3.Error as exc:
            msg = f"cannot open the sandbox's data file {self._name}: {exc}"
            raise OSError(msg) from exc
        try:
            self._prepare()
        except BaseException:
            self.close()
            raise

    def close(self) -> None:
        """Close the file; todos in memory are gone with this. A second call does nothing."""
        with self._lock:
            if self._opened is not None:
                self._opened.close()
            self._opened = None

    @property
    def _database(self) -> sqlite3.Connection:
        if self._opened is None:
            msg = "the sandbox is not running: its todos can be read between start() and stop(), or inside `with`"
            raise RuntimeError(msg)
        return self._opened

    def _prepare(self) -> None:
        msg = f"{self._name} is not a data file of the sandbox; name another file, or one that does not exist yet"
        try:
            with self._transaction() as database:
                (application_id,) = database.execute("PRAGMA application_id").fetchone()
                (tables,) = database.execute("SELECT count(*) FROM sqlite_master").fetchone()
                if application_id == _APPLICATION_ID:
                    return
                if tables:
                    raise ValueError(msg)
                database.execute(f"PRAGMA application_id = {_APPLICATION_ID}")
                database.execute("CREATE TABLE counter (workspace TEXT PRIMARY KEY, last INTEGER NOT NULL)")
                database.execute(
                    "CREATE TABLE todo (number INTEGER PRIMARY KEY, key TEXT NOT NULL UNIQUE, record TEXT NOT NULL)",
                )
        except sqlite3.OperationalError as exc:
            problem = f"cannot use the sandbox's data file {self._name}: {exc}"
            raise OSError(problem) from exc
        except sqlite3.DatabaseError as exc:
            raise ValueError(msg) from exc

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
        """Keep a todo and give it its key.

        :param todo: the checked body of the request.
        :param base_url: the address the client used; the todo's link begins with it.
        :return: the body with `key`, `taskLink`, `tags`, `createdAt`, and `dueDate` where it is done already.
        """
        created_at = self._clock().astimezone(UTC)
        workspace = workspace_of(todo)
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
                "tags": tags_of(todo),
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
        """Return the newest todos, newest first, and how many there are in all.

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

        :param key: such as `EXA-CON-BUS-WOR-01`.
        """
        with self._lock:
            row = self._database.execute("SELECT record FROM todo WHERE key = ?", (key,)).fetchone()
        return None if row is None else json.loads(row[0])

    def clear(self) -> None:
        """Forget every todo and begin to count anew."""
        with self._transaction() as database:
            database.execute("DELETE FROM todo")
            database.execute("DELETE FROM counter")


class TokenStore:
    """The access tokens that were given out.

    :param lifetime_s: seconds a token lives.
    :param clock: what tells the time.
    """

    def __init__(self, *, lifetime_s: float, clock: Callable[[], datetime] = utc_now) -> None:
        self._lifetime = timedelta(seconds=lifetime_s)
        self._clock = clock
        self._lock = threading.Lock()
        self._expiries: dict[str, datetime] = {}

    def issue(self) -> dict[str, Any]:
        """Make a token, and return the answer that carries it."""
        token = secrets.token_urlsafe(32)
        now = self._clock()
        with self._lock:
            self._expiries = {known: expiry for known, expiry in self._expiries.items() if expiry > now}
            self._expiries[token] = now + self._lifetime
        return {
            "access_token": token,
            "refresh_token": secrets.token_urlsafe(32),
            "token_type": "Bearer",
            "expires_in": int(self._lifetime.total_seconds()),
            "scope": "*",
            "jti": str(uuid.uuid4()),
        }

    def is_live(self, token: str) -> bool:
        """Say whether a token was given out here, has not expired and was not revoked.

        :param token: the access token.
        """
        with self._lock:
            expiry = self._expiries.get(token)
        return expiry is not None and self._clock() < expiry

    def revoke_all(self) -> None:
        """Make every token that was given out so far worthless."""
        with self._lock:
            self._expiries.clear()


@dataclass(frozen=True)
class RecordedRequest:
    """One request the sandbox received.

    Nothing in it lets anybody in: the Authorization header, cookies and the form's password are blotted out.
    """

    method: str
    path: str
    """Without the query."""
    headers: dict[str, str]
    """Names in lower case."""
    body: Any
    """The JSON, or the form as a dictionary; text where it was neither; None where there was none."""
    status: int | None
    """The status that was answered; None where the connection was reset instead."""
    fault: str | None
    """The fault that was asked for and played on this request, such as `"503"` or `"reset_after"`."""

    def as_dict(self) -> dict[str, Any]:
        """Return the record as plain JSON."""
        return asdict(self)


class RequestLog:
    """The newest `MAX_REQUESTS` requests, in order of arrival at an answer."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._records: deque[RecordedRequest] = deque(maxlen=MAX_REQUESTS)

    def add(self, record: RecordedRequest) -> None:
        """Remember a request.

        :param record: what is to be remembered.
        """
        with self._lock:
            self._records.append(record)

    def all(self) -> list[RecordedRequest]:
        """Return copies of all the records, the oldest first."""
        with self._lock:
            return deepcopy(list(self._records))

    def clear(self) -> None:
        """Forget them all."""
        with self._lock:
            self._records.clear()


@dataclass(frozen=True)
class State:
    """Everything the endpoints share."""

    todos: TodoStore
    tokens: TokenStore
    requests: RequestLog = field(default_factory=RequestLog)
    credentials: tuple[str, str] | None = None
    """The only username and password accepted; None accepts any."""

    def accepts(self, username: str, password: str) -> bool:
        """Say whether these credentials are let in.

        :param username: from the form.
        :param password: from the form.
        """
        return self.credentials in (None, (username, password))
