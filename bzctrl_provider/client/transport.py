"""How a request travels: requests' adapter on connections that read an answer whole, bounded in time and size.

A read timeout of requests bounds the silence between two packets, so a server that drips one byte at a time
holds a task for ever, and an answer's size is bounded by nothing. Here one attempt has its time as a whole, and
at most ``ANSWER_MAX_BYTES`` are kept of an answer. It is read before urllib3 decides on a retry, so that half an
answer counts as none.
"""

from __future__ import annotations

import http.client
import io
import socket
import ssl
import time
from typing import TYPE_CHECKING, Any, cast

from requests.adapters import HTTPAdapter
from urllib3 import HTTPConnectionPool, HTTPResponse, HTTPSConnectionPool
from urllib3.connection import HTTPConnection, HTTPSConnection
from urllib3.exceptions import ConnectTimeoutError, DecodeError, NewConnectionError
from urllib3.util.connection import allowed_gai_family

from bzctrl_provider.client.retry import remaining_s

if TYPE_CHECKING:
    from collections.abc import Generator, Mapping
    from typing import Self

    from requests import PreparedRequest
    from urllib3.connectionpool import ConnectionPool
    from urllib3.poolmanager import PoolManager, ProxyManager

    from bzctrl_provider.client.retry import BzCtrlRetry

    _Connection = HTTPConnection
else:
    _Connection = object

ANSWER_MAX_BYTES = 1024 * 1024

_CHUNK_BYTES = 8192
"""Small, because a compressed chunk can grow a thousandfold when it is unpacked."""


class _DeadlineReader(io.RawIOBase):
    """Reads a socket until a point in time, however often something arrives."""

    def __init__(self, sock: socket.socket, raw: io.RawIOBase, ends_at: float) -> None:
        self._sock = sock
        self._raw = raw
        self._ends_at = ends_at

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any, /) -> int | None:
        left = self._ends_at - time.monotonic()
        if left <= 0:
            raise TimeoutError("the answer did not end in time")
        self._sock.settimeout(left)
        try:
            return cast("int | None", self._raw.readinto(buffer))
        except ssl.SSLError as exc:
            # Else it would look like a certificate that was refused before anything was sent.
            raise ConnectionAbortedError(f"the encrypted connection broke: {exc}") from exc

    def close(self) -> None:
        self._raw.close()
        super().close()


class _WholeLines(io.BufferedReader):
    """Tells a line that was cut off from one that ended; http.client takes both for the last header."""

    within_head = True

    def readline(self, size: int | None = -1, /) -> bytes:
        line = super().readline(size)
        if self.within_head and not line.endswith(b"\n") and len(line) != size:
            raise ConnectionAbortedError("the connection ended before the answer's headers did")
        return line


class _DeadlineResponse(http.client.HTTPResponse):
    """An answer that ends within the timeout that its socket has at its beginning."""

    def __init__(self, sock: socket.socket, *args: Any, **kwargs: Any) -> None:
        super().__init__(sock, *args, **kwargs)
        ends_at = time.monotonic() + min(sock.gettimeout() or float("inf"), remaining_s())
        self._lines = _WholeLines(_DeadlineReader(sock, self.fp.detach(), ends_at))
        self.fp = self._lines

    def _read_status(self) -> tuple[str, int, str]:
        version, status, reason = super()._read_status()  # type: ignore[misc]  # the stubs lack it
        # http.client skips 100 Continue alone, and would take 103 Early Hints for the answer.
        return version, http.HTTPStatus.CONTINUE if status < http.HTTPStatus.OK else status, reason

    def begin(self) -> None:
        super().begin()
        self._lines.within_head = False


class _KeptAnswer(HTTPResponse):
    """An answer that is here already, so that nothing is left to be read from its connection."""

    def stream(self, *_: Any, **__: Any) -> Generator[bytes]:
        """Hand the connection back and the answer out."""
        self.release_conn()
        if self.data:
            yield self.data

    def drain_conn(self) -> None:
        """Hand the connection back, before the request is sent again."""
        self.release_conn()


