"""uvicorn, fitted for the sandbox: it says when it is ready, and lets the front reset a connection."""

from __future__ import annotations

import contextlib
import logging
import socket
import struct
import sys
import threading
from typing import TYPE_CHECKING

import uvicorn
from uvicorn.protocols.http.h11_impl import H11Protocol

from bzctrl_provider.sandbox.app import create_app
from bzctrl_provider.sandbox.front import CONNECTION_EXTENSION, Front

if TYPE_CHECKING:
    import asyncio
    from collections.abc import Callable
    from datetime import datetime

    from bzctrl_provider.sandbox.faults import FaultPlan
    from bzctrl_provider.sandbox.front import Receive, Scope, Send
    from bzctrl_provider.sandbox.state import State

# Longer than any pause in a test: a connection that the server closes while the client writes looks like a fault
# nobody asked for.
_KEEP_ALIVE_S = 75
_STOP_S = 1


class TransportConnection:
    """One client's connection.

    :param transport: its asyncio transport.
    """

    def __init__(self, transport: asyncio.Transport) -> None:
        self._transport = transport

    def reset(self) -> None:
        """Drop the connection at once with a TCP reset."""
        # Lingering for zero seconds makes the operating system send RST instead of FIN.
        linger = struct.pack("hh" if sys.platform == "win32" else "ii", 1, 0)
        with contextlib.suppress(OSError):  # the client may have gone already
            self._transport.get_extra_info("socket").setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, linger)
        self._transport.abort()

    def close(self) -> None:
        """Send what is still to be sent, then close the connection."""
        self._transport.close()


class SandboxProtocol(H11Protocol):
    """uvicorn's HTTP protocol, with the connection among the scope's extensions."""

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override] # narrower, as in H11Protocol
        """Wrap the application for this connection."""
        super().connection_made(transport)
        # asyncio does this for the sockets it opens itself. Without it, headers and body, which leave apart, wait
        # for each other: 40 ms for every request.
        transport.get_extra_info("socket").setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        application = self.app
        extensions = {CONNECTION_EXTENSION: TransportConnection(transport)}

        async def with_connection(scope: Scope, receive: Receive, send: Send) -> None:
            scope["extensions"] = extensions
            await application(scope, receive, send)

        self.app = with_connection


class SandboxServer(uvicorn.Server):
    """A uvicorn server for one front, which logs nothing below a warning.

    :param front: what it serves.
    """

    def __init__(self, front: Front) -> None:
        super().__init__(
            uvicorn.Config(
                front,
                http=SandboxProtocol,
                loop="asyncio",
                ws="none",
                lifespan="off",
                log_config=None,
                access_log=False,
                # The links must show the address the client used, whatever a header claims.
                proxy_headers=False,
                server_header=False,
                timeout_keep_alive=_KEEP_ALIVE_S,
                timeout_graceful_shutdown=_STOP_S,
            ),
        )
        self._front = front
        self.ready = threading.Event()

    def run(self, sockets: list[socket.socket] | None = None) -> None:
        """Serve until told to stop, in the calling thread."""
        logger, here = logging.getLogger("uvicorn.error"), threading.get_ident()

        def is_wanted(record: logging.LogRecord) -> bool:
            return record.levelno >= logging.WARNING or record.thread != here

        # A filter and not the logger's level, which another uvicorn in this process would feel.
        logger.addFilter(is_wanted)
        try:
            super().run(sockets=sockets)
        finally:
            logger.removeFilter(is_wanted)

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        """Start to listen, then say so."""
        await super().startup(sockets=sockets)
        self.ready.set()

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        """End the slow answers first: nobody waits for them any more."""
        self._front.stop_waiting()
        await super().shutdown(sockets=sockets)


def build_server(state: State, faults: FaultPlan, *, clock: Callable[[], datetime]) -> SandboxServer:
    """Return a server that has not been started yet.

    :param state: what is remembered.
    :param faults: what is to go wrong.
    :param clock: what tells the time.
    """
    front = Front(create_app(state, faults), faults=faults, requests=state.requests, clock=clock)
    return SandboxServer(front)
