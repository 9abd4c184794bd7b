"""A server on loopback that misbehaves as a test tells it to."""

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
    """Return an answer as bytes; `length` lies about its size."""
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
    """Break the connection the hard way."""
    connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    connection.close()


def close(connection):
    """End the connection politely, without an answer."""


def hang(connection):
    """Say nothing until the client goes away."""
    connection.recv(1)


def drip(data, *, pause_s=0.02):
    """Return an answer that comes one byte at a time."""

    def send(connection):
        for byte in data:
            connection.sendall(bytes([byte]))
            time.sleep(pause_s)

    return send


@dataclass
class Server:
    """A server on loopback that does what a test tells it to, request by request."""

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
            pass  # the client went away, as some tests want it to

    def _receive(self, connection):
        """Return method, path, headers and body of a whole request, None where the client has gone."""
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
            # The last step of a script repeats.
            step = script.pop(0) if len(script) > 1 else script[0]
        if isinstance(step, bytes):
            connection.sendall(step)
            return True
        step(connection)
        return False

    def sent(self, kind):
        path = "/oauth/token" if kind == "token" else "/add-task"
        return [request for request in self.requests if request[1].endswith(path)]

    def stop(self):
        with contextlib.suppress(OSError):  # stopped already
            # A thread that waits in accept() keeps the socket listening; this wakes it up.
            self.socket.shutdown(socket.SHUT_RDWR)
        self.socket.close()