class _WholeAnswers(_Connection):
    """What is the same for both kinds of connection."""

    response_class = _DeadlineResponse
    _held: bytearray | None = None

    def connect(self) -> None:
        left = remaining_s()
        if left <= 0:
            raise ConnectTimeoutError(self, "the time for this call is used up")
        if left < (self.timeout or float("inf")):
            self.timeout = left
        try:
            super().connect()
        except ssl.SSLCertVerificationError:
            raise
        except (OSError, http.client.HTTPException) as exc:
            # Nothing of the request was sent yet. urllib3 would count a broken handshake, or a proxy that
            # refuses, among the errors that may come after sending.
            raise NewConnectionError(self, f"Failed to establish a new connection: {exc}") from exc

    def _new_conn(self) -> socket.socket:
        # urllib3 would give each address of a name the whole time, and Airflow would end a callback that waits for four.
        whole = self.timeout
        if whole:
            self.timeout = whole / _count_addresses(self.host, self.port)
        try:
            sock = super()._new_conn()
        finally:
            self.timeout = whole
        sock.settimeout(whole)
        return sock

    def request(self, *args: Any, **kwargs: Any) -> None:
        # In one piece, so one system call and one packet: urllib3 would send the head by itself, and then the body.
        self._held = bytearray()
        try:
            super().request(*args, **kwargs)
            request = bytes(self._held)
        finally:
            self._held = None
        self.send(request)

    def send(self, data: Any) -> None:
        if self._held is None:
            super().send(data)
        else:
            self._held += data

    def getresponse(self) -> HTTPResponse:  # type: ignore[override]  # urllib3 replaces http.client's type, too
        answer = super().getresponse()
        body = bytearray()
        is_packed = "Content-Encoding" in answer.headers
        try:
            while len(body) <= ANSWER_MAX_BYTES and (chunk := answer.read(_CHUNK_BYTES, decode_content=True)):
                body += chunk
                if answer.length_remaining == 0 and not is_packed:
                    break
        except DecodeError:  # compressed and broken: the status still counts, the body is unusable
            body.clear()
            self.close()
        if len(body) > ANSWER_MAX_BYTES:
            self.close()
        return _KeptAnswer(
            body=bytes(body),
            headers=answer.headers,
            status=answer.status,
            reason=answer.reason,
            version=answer.version,
            preload_content=False,
            enforce_content_length=False,  # what was kept may be less, or unpacked
        )


class BzCtrlHTTPConnection(_WholeAnswers, HTTPConnection):
    """In clear text."""


class BzCtrlHTTPSConnection(_WholeAnswers, HTTPSConnection):
    """Encrypted."""


class _HTTPPool(HTTPConnectionPool):
    ConnectionCls = BzCtrlHTTPConnection


class _HTTPSPool(HTTPSConnectionPool):
    ConnectionCls = BzCtrlHTTPSConnection


_POOLS = {"http": _HTTPPool, "https": _HTTPSPool}


class BzCtrlAdapter(HTTPAdapter):
    """Requests' adapter with these connections and one of the two retry policies.

    :param retry: the policy.
    :param connections: how many connections are kept open at the most.
    """

    def __init__(self, *, retry: BzCtrlRetry, connections: int) -> None:
        super().__init__(max_retries=retry, pool_connections=2, pool_maxsize=connections)
        self._pools: dict[tuple[Any, ...], ConnectionPool] = {}

    def sharing(self, retry: BzCtrlRetry) -> Self:
        """Return an adapter of another policy that uses the same connections."""
        other = type(self)(retry=retry, connections=1)
        other.poolmanager = self.poolmanager
        other.proxy_manager = self.proxy_manager
        return other

    def get_connection_with_tls_context(
        self,
        request: PreparedRequest,
        verify: Any,
        proxies: Mapping[str, str] | None = None,
        cert: Any = None,
    ) -> ConnectionPool:
        """Find the pool of an address once: requests would work out for each request what it depends on."""
        key = (request.url, verify, cert, *(proxies or {}).items())
        pool = self._pools.get(key)
        if pool is None:
            pool = super().get_connection_with_tls_context(request, verify, proxies, cert)
            self._pools[key] = pool
        return pool

    def close(self) -> None:
        """Close the connections."""
        super().close()
        self._pools.clear()

    def init_poolmanager(self, *args: Any, **kwargs: Any) -> None:
        """Make the pools of direct connections."""
        super().init_poolmanager(*args, **kwargs)
        _use_our_pools(self.poolmanager)

    def proxy_manager_for(self, proxy: str, **proxy_kwargs: Any) -> ProxyManager:
        """Make the pools of connections through a proxy."""
        manager = cast("ProxyManager", super().proxy_manager_for(proxy, **proxy_kwargs))
        if not proxy.lower().startswith("socks"):  # those have connections of their own kind
            _use_our_pools(manager)
        return manager


def _count_addresses(host: str, port: int) -> int:
    try:
        return len(socket.getaddrinfo(host.strip("[]"), port, allowed_gai_family(), socket.SOCK_STREAM)) or 1
    except (OSError, UnicodeError):  # urllib3 looks it up as well, and says what is wrong
        return 1


def _use_our_pools(manager: PoolManager) -> None:
    manager.pool_classes_by_scheme = _POOLS
