"""The spool: what could not be raised is written to a file, and created later.

::

    [bzctrl]
    spool_path = s3://aws_default@my-bucket/bzctrl-spool

One todo is one JSON file ``20261121T191500123456Z-1f0c9a3e.json``, so that the names sort by age. A replay claims a file
before it creates the todo, and deletes it afterwards; ``docs/spool.md`` says what that promises.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import logging
import math
import os
import re
import secrets
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, replace
from datetime import UTC, date, datetime, timedelta
from decimal import Decimal
from enum import Enum
from functools import cached_property
from numbers import Number
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

from bzctrl_provider.exceptions import BzCtrlAuthError, BzCtrlConfigError, BzCtrlTransportError
from bzctrl_provider.failure import exception_text
from bzctrl_provider.untrusted import one_line, shown

if TYPE_CHECKING:
    from collections.abc import Callable

    from airflow.providers.common.compat.sdk import ObjectStoragePath

    from bzctrl_provider.client.api import BzCtrlClient

log = logging.getLogger(__name__)

_VERSION = 1

_ABANDONED_AFTER = timedelta(hours=1)
"""How long after it was made a claim is taken to be that of a replay that has crashed."""

_CALL_MAX_S = 1800.0
"""The most that creating one todo may take here, whatever the connection allows: well before its claim is abandoned."""

_FILE_CHARS = 2000
_CONN_ID_CHARS = 250

_STAMP = "%Y%m%dT%H%M%S%fZ"
_DIGITS_MAX = 400
"""As in a todo, which refuses longer numbers; Python writes no integer of more than 4,300 digits."""


@dataclass(frozen=True)
class ReplayResult:
    """What a replay did.

    :param created: for each todo that was created ``{"file": …, "key": …, "link": …}``, the oldest first.
    :param kept: for each file that is still there ``{"file": …, "reason": …}``, the oldest first. Files that another
        replay works on, or that are beyond the limit, are not among them.
    """

    created: list[dict[str, str | None]] = field(default_factory=list)
    kept: list[dict[str, str]] = field(default_factory=list)

    def as_dict(self) -> dict[str, Any]:
        """Return all of it as plain JSON, as it goes into an XCom."""
        return asdict(self)


def spool_path() -> ObjectStoragePath | None:
    """Return where the spool is, from ``[bzctrl] spool_path`` of Airflow's configuration.

    :return: for example ``ObjectStoragePath("file:///var/spool/bzctrl")``; None where the option is unset or blank.
    :raises ValueError: where it is no address that Airflow knows.
    """
    from airflow.providers.common.compat.sdk import ObjectStoragePath, conf

    address = (conf.get("bzctrl", "spool_path", fallback="") or "").strip()
    return ObjectStoragePath(address) if address else None


def spool_todo(
    fields: Mapping[str, Any],
    *,
    bzctrl_conn_id: str,
    reason: str,
    outcome_unknown: bool = False,
    now: datetime | None = None,
) -> str | None:
    """Write a todo into the spool, completely or not at all.

    :param fields: the fields of a todo, as users write them; unset ones are left out. What Airflow masks is masked.
    :param bzctrl_conn_id: the connection to create it with.
    :param reason: why it could not be created; of a longer text than 2,000 characters the beginning and the end.
    :param outcome_unknown: whether it may exist in BzCtrl all the same. Its description will say so then.
    :param now: the time of writing; default: the present.
    :return: the address of the file, such as ``file:///var/spool/bzctrl/20261121T191500123456Z-1f0c9a3e.json``; None
        where no spool is configured.
    :raises OSError: where it could not be written, whatever the reason.
    """
    from airflow.providers.common.compat.sdk import redact

    now = now or _utc_now()
    try:
        folder = spool_path()
        if folder is None:
            return None
        todo = {name: _plain(value) for name, value in fields.items()}
        # Once more as a whole: Airflow also masks what stands under the name of a secret.
        masked: Any = redact({name: value for name, value in todo.items() if _is_set(value)})
        entry = _Entry(
            written_at=_iso(now),
            bzctrl_conn_id=str(redact(bzctrl_conn_id)),
            reason=exception_text(str(reason)) or "",
            todo=masked,
            unanswered_at=(_iso(now),) if outcome_unknown else (),
        )
        store = _store_of(folder)
        name = f"{_stamp(now)}.json"
        store.write(name, entry.as_bytes())
    except Exception as exc:
        raise OSError(
            f"The todo could not be written into the spool of BzCtrl: {exception_text(exc)}"
        ) from exc
    return store.address(name)


def replay_spool(
    *,
    bzctrl_conn_id: str | None = None,
    path: ObjectStoragePath | Path | str | None = None,
    limit: int | None = None,
    clock: Callable[[], datetime] | None = None,
) -> ReplayResult:
    """Create what is in the spool, the oldest first, each todo once, and keep what still fails.

    A file is kept with the reason of the last attempt in it. Where the outcome of an attempt is unknown, the next one
    says so in the todo's description. Once a connection cannot be used, or BzCtrl refuses its credentials or cannot be
    reached, the other files of that connection are kept without an attempt.

    :param bzctrl_conn_id: the connection to create them with; default: that of each file.
    :param path: the spool; default: that of the configuration.
    :param limit: how many todos to try to create at the most, 1 or more; default: all.
    :param clock: tells the time, with its zone; default: the present.
    :return: what was created and what was kept, and why.
    :raises ValueError: where there is no spool, or the limit is less than 1.
    :raises OSError: where the spool cannot be listed.
    """
    from airflow.providers.common.compat.sdk import ObjectStoragePath

    if limit is not None and limit < 1:
        raise ValueError(f"limit must be 1 or more, not {limit}")
    folder = ObjectStoragePath(str(path)) if path is not None else spool_path()
    if folder is None:
        raise ValueError(
            "There is no spool to replay: set spool_path in the section [bzctrl], or give a path."
        )
    return _Replay(_store_of(folder), conn_id=bzctrl_conn_id, limit=limit, clock=clock or _utc_now).run()


@dataclass(frozen=True, kw_only=True)
class _Entry:
    """What a file says.

    ``unanswered_at`` has the times of all attempts whose outcome is unknown: one that certainly failed afterwards does
    not tell what became of them.
    """

    written_at: str
    bzctrl_conn_id: str
    reason: str
    todo: dict[str, Any]
    unanswered_at: tuple[str, ...] = ()

    @classmethod
    def of(cls, content: bytes) -> _Entry:
        """Read a file's content.

        :raises ValueError: where it is not what this version writes.
        """
        try:
            data = json.loads(content)
        except (ValueError, RecursionError) as exc:
            raise ValueError(f"it is no JSON: {exc}") from None
        if not isinstance(data, dict) or data.get("version") != _VERSION:
            raise ValueError(f"it is no todo in version {_VERSION} of the spool's format")
        kinds = {
            "written_at": str,
            "bzctrl_conn_id": str,
            "reason": str,
            "outcome_unknown": bool,
            "todo": dict,
        }
        wrong = [name for name, kind in kinds.items() if not isinstance(data.get(name), kind)]
        unanswered_at = data.get("unanswered_at", [])
        if not isinstance(unanswered_at, list) or not all(isinstance(time, str) for time in unanswered_at):
            wrong.append("unanswered_at")
        if wrong:
            raise ValueError(f"it is incomplete or damaged at {', '.join(wrong)}")
        if data["outcome_unknown"] and not unanswered_at:
            unanswered_at = [data["written_at"]]
        return cls(
            written_at=data["written_at"],
            bzctrl_conn_id=data["bzctrl_conn_id"],
            reason=data["reason"],
            todo=data["todo"],
            unanswered_at=tuple(unanswered_at),
        )

    def as_bytes(self) -> bytes:
        """Write the file's content, readable for people."""
        data = {
            "version": _VERSION,
            "written_at": self.written_at,
            "bzctrl_conn_id": self.bzctrl_conn_id,
            "reason": self.reason,
            "outcome_unknown": bool(self.unanswered_at),
            **({"unanswered_at": self.unanswered_at} if self.unanswered_at else {}),
            "todo": self.todo,
        }
        text = json.dumps(data, ensure_ascii=False, indent=2)
        # UTF-8 holds no half of a surrogate pair, but its escape is the one of JSON.
        return f"{text}\n".encode(errors="backslashreplace")

    def unanswered(self, time: datetime) -> _Entry:
        """Return the same after an attempt whose outcome is unknown."""
        return replace(self, unanswered_at=(*self.unanswered_at, _iso(time)))

    def message(self) -> dict[str, Any]:
        """Return the fields to create, with a last line that tells of attempts whose outcome is unknown."""
        description = self.todo.get("description")
        # A description of another kind is a fault, which the client tells.
        if not self.unanswered_at or not isinstance(description, str | int | float):
            return self.todo
        attempts = "An attempt" if len(self.unanswered_at) == 1 else "Attempts"
        note = f"{attempts} at {', '.join(self.unanswered_at)} had no answer, so this may be a duplicate."
        return self.todo | {"description": f"{description}\n\n{note}"}


