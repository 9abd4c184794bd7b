"""A server on loopback with scripted, invalid or missing responses."""

from __future__ import annotations

import contextlib
import json
import socket
import struct
import threading
import time
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from support.bzctrl import LINK

if TYPE_CHECKING:
    import ssl


def reply(status=200, body=b"", headers=(), *, length=None):
    """Return a response as bytes; `length` replaces its real Content-Length."""
    body = json.dumps(body).encode() if not isinstance(body, bytes) else body
    lines = [
        f"HTTP/1.1 {status} Reason",
        f"Content-Length: {len(body) if length is None else length}",
        *headers,
    ]
    return "\r\n".join(lines).encode() + b"\r\n\r\n" + body


TOKEN = reply(body={"access_token": "token", "expires_in": 3600})
CREATED = reply(body={"taskLink": LINK, "title": "t"})


def reset(connection):
    """Reset the connection."""
    connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    connection.close()


def close(connection):
    """Close the connection without a response."""


def hang(connection):
    """Send nothing until the client closes the connection."""
    connection.recv(1)


def drip(data, *, pause_s=0.02):
    """Return a step that sends a response byte by byte."""

    def send(connection):
        for byte in data:
            connection.sendall(bytes([byte]))
            time.sleep(pause_s)

    return send


@dataclass
class Server:
    """A server on loopback with one step of a script for each request."""

    token: list = field(default_factory=lambda: [TOKEN])
    create: list = field(default_factory=lambda: [CREATED])
    requests: list = field(default_factory=list)
    connections: int = 0
    tls: ssl.SSLContext | None = None

    def __post_init__(self):
        self.lock = threading.Lock()
        self.start()

    def start(self, port=0):
        self.socket = socket.create_server(("127.0.0.1", port))
        self.port = self.socket.getsockname()[1]
        threading.Thread(target=self._accept, daemon=True).start()

    def _accept(self):
        while True:
            try:
                connection, _ = self.socket.accept()
            except OSError:
                return
            self.connections += 1
            threading.Thread(target=self._serve, args=[connection], daemon=True).start()

    def _serve(self, connection):
        try:
            with connection:
                if self.tls:
                    connection = self.tls.wrap_socket(connection, server_side=True)
                with connection:
                    while self._answer(connection):
                        pass
        except OSError:
            pass  # some tests make the client close the connection

    def _receive(self, connection):
        """Return method, path, headers and body of a request, or None if the client has closed the connection."""
        data = b""
        while b"\r\n\r\n" not in data:
            if not (chunk := connection.recv(65536)):
                return None
            data += chunk
        head, _, body = data.partition(b"\r\n\r\n")
        line, *headers = head.decode().split("\r\n")
        headers = dict(header.split(": ", 1) for header in headers)
        while len(body) < int(headers.get("Content-Length", 0)):
            body += connection.recv(65536)
        method, path, _ = line.split(" ")
        return method, path, headers, body

    def _answer(self, connection):
        request = self._receive(connection)
        if request is None:
            return False
        path = request[1]
        with self.lock:
            self.requests.append(request)
            script = self.token if path.endswith("/oauth/token") else self.create
            # The last step of a script is repeated.
            step = script.pop(0) if len(script) > 1 else script[0]
        if isinstance(step, bytes):
            connection.sendall(step)
            return True
        step(connection)
        return False

    def reset(self):
        """Answer as at the beginning, and forget what was sent."""
        self.token, self.create, self.requests, self.connections = [TOKEN], [CREATED], [], 0

    def sent(self, kind):
        path = "/oauth/token" if kind == "token" else "/add-task"
        return [request for request in self.requests if request[1].endswith(path)]

    def stop(self):
        with contextlib.suppress(OSError):  # stopped already
            # A thread in accept() keeps the socket open; this ends the call.
            self.socket.shutdown(socket.SHUT_RDWR)
        self.socket.close()
