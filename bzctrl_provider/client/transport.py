"""Send requests over connections that read a response whole, bounded in time and size.

A read timeout of requests bounds the silence between two packets, so a server that drips one byte at a time holds a
task for ever, and nothing bounds the size of a response. Here one attempt has its time as a whole, and at most
``RESPONSE_MAX_BYTES`` of a response are kept. Half a response is an error, not a shorter one.
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
from urllib3.exceptions import ConnectTimeoutError, NameResolutionError, NewConnectionError, SSLError

from bzctrl_provider.client.sockets import open_socket

if TYPE_CHECKING:
    from collections.abc import Generator, Mapping

    from requests import PreparedRequest
    from urllib3.connectionpool import ConnectionPool
    from urllib3.poolmanager import PoolManager, ProxyManager

    _Connection = HTTPConnection
else:
    _Connection = object

RESPONSE_MAX_BYTES = 1024 * 1024

_CHUNK_BYTES = 65_536


class UntrustedError(NewConnectionError):
    """Report that the server's certificate was refused, or that the CA file cannot be used: nothing was sent."""


class _DeadlineReader(io.RawIOBase):
    """Read a socket until a point in time, however often something arrives."""

    def __init__(self, sock: socket.socket, raw: io.RawIOBase, ends_at: float) -> None:
        self._sock = sock
        self._raw = raw
        self._ends_at = ends_at

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any, /) -> int | None:
        remaining_s = self._ends_at - time.monotonic()
        if remaining_s <= 0:
            raise TimeoutError("the response did not end in time")
        self._sock.settimeout(remaining_s)
        try:
            return cast("int | None", self._raw.readinto(buffer))
        except ssl.SSLError as exc:
            # Not an SSL error for urllib3: the handshake was long before.
            raise ConnectionAbortedError(f"the encrypted connection broke: {exc}") from exc

    def close(self) -> None:
        self._raw.close()
        super().close()


class StrictHeaderReader(io.BufferedReader):
    """Refuse a header line that was cut off; http.client takes it for the last header."""

    within_head = True

    def readline(self, size: int | None = -1, /) -> bytes:
        """Read a line, which must end within the headers."""
        line = super().readline(size)
        if self.within_head and not line.endswith(b"\n") and len(line) != size:
            raise ConnectionAbortedError("the connection ended before the headers of the response did")
        return line


class _DeadlineResponse(http.client.HTTPResponse):
    """Read a response that ends within the timeout that its socket has at the beginning."""

    def __init__(self, sock: socket.socket, *args: Any, **kwargs: Any) -> None:
        super().__init__(sock, *args, **kwargs)
        ends_at = time.monotonic() + (sock.gettimeout() or float("inf"))
        self._lines = StrictHeaderReader(_DeadlineReader(sock, self.fp.detach(), ends_at))
        self.fp = self._lines

    def _read_status(self) -> tuple[str, int, str]:
        version, status, reason = super()._read_status()  # type: ignore[misc]  # the stubs lack it
        # http.client skips only 100 Continue, and would take 103 Early Hints for the response.
        return version, http.HTTPStatus.CONTINUE if status < http.HTTPStatus.OK else status, reason

    def begin(self) -> None:
        super().begin()
        self._lines.within_head = False


class BufferedResponse(HTTPResponse):
    """Hold a response that was read already, so that nothing is left to be read from its connection."""

    def stream(self, *_: Any, **__: Any) -> Generator[bytes]:
        """Hand the connection back to its pool and the body to requests."""
        self.release_conn()
        if self.data:
            yield self.data


class BufferedConnection(_Connection):
    """Connect within the time of an attempt, and read each response whole; for both kinds of connection."""

    response_class = _DeadlineResponse

    def connect(self) -> None:
        """Connect, and report each failure as one before anything was sent."""
        try:
            super().connect()
        except (ssl.SSLCertVerificationError, ssl.CertificateError, SSLError) as exc:
            raise UntrustedError(self, str(exc)) from exc
        except (OSError, http.client.HTTPException) as exc:
            # urllib3 would count a broken handshake, or a proxy that refuses, among the errors after sending.
            raise NewConnectionError(self, f"Failed to establish a new connection: {exc}") from exc

    def _new_conn(self) -> socket.socket:
        # urllib3 would look the name up without a limit, and give each of its addresses the whole time.
        try:
            return open_socket(
                self.host, self.port, timeout_s=self.timeout, socket_options=self.socket_options or ()
            )
        except socket.gaierror as exc:
            raise NameResolutionError(self.host, self, exc) from exc
        except TimeoutError as exc:
            raise ConnectTimeoutError(self, f"Connection to {self.host} timed out.") from exc

    def getresponse(self) -> HTTPResponse:  # type: ignore[override]  # urllib3 replaces http.client's type, too
        """Read a response to its end, or up to ``RESPONSE_MAX_BYTES``."""
        response = super().getresponse()
        body = bytearray()
        if is_encoded(response.headers):
            # None was asked for, and 1 KB can become 4 GiB when it is decoded: it is not even read.
            self.close()
        else:
            while len(body) <= RESPONSE_MAX_BYTES and (
                chunk := response.read(_CHUNK_BYTES, decode_content=False)
            ):
                body += chunk
                if response.length_remaining == 0:
                    break
        if len(body) > RESPONSE_MAX_BYTES:
            self.close()
        return BufferedResponse(
            body=bytes(body),
            headers=response.headers,
            status=response.status,
            reason=response.reason,
            version=response.version,
            preload_content=False,
            enforce_content_length=False,  # what was kept may be less
        )


def is_encoded(headers: Mapping[str, str]) -> bool:
    """Return whether the body of a response has a ``Content-Encoding`` other than ``identity``."""
    return headers.get("Content-Encoding", "").strip().lower() not in ("", "identity")


class BzCtrlHTTPConnection(BufferedConnection, HTTPConnection):
    """Connect in clear text."""


class BzCtrlHTTPSConnection(BufferedConnection, HTTPSConnection):
    """Connect with TLS."""


class _HTTPPool(HTTPConnectionPool):
    ConnectionCls = BzCtrlHTTPConnection


class _HTTPSPool(HTTPSConnectionPool):
    ConnectionCls = BzCtrlHTTPSConnection


_POOLS = {"http": _HTTPPool, "https": _HTTPSPool}


class BzCtrlAdapter(HTTPAdapter):
    """Adapt requests to these connections. It never sends a request again by itself.

    :param connections: the most connections that are kept open.
    """

    def __init__(self, *, connections: int) -> None:
        super().__init__(max_retries=0, pool_connections=2, pool_maxsize=connections)
        self._pools: dict[tuple[Any, ...], ConnectionPool] = {}

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


def _use_our_pools(manager: PoolManager) -> None:
    manager.pool_classes_by_scheme = _POOLS