@dataclass(frozen=True, kw_only=True)
class _Claim:
    """The right to create a file's todo, which one replay has at a time.

    :param name: the file's name while nobody claims it.
    :param marks: the names of the files that are the claim.
    :param claimed_at: when.
    :param abandoned_at: when a replay that has crashed since had claimed it; None where there was none.
    """

    name: str
    marks: tuple[str, ...]
    claimed_at: datetime
    abandoned_at: datetime | None = None


class _Store(Protocol):
    """Where the files are."""

    def address(self, name: str) -> str:
        """Return the whole address of a file."""

    def write(self, name: str, content: bytes) -> None:
        """Write a file completely or not at all."""

    def waiting(self, now: datetime) -> list[str]:
        """Return the names of the files to create, the oldest first."""

    def read(self, name: str) -> bytes:
        """Return a file's content, or raise FileNotFoundError."""

    def claim(self, name: str, content: bytes, now: datetime) -> _Claim | None:
        """Claim a file that was just read; None where another replay has it, or has had it meanwhile."""

    def put_back(self, claim: _Claim, content: bytes) -> None:
        """Give a claimed file a new content, and end the claim. A crash in between loses nothing."""

    def remove(self, claim: _Claim) -> None:
        """Delete a claimed file, and the claim."""


def _store_of(folder: ObjectStoragePath) -> _Store:
    return _Folder(folder) if folder.protocol in {"", "file", "local"} else _Bucket(folder)


