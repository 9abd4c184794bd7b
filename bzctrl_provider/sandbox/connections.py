"""Keep track of open connections: how many there are, and which of them only wait for a request."""

from __future__ import annotations

import contextlib
import socket
import threading


class Connections:
    """Hold the open connections of one server, bounded in number. Every method may be called from any thread.

    A connection is either reading (waiting for a request, or in the middle of one) or responding.

    :param limit: how many may be open at a time.
    """

    def __init__(self, limit: int) -> None:
        self._limit = limit
        self._lock = threading.Lock()
        # Dictionaries keep their order: the first one has been reading for the longest time.
        self._reading: dict[socket.socket, None] = {}
        self._responding: dict[socket.socket, None] = {}

    def admit(self, connection: socket.socket) -> bool:
        """Add a new connection; if there are too many, close the one that has been reading for the longest time.

        A client that connects and sends nothing, or sends slowly, can therefore not keep others out.

        :param connection: the new connection.
        :return: false if every open connection is responding; the new one is not added then.
        """
        with self._lock:
            if len(self._reading) + len(self._responding) >= self._limit:
                if not self._reading:
                    return False
                oldest = next(iter(self._reading))
                del self._reading[oldest]
                _shut_down(oldest, socket.SHUT_RDWR)
            self._reading[connection] = None
            return True

    def start_reading(self, connection: socket.socket) -> None:
        """Note that a connection waits for its next request.

        :param connection: one that was admitted.
        """
        with self._lock:
            if self._responding.pop(connection, False) is None:
                self._reading[connection] = None

    def start_responding(self, connection: socket.socket) -> None:
        """Note that a connection has sent a complete request.

        :param connection: one that was admitted.
        """
        with self._lock:
            if self._reading.pop(connection, False) is None:
                self._responding[connection] = None

    def remove(self, connection: socket.socket) -> None:
        """Forget a connection that is about to be closed.

        :param connection: one that was admitted, or not.
        """
        with self._lock:
            self._reading.pop(connection, None)
            self._responding.pop(connection, None)

    def stop_reading(self) -> None:
        """Let every read end as if the client had closed the connection; responses are still sent."""
        self._shut_down_all(socket.SHUT_RD)

    def abort(self) -> None:
        """Let every read and write end."""
        self._shut_down_all(socket.SHUT_RDWR)

    def _shut_down_all(self, how: int) -> None:
        with self._lock:
            for connection in (*self._reading, *self._responding):
                _shut_down(connection, how)


def _shut_down(connection: socket.socket, how: int) -> None:
    with contextlib.suppress(OSError):  # the client may have closed it already
        connection.shutdown(how)
