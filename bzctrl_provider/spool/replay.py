"""One run over the spool."""

from __future__ import annotations

import logging
import math
from dataclasses import asdict, dataclass, field, replace
from typing import TYPE_CHECKING, Any

from bzctrl_provider.exceptions import BzCtrlAuthError, BzCtrlConfigError, BzCtrlTransportError
from bzctrl_provider.failure import exception_text
from bzctrl_provider.spool.entry import Entry
from bzctrl_provider.text import one_line

if TYPE_CHECKING:
    from collections.abc import Callable
    from datetime import datetime

    from bzctrl_provider.client.api import BzCtrlClient
    from bzctrl_provider.spool.store import Claim, Store

log = logging.getLogger(__name__)

_CALL_MAX_S = 1800.0
"""The most that creating one todo may take here, whatever the connection allows: well before its claim is abandoned."""

_FILE_CHARS = 2000
_CONN_ID_CHARS = 250


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


class Replay:
    """One run over the spool."""

    def __init__(
        self, store: Store, *, conn_id: str | None, limit: int | None, clock: Callable[[], datetime]
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
        """Try each file that waits, once."""
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
                entry = Entry.parse(content)
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

    def _attempt(self, claim: Claim, entry: Entry, client: BzCtrlClient, conn_id: str) -> None:
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

    def _put_back(self, claim: Claim, entry: Entry) -> None:
        reason = entry.reason
        try:
            self._store.release(claim, entry.as_bytes())
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