class _Folder:
    """A local folder. A file is claimed by renaming it, at which one replay alone succeeds."""

    _NAME = re.compile(r"(?P<name>[^.].*\.json)(\.(?P<stamp>\d{8}T\d{12}Z)-[0-9a-f]{8}\.claimed)?", re.DOTALL)

    def __init__(self, root: ObjectStoragePath) -> None:
        self._root = root
        self._folder = Path(root.path)

    def address(self, name: str) -> str:
        return str(self._root / name)

    def write(self, name: str, content: bytes) -> None:
        self._folder.mkdir(parents=True, exist_ok=True)
        # Hidden, and under a name that no replay looks at, until it is on the disk as a whole.
        unfinished = self._folder / f".{name}.{secrets.token_hex(4)}.tmp"
        try:
            with unfinished.open("xb") as file:
                file.write(content)
                file.flush()
                os.fsync(file.fileno())
            unfinished.replace(self._folder / name)
        except BaseException:
            unfinished.unlink(missing_ok=True)
            raise
        self._keep_names()

    def _keep_names(self) -> None:
        # Some network file systems cannot do this for a folder, and do not need it.
        with contextlib.suppress(OSError):
            descriptor = os.open(self._folder, os.O_RDONLY)
            try:
                os.fsync(descriptor)
            finally:
                os.close(descriptor)

    def waiting(self, now: datetime) -> list[str]:
        try:
            names = [path.name for path in self._folder.iterdir()]
        except FileNotFoundError:
            return []
        found = []
        for match in filter(None, map(self._NAME.fullmatch, names)):
            claimed_at = _time_of(match["stamp"])
            if claimed_at is None or now - claimed_at > _ABANDONED_AFTER:
                found.append((match["name"], match[0]))
        return [name for _, name in sorted(found)]

    def read(self, name: str) -> bytes:
        return (self._folder / name).read_bytes()

    def claim(self, name: str, content: bytes, now: datetime) -> _Claim | None:
        match = self._NAME.fullmatch(name)
        original, stamp = (match["name"], match["stamp"]) if match else (name, None)
        mark = f"{original}.{_stamp(now)}.claimed"
        try:
            (self._folder / name).rename(self._folder / mark)
        except FileNotFoundError:
            return None
        if self.read(mark) != content:
            (self._folder / mark).rename(self._folder / original)
            return None
        return _Claim(name=original, marks=(mark,), claimed_at=now, abandoned_at=_time_of(stamp))

    def put_back(self, claim: _Claim, content: bytes) -> None:
        (mark,) = claim.marks
        # Raises where another replay has taken the claim up, which has the file now.
        (self._folder / mark).stat()
        self.write(mark, content)
        (self._folder / mark).rename(self._folder / claim.name)
        self._keep_names()

    def remove(self, claim: _Claim) -> None:
        (mark,) = claim.marks
        (self._folder / mark).unlink()
        self._keep_names()


