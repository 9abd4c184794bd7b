"""Serve HTTP/1.1 with the standard library's threading server, one thread for each connection."""

from __future__ import annotations

import contextlib
import logging
import re
import socket
import struct
import sys
import threading
import time
from http import HTTPStatus
from http.server import BaseHTTPRequestHandler
from socketserver import ThreadingTCPServer
from typing import TYPE_CHECKING, Any
from urllib.parse import unquote

from bzctrl_provider.sandbox.connections import Connections
from bzctrl_provider.sandbox.request import Request
from bzctrl_provider.sandbox.response import Response, make_error_response

if TYPE_CHECKING:
    from bzctrl_provider.sandbox.fault_injector import Delivery, FaultInjector

MAX_BODY_BYTES = 8 * 1024 * 1024
"""The longest body that is read; a longer one gets a 413."""

MAX_HEADER_LENGTH = 64 * 1024
"""How many characters all headers of a request may have together; more get a 431."""

MAX_CONNECTIONS = 512
"""How many connections are open at a time, see ``Connections.admit``."""

# Longer than any pause in a test: a connection that the server closes while the client writes looks like a fault that
# nobody asked for.
_TIMEOUT_S = 75
_POLL_S = 0.05
_GRACE_S = 0.5
_DRAIN_S = 1
_PIECE = 64 * 1024
_MAX_CHUNK_LINE = 4096
_MAX_TRAILERS = 100

_TOKEN = re.compile(r"[!#$%&'*+.^_`|~0-9A-Za-z-]+")
_HOST = re.compile(r"[0-9A-Za-z._~%!$&'()*+,;=:\[\]-]+")
_CONTROL_CHARACTERS = re.compile(r"[\x00-\x08\x0a-\x1f\x7f]")
_DIGITS = re.compile(r"[0-9]{1,18}")
_CHUNK_SIZE = re.compile(rb"([0-9A-Fa-f]{1,15})[ \t]*(;.*)?\r?\n")

_LOGGER = logging.getLogger(__name__)


class _BadRequestError(Exception):
    """Refuse a request that cannot be read; the connection ends after the response."""

    def __init__(self, status: HTTPStatus, description: str) -> None:
        super().__init__(description)
        self.status = status


