"""Connections that plain requests lacks two things for: whether a request was sent, and a bound for a whole response.

A create request that was sent must not be sent again, but urllib3 has one error for a broken TLS handshake and for a
connection that broke later. And its read timeout bounds the silence between two packets, so a server that sends one
byte at a time would hold a task for ever.
"""

from __future__ import annotations

import http.client
import io
import ssl
import time
from typing import TYPE_CHECKING, Any, cast

from requests.adapters import HTTPAdapter
from requests.exceptions import InvalidProxyURL
from urllib3.connection import HTTPConnection, HTTPSConnection
from urllib3.exceptions import NewConnectionError, SSLError

if TYPE_CHECKING:
    import socket


class UntrustedError(NewConnectionError):
    """Report that the server's certificate was refused, or that the CA file cannot be used: nothing was sent."""


class _DeadlineReader(io.RawIOBase):
    """Read a socket until a point in time, however often something arrives."""

    def __init__(self, sock: socket.socket, raw: io.RawIOBase) -> None:
        self._sock = sock
        self._raw = raw
        self._ends_at = time.monotonic() + (sock.gettimeout() or float("inf"))

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any, /) -> int | None:
        remaining_s = self._ends_at - time.monotonic()
        if remaining_s <= 0:
            raise TimeoutError("the response did not end in time")
        self._sock.settimeout(remaining_s)
        return cast("int | None", self._raw.readinto(buffer))

    def close(self) -> None:
        self._raw.close()
        super().close()


class _DeadlineResponse(http.client.HTTPResponse):
    """Read a response that ends within the timeout that its socket has at the beginning."""

    def __init__(self, sock: socket.socket, *args: Any, **kwargs: Any) -> None:
        super().__init__(sock, *args, **kwargs)
        self.fp = io.BufferedReader(_DeadlineReader(sock, self.fp.detach()))


class _HTTPConnection(HTTPConnection):
    response_class = _DeadlineResponse


class _HTTPSConnection(HTTPSConnection):
    response_class = _DeadlineResponse

    def connect(self) -> None:
        """Connect, and report each failure as one before anything was sent."""
        try:
            super().connect()
        except (ssl.SSLCertVerificationError, SSLError) as exc:
            raise UntrustedError(self, str(exc)) from exc
        except (OSError, http.client.HTTPException) as exc:
            raise NewConnectionError(self, f"Failed to establish a new connection: {exc}") from exc


_CONNECTIONS = {HTTPConnection: _HTTPConnection, HTTPSConnection: _HTTPSConnection}


class BzCtrlAdapter(HTTPAdapter):
    """Adapt requests to these connections. Like its base, it never sends a request again by itself."""

    def get_connection_with_tls_context(self, *args: Any, **kwargs: Any) -> Any:
        """Return the pool of an address; one of SOCKS keeps its own connections."""
        try:
            pool: Any = super().get_connection_with_tls_context(*args, **kwargs)
        except TypeError:  # of requests, for a proxy such as http://user:password@
            raise InvalidProxyURL("the proxy of this machine's environment has no host") from None
        pool.ConnectionCls = _CONNECTIONS.get(pool.ConnectionCls, pool.ConnectionCls)
        return pool