class _Bucket:
    """An object store, which has no rename. A file is claimed by an object beside it that can be created once only.

    The claim's name comes from the file's content, so that a replay that read the file before another one changed it
    cannot claim it any more. An abandoned claim is taken up by the next object in a row:
    ``NAME.json.<hash>-0.claim``, ``NAME.json.<hash>-1.claim``.
    """

    def __init__(self, root: ObjectStoragePath) -> None:
        self._root = root
        self._fs = root.fs
        self._prefix = root.path.rstrip("/")

    def address(self, name: str) -> str:
        return str(self._root / name)

    def _at(self, name: str) -> str:
        return f"{self._prefix}/{name}"

    def write(self, name: str, content: bytes) -> None:
        self._fs.pipe_file(self._at(name), content)

    def waiting(self, now: datetime) -> list[str]:
        self._fs.invalidate_cache()
        try:
            names = {path.rpartition("/")[2] for path in self._fs.ls(self._prefix, detail=False)}
        except FileNotFoundError:
            return []
        files = {name for name in names if name.endswith(".json") and not name.startswith(".")}
        for mark in names - files:
            # Of a replay that has crashed after it had deleted the file.
            if mark.endswith(".claim") and mark.rpartition(".json.")[0] + ".json" not in files:
                with contextlib.suppress(Exception):  # it can wait, and the files cannot
                    claimed_at = self._claimed_at(mark)
                    if claimed_at and now - claimed_at > _ABANDONED_AFTER:
                        self._end((mark,))
        return sorted(files)

    def read(self, name: str) -> bytes:
        content: bytes = self._fs.cat_file(self._at(name))
        return content

    def claim(self, name: str, content: bytes, now: datetime) -> _Claim | None:
        row = f"{name}.{hashlib.sha256(content).hexdigest()[:16]}"
        abandoned: list[str] = []
        abandoned_at = None
        while not self._mark(mark := f"{row}-{len(abandoned)}.claim", now):
            claimed_at = self._claimed_at(mark)
            if claimed_at is None or now - claimed_at <= _ABANDONED_AFTER:
                return None
            abandoned.append(mark)
            abandoned_at = claimed_at
        claim = _Claim(name=name, marks=(*abandoned, mark), claimed_at=now, abandoned_at=abandoned_at)
        try:
            unchanged = self.read(name) == content
        except FileNotFoundError:
            unchanged = False
        if not unchanged:
            self._end((mark,))
        return claim if unchanged else None

    def put_back(self, claim: _Claim, content: bytes) -> None:
        self.write(claim.name, content)
        self._end(claim.marks)

    def remove(self, claim: _Claim) -> None:
        self._fs.rm(self._at(claim.name))
        self._end(claim.marks)

    def _mark(self, mark: str, now: datetime) -> bool:
        """Create the object that is a claim, and tell whether that was possible."""
        content = json.dumps({"claimed_at": now.astimezone(UTC).strftime(_STAMP)}).encode()
        if not self._is_exclusive and self._fs.exists(self._at(mark)):
            return False
        try:
            self._fs.pipe_file(self._at(mark), content, **({"mode": "create"} if self._is_exclusive else {}))
        except FileExistsError:
            return False
        return True

    @cached_property
    def _is_exclusive(self) -> bool:
        """Whether the store creates an object only where there is none: told by its library, and seen in a trial.

        The trial alone does not tell: what fsspec does for libraries without it is to look first and to write then.
        """
        from fsspec import AbstractFileSystem  # type: ignore[import-untyped]

        own = getattr(self._fs.pipe_file, "__func__", None) is not AbstractFileSystem.pipe_file
        exclusive = own and self._passes_trial()
        if not exclusive:
            log.warning("%s cannot keep two replays apart: let only one run at a time.", self._root)
        return exclusive

    def _passes_trial(self) -> bool:
        trial = self._at(f".{secrets.token_hex(8)}.trial")
        try:
            try:
                self._fs.pipe_file(trial, b"trial", mode="create")
            except Exception:  # noqa: BLE001 - each library has its own error for what it cannot do
                # Where this fails as well, it was not the library: the store cannot be reached or written.
                self._fs.pipe_file(trial, b"trial")
                return False
            try:
                self._fs.pipe_file(trial, b"trial", mode="create")
            except FileExistsError:
                return True
            except Exception:  # noqa: BLE001 - refused, but in words that the library does not understand
                return False
            return False
        finally:
            with contextlib.suppress(Exception):
                self._fs.rm(trial)

    def _claimed_at(self, mark: str) -> datetime | None:
        """Return when a claim was made; None where it has ended since."""
        try:
            content = self.read(mark)
        except FileNotFoundError:
            return None
        try:
            return datetime.strptime(json.loads(content)["claimed_at"], _STAMP).replace(tzinfo=UTC)
        except (ValueError, TypeError, KeyError):
            raise ValueError(f"its claim {self.address(mark)} is damaged: delete that") from None

    def _end(self, marks: tuple[str, ...]) -> None:
        for mark in marks:
            # One that is left holds nothing up: it belongs to a content that the file no longer has.
            with contextlib.suppress(Exception):
                self._fs.rm(self._at(mark))


