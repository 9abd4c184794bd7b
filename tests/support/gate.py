"""A TCP gate in front of a server on loopback, which makes it slow, silent or unreachable."""

from __future__ import annotations

import contextlib
import socket
import threading
import time
from typing import Literal, Self

Mode = Literal["healthy", "slow", "silent", "refused"]

_CHUNK_BYTES = 65_536
_PART_S = 0.2


class Gate:
    """Forwards connections to a server; ``mode`` may change at any time.

    :param host: of the server.
    :param port: of the server.
    :param slow_s: seconds that ``slow`` waits before it forwards what the server sends.

    ``healthy`` forwards. ``slow`` forwards each response after ``slow_s``. ``silent`` accepts connections, reads what
    comes and sends nothing, as a firewall that drops packets does. ``refused`` closes each connection at once.
    """

    def __init__(self, host: str, port: int, *, slow_s: float = 5.0) -> None:
        self.mode: Mode = "healthy"
        self._server = (host, port)
        self._slow_s = slow_s
        self._stopped = threading.Event()
        self._open: set[socket.socket] = set()
        self._lock = threading.Lock()
        self._listener = socket.create_server(("127.0.0.1", 0), backlog=512)
        self.url = f"http://127.0.0.1:{self._listener.getsockname()[1]}"

    def __enter__(self) -> Self:
        threading.Thread(target=self._accept, daemon=True).start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stopped.set()
        # Closing by itself does not wake a thread that waits in accept().
        with contextlib.suppress(OSError):
            self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()
        self.drop_connections()

    def drop_connections(self) -> None:
        """Close every open connection, such as those that wait for a silent server."""
        with self._lock:
            for connection in self._open:
                with contextlib.suppress(OSError):
                    connection.shutdown(socket.SHUT_RDWR)

    def _accept(self) -> None:
        while not self._stopped.is_set():
            try:
                client, _ = self._listener.accept()
            except OSError:
                return
            threading.Thread(target=self._serve, args=(client,), daemon=True).start()

    def _serve(self, client: socket.socket) -> None:
        with client, self._tracked(client):
            if self.mode == "refused":
                return
            if self.mode == "silent":
                self._swallow(client)
                return
            with (
                contextlib.suppress(OSError),
                socket.create_connection(self._server) as server,
                self._tracked(server),
            ):
                back = threading.Thread(target=self._forward, args=(server, client, True), daemon=True)
                back.start()
                self._forward(client, server, False)
                back.join()

    @contextlib.contextmanager
    def _tracked(self, connection: socket.socket):
        with self._lock:
            self._open.add(connection)
        try:
            yield
        finally:
            with self._lock:
                self._open.discard(connection)

    def _swallow(self, client: socket.socket) -> None:
        with contextlib.suppress(OSError):
            while client.recv(_CHUNK_BYTES):
                pass

    def _forward(self, source: socket.socket, target: socket.socket, is_response: bool) -> None:
        sent_at = 0.0
        with contextlib.suppress(OSError):
            while data := source.recv(_CHUNK_BYTES):
                if self.mode == "silent":
                    continue
                # A response may come in several parts, of which only the first is late.
                if is_response and self.mode == "slow" and time.monotonic() - sent_at > _PART_S:
                    self._stopped.wait(self._slow_s)
                target.sendall(data)
                sent_at = time.monotonic()
            target.shutdown(socket.SHUT_WR)