class SandboxRequestHandler(BaseHTTPRequestHandler):
    """Read the requests of one connection, and send what the fault injector returns for them."""

    server: SandboxServer
    protocol_version = "HTTP/1.1"
    timeout = _TIMEOUT_S
    # Otherwise a response can wait 40 ms for the client's delayed acknowledgement.
    disable_nagle_algorithm = True

    def handle(self) -> None:
        """Handle the requests of this connection, one after the other, until either side ends it."""
        self.close_connection = False
        while not (self.close_connection or self.server.stopping.is_set()):
            self.server.connections.start_reading(self.connection)
            self.handle_one_request()

    def respond(self) -> None:
        """Handle a request of any method whose head has been read."""
        try:
            request = self._read_request()
        except _BadRequestError as exc:
            self.send_error(exc.status, str(exc))
            return
        if request is None:
            self.close_connection = True
            return
        self.server.connections.start_responding(self.connection)
        try:
            delivery = self.server.injector.handle(request)
        except Exception:
            # A defect of the sandbox must not look like a reset, which is a fault that tests ask for.
            _LOGGER.exception("The sandbox failed at %s %s", request.method, request.path)
            error = make_error_response(
                HTTPStatus.INTERNAL_SERVER_ERROR, "A defect of the sandbox; its log has the traceback."
            )
            self._send(error)
            return
        self._deliver(delivery)

    do_GET = do_HEAD = do_POST = do_PUT = do_PATCH = do_DELETE = do_OPTIONS = respond  # noqa: N815 - the base class' names

    def send_error(self, code: int, message: str | None = None, explain: str | None = None) -> None:
        """Refuse a request that cannot be read: JSON instead of the base class' page, then the end.

        :param code: the HTTP status.
        :param message: a sentence for people.
        :param explain: not used.
        """
        status = HTTPStatus(code)
        # The base class quotes the request line, which can be long.
        description = (message or explain or status.phrase)[:200]
        self.close_connection = True
        self._send(make_error_response(status, description))
        self._drain()

    def log_message(self, format: str, *args: Any) -> None:  # noqa: A002 - the base class' name
        """Write nothing: the sandbox records its requests, and must not write into the output of tests."""

    def _read_request(self) -> Request | None:
        """Return the request, or None if the client closed the connection before its end."""
        headers = self._read_headers()
        body = self._read_body(headers)
        if body is None:
            return None
        host = headers.get("host")
        if not host:
            name, port = self.connection.getsockname()[:2]
            host = f"[{name}]:{port}" if ":" in name else f"{name}:{port}"
        return Request(
            method=self.command,
            path=unquote(self.path.partition("?")[0]),
            headers=headers,
            body=body,
            base_url=f"http://{host}",
        )

    def _read_headers(self) -> dict[str, str]:
        """Return the headers, checked more strictly than ``http.client`` does, so that a client's bug is seen here."""
        if self.request_version == "HTTP/0.9":
            raise _BadRequestError(HTTPStatus.BAD_REQUEST, "The request line names no HTTP version.")
        if self.headers.defects:
            raise _BadRequestError(HTTPStatus.BAD_REQUEST, "A header line has no colon.")
        items = self.headers.items()
        if sum(len(name) + len(value) for name, value in items) > MAX_HEADER_LENGTH:
            raise _BadRequestError(
                HTTPStatus.REQUEST_HEADER_FIELDS_TOO_LARGE,
                f"The headers have more than {MAX_HEADER_LENGTH:,} characters.",
            )
        headers: dict[str, str] = {}
        for original, value in items:
            if not _TOKEN.fullmatch(original) or _CONTROL_CHARACTERS.search(value):
                raise _BadRequestError(
                    HTTPStatus.BAD_REQUEST, f"The header {original[:50]!r} is not valid in HTTP."
                )
            name = original.lower()
            if name in headers and name in ("host", "content-length", "transfer-encoding"):
                raise _BadRequestError(HTTPStatus.BAD_REQUEST, f"The header {original} is given twice.")
            headers[name] = f"{headers[name]}, {value}" if name in headers else value
        if "host" not in headers and self.request_version != "HTTP/1.0":
            raise _BadRequestError(HTTPStatus.BAD_REQUEST, "The Host header is missing.")
        if not _HOST.fullmatch(headers.get("host") or "_"):
            raise _BadRequestError(HTTPStatus.BAD_REQUEST, "The Host header is not a host and port.")
        return headers

    def _read_body(self, headers: dict[str, str]) -> bytes | None:
        """Return the body, or None if the client closed the connection before its end."""
        coding, length = headers.get("transfer-encoding"), headers.get("content-length")
        if coding is not None and length is not None:
            raise _BadRequestError(
                HTTPStatus.BAD_REQUEST, "Transfer-Encoding and Content-Length exclude each other."
            )
        if coding is not None:
            if coding.strip().lower() != "chunked":
                raise _BadRequestError(
                    HTTPStatus.NOT_IMPLEMENTED, "Of transfer codings, only chunked is supported."
                )
            return self._read_chunks()
        if length is None:
            return b""
        if not _DIGITS.fullmatch(length):
            raise _BadRequestError(HTTPStatus.BAD_REQUEST, "The Content-Length is not a number.")
        return self._read_exactly(int(length), limit=MAX_BODY_BYTES)

    def _read_exactly(self, length: int, *, limit: int) -> bytes | None:
        if length > limit:
            raise _BadRequestError(
                HTTPStatus.REQUEST_ENTITY_TOO_LARGE, f"The body has more than {MAX_BODY_BYTES:,} bytes."
            )
        # In pieces: memory grows with what was received, not with what was promised.
        pieces = []
        while length > 0:
            piece = self.rfile.read(min(length, _PIECE))
            if not piece:
                return None
            pieces.append(piece)
            length -= len(piece)
        return b"".join(pieces)

    def _read_chunks(self) -> bytes | None:
        """Return a body in chunks, see RFC 9112, section 7.1."""
        body = bytearray()
        while True:
            line = self.rfile.readline(_MAX_CHUNK_LINE)
            if not line:
                return None
            found = _CHUNK_SIZE.fullmatch(line)
            if found is None:
                raise _BadRequestError(
                    HTTPStatus.BAD_REQUEST, "The size of a chunk is not a hexadecimal number."
                )
            size = int(found[1], 16)
            if size == 0:
                return bytes(body) if self._skip_trailers() else None
            chunk = self._read_exactly(size, limit=MAX_BODY_BYTES - len(body))
            if chunk is None:
                return None
            body += chunk
            if self.rfile.readline(_MAX_CHUNK_LINE) not in (b"\r\n", b"\n"):
                raise _BadRequestError(HTTPStatus.BAD_REQUEST, "A chunk is longer than its size.")

    def _skip_trailers(self) -> bool:
        """Read to the blank line after the chunks; return whether it came."""
        for _ in range(_MAX_TRAILERS):
            line = self.rfile.readline(_MAX_CHUNK_LINE)
            if line in (b"\r\n", b"\n"):
                return True
            if not line:
                return False
        raise _BadRequestError(
            HTTPStatus.REQUEST_HEADER_FIELDS_TOO_LARGE, f"The body has more than {_MAX_TRAILERS} trailers."
        )

    def _deliver(self, delivery: Delivery) -> None:
        # A response that still waits when the server stops is broken off.
        stopped = delivery.delay_s > 0 and self.server.stopping.wait(delivery.delay_s)
        if stopped or delivery.ending == "reset":
            self._reset()
        elif delivery.ending == "cut":
            self.close_connection = True
            body = delivery.response.body
            self.wfile.write(self._encode_head(delivery.response) + body[: len(body) // 2])
        else:
            self._send(delivery.response)

    def _send(self, response: Response) -> None:
        # In one write: the system sends head and body in one packet if they fit.
        body = b"" if self.command == "HEAD" else response.body
        self.wfile.write(self._encode_head(response) + body)

    def _encode_head(self, response: Response) -> bytes:
        connection = "close" if self.close_connection else "keep-alive"
        return response.encode_head(Date=self.date_time_string(), Connection=connection)

    def _reset(self) -> None:
        """Close the connection at once with a TCP reset."""
        self.close_connection = True
        self.server.connections.remove(self.connection)
        # Lingering for zero seconds makes the operating system send RST instead of FIN.
        linger = struct.pack("hh" if sys.platform == "win32" else "ii", 1, 0)
        with contextlib.suppress(OSError):  # the client may have closed it already
            self.connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, linger)
        # The socket closes only with the last file that was made of it.
        self.rfile.close()
        self.connection.close()

    def _drain(self) -> None:
        """Read what the client still sends, for a second at most: closing before would destroy the response."""
        deadline = time.monotonic() + _DRAIN_S
        with contextlib.suppress(OSError):
            self.connection.shutdown(socket.SHUT_WR)
            self.connection.settimeout(_DRAIN_S)
            while self.connection.recv(_PIECE) and time.monotonic() < deadline:
                pass


class SandboxServer(ThreadingTCPServer):
    """Listen, and handle each connection in a thread of its own.

    :param host: an address or a name of this machine; empty for all addresses.
    :param port: the port, 0 for any free one.
    :param injector: returns the response to each request.
    :raises OSError: if the address or the port cannot be used.
    """

    # On Windows the option would let two servers listen at one port.
    allow_reuse_address = sys.platform != "win32"
    request_queue_size = 256

    def __init__(self, host: str, port: int, injector: FaultInjector) -> None:
        self.injector = injector
        self.stopping = threading.Event()
        self.connections = Connections(MAX_CONNECTIONS)
        self._threads_of_connections: list[threading.Thread] = []
        family, *_, address = socket.getaddrinfo(
            host or None, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE
        )[0]
        self.address_family = family
        super().__init__((str(address[0]), port), SandboxRequestHandler)
        self._accepting = threading.Thread(
            target=self.serve_forever, args=(_POLL_S,), name="bzctrl-sandbox", daemon=True
        )

    @property
    def port(self) -> int:
        """Return the port that it listens at."""
        return int(self.socket.getsockname()[1])

    def start(self) -> None:
        """Begin to accept connections, in a thread."""
        self._accepting.start()

    def stop(self) -> None:
        """Stop accepting and reading, send what can be sent within half a second, and wait for all threads to end."""
        self.shutdown()
        self._accepting.join()
        self.server_close()
        self.stopping.set()
        self.connections.stop_reading()
        deadline = time.monotonic() + _GRACE_S
        for thread in self._threads_of_connections:
            thread.join(max(0, deadline - time.monotonic()))
        self.connections.abort()
        for thread in self._threads_of_connections:
            thread.join()

    def verify_request(self, request: Any, client_address: Any) -> bool:  # noqa: ARG002 - the base class' signature
        """Return whether a new connection is handled; otherwise it gets a 503.

        :param request: its socket.
        :param client_address: not used.
        """
        if self.connections.admit(request):
            return True
        busy = make_error_response(
            HTTPStatus.SERVICE_UNAVAILABLE, f"{MAX_CONNECTIONS} connections are waiting for their responses."
        )
        with contextlib.suppress(OSError):
            request.sendall(busy.encode_head(Connection="close") + busy.body)
        return False

    def process_request(self, request: Any, client_address: Any) -> None:
        """Handle a connection in a thread that can be waited for, and that does not keep the interpreter running.

        The base class offers only one of the two.

        :param request: its socket.
        :param client_address: its address.
        """
        thread = threading.Thread(
            target=self.process_request_thread,
            args=(request, client_address),
            name="bzctrl-sandbox-connection",
            daemon=True,
        )
        running = [other for other in self._threads_of_connections if other.is_alive()]
        thread.start()
        self._threads_of_connections = [*running, thread]

    def close_request(self, request: Any) -> None:
        """Close a connection.

        :param request: its socket.
        """
        # Before it is closed: the number of a closed socket may belong to another one.
        self.connections.remove(request)
        super().close_request(request)

    def handle_error(self, request: Any, client_address: Any) -> None:  # noqa: ARG002 - the base class' signature
        """Log a defect; a client that closes its connection early is none.

        :param request: the socket of the connection.
        :param client_address: not used.
        """
        error = sys.exception()
        if not isinstance(error, OSError):
            _LOGGER.error("The sandbox failed on a connection", exc_info=error)