class _Replay:
    """One run over the spool."""

    def __init__(
        self, store: _Store, *, conn_id: str | None, limit: int | None, clock: Callable[[], datetime]
    ) -> None:
        self._store = store
        self._conn_id = conn_id
        self._limit = math.inf if limit is None else limit
        self._clock = clock
        self._clients: dict[str, BzCtrlClient] = {}
        self._stopped: dict[str, str] = {}
        self._tried = 0
        self._result = ReplayResult()

    def run(self) -> ReplayResult:
        try:
            names = self._store.waiting(self._clock())
        except Exception as exc:
            spool = self._store.address("")
            raise OSError(f"The spool {spool} could not be listed: {exception_text(exc)}") from exc
        try:
            for name in names:
                if self._tried >= self._limit:
                    break
                self._replay(name)
        finally:
            for client in self._clients.values():
                client.close()
        return self._result

    def _replay(self, name: str) -> None:
        try:
            content = self._store.read(name)
            try:
                entry = _Entry.of(content)
            except ValueError as exc:
                self._keep(name, f"The file is not used: {exc}.")
                return
            conn_id = self._conn_id or entry.bzctrl_conn_id
            client = self._client(conn_id)
            if client is None:
                self._keep(name, f"Not tried. {self._stopped[conn_id]}")
                return
            claim = self._store.claim(name, content, self._clock())
        except FileNotFoundError:  # another replay was quicker
            return
        except Exception as exc:  # noqa: BLE001 - one file that cannot be had does not keep the others back
            self._keep(name, f"The file could not be read or claimed: {exception_text(exc)}")
            return
        if claim:
            self._tried += 1
            self._attempt(claim, entry, client, conn_id)

    def _client(self, conn_id: str) -> BzCtrlClient | None:
        """Return the client of a connection; None where it cannot be used."""
        if conn_id in self._stopped:
            return None
        if conn_id not in self._clients:
            from bzctrl_provider.hooks.bzctrl import BzCtrlHook

            try:
                client = BzCtrlHook(conn_id).get_conn()
            except Exception as exc:  # noqa: BLE001 - a connection that is missing is Airflow's error, not ours
                self._stop(conn_id, exc)
                return None
            client.total_s = min(client.total_s, _CALL_MAX_S)
            self._clients[conn_id] = client
        return self._clients[conn_id]

    def _stop(self, conn_id: str, exc: Exception) -> None:
        self._stopped[conn_id] = (
            f"The connection {one_line(conn_id, max_chars=_CONN_ID_CHARS)} cannot be used at present: {exception_text(exc)}"
        )

    def _attempt(self, claim: _Claim, entry: _Entry, client: BzCtrlClient, conn_id: str) -> None:
        if claim.abandoned_at:
            entry = entry.unanswered(claim.abandoned_at)
        try:
            created = client.create_todo(entry.message())
        except Exception as exc:  # noqa: BLE001 - whatever it is, the todo must not be lost
            unknown = getattr(exc, "outcome_unknown", True)
            if _stops(exc):
                self._stop(conn_id, exc)
            reason = exception_text(exc) or ""
            entry = replace(entry, reason=reason)
            self._put_back(claim, entry.unanswered(claim.claimed_at) if unknown else entry)
            return
        self._result.created.append(
            {"file": self._store.address(claim.name), "key": created.key, "link": created.link}
        )
        try:
            self._store.remove(claim)
        except Exception as exc:  # noqa: BLE001 - see below
            self._keep(
                claim.name,
                f"{created.key} was created, but the file could not be deleted: {exception_text(exc)}. Delete it, or it "
                "will be created once more.",
            )

    def _put_back(self, claim: _Claim, entry: _Entry) -> None:
        reason = entry.reason
        try:
            self._store.put_back(claim, entry.as_bytes())
        except Exception as exc:  # noqa: BLE001 - the claim stays, and will be taken up as abandoned
            reason += f"\nThat could not be written into the file: {exception_text(exc)}"
        self._keep(claim.name, reason)

    def _keep(self, name: str, reason: str) -> None:
        file = self._store.address(name)
        log.warning("%s stays in the spool. %s", one_line(file, max_chars=_FILE_CHARS), reason)
        self._result.kept.append({"file": file, "reason": reason})


def _stops(exc: Exception) -> bool:
    """Tell whether the other files of the connection would fare the same: an account is easily locked."""
    if isinstance(exc, BzCtrlTransportError):
        return not exc.outcome_unknown
    return isinstance(exc, BzCtrlAuthError | BzCtrlConfigError)


def _plain(value: Any) -> Any:
    """Return a value as plain JSON, with what Airflow masks masked."""
    from airflow.providers.common.compat.sdk import redact

    if isinstance(value, Enum):
        return _plain(value.value)
    if value is None or isinstance(value, bool):
        return value
    if isinstance(value, Mapping):
        return {str(key): _plain(of_key) for key, of_key in value.items()}
    if isinstance(value, list | tuple | set | frozenset):
        return [_plain(one) for one in value]
    text = _text(value)
    masked = str(redact(text))
    is_number = isinstance(value, int | float) and abs(value) < 10**_DIGITS_MAX
    return value if is_number and masked == text else masked


def _text(value: Any) -> str:
    if isinstance(value, date):
        return value.isoformat()
    if isinstance(value, int) and abs(value) >= 10**_DIGITS_MAX:
        return hex(value)
    if isinstance(value, Decimal) and value.is_finite() and abs(value.adjusted()) <= _DIGITS_MAX:
        return f"{value:f}"  # without the exponent, as a todo writes it
    # No object's own text: it may hold a secret, and a todo takes none anyway.
    return str(value) if isinstance(value, str | Number) else shown(value)


def _is_set(value: Any) -> bool:
    return bool(value.strip()) if isinstance(value, str) else value is not None and value != []


def _utc_now() -> datetime:
    return datetime.now(UTC)


def _iso(time: datetime) -> str:
    return time.astimezone(UTC).strftime("%Y-%m-%dT%H:%M:%SZ")


def _stamp(time: datetime) -> str:
    """Return a time as a part of a name that sorts by it and that nobody else uses."""
    return f"{time.astimezone(UTC).strftime(_STAMP)}-{secrets.token_hex(4)}"


def _time_of(stamp: str | None) -> datetime | None:
    """Return the time that a claim's name tells; None without one, or with one that is no time."""
    try:
        return datetime.strptime(stamp or "", _STAMP).replace(tzinfo=UTC)
    except ValueError:
        return None
