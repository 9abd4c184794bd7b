"""Run the sandbox as an object: the standard library's threading server, in threads of this process."""

from __future__ import annotations

import contextlib
import re
import socket
import struct
import sys
from datetime import UTC, datetime
from functools import partial
from http import HTTPStatus
from http.server import BaseHTTPRequestHandler
from socketserver import ThreadingTCPServer
from threading import Event, Thread
from typing import TYPE_CHECKING, Any, Self
from urllib.parse import unquote

from bzctrl_provider.sandbox.app import Api, Request, Response, refuse
from bzctrl_provider.sandbox.state import RecordedRequest, SandboxControls, State, TodoStore, check

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path


_utc_now = partial(datetime.now, UTC)


class SandboxRequestHandler(BaseHTTPRequestHandler):
    """The reader of one connection's requests, which sends what the API returns for them."""

    server: SandboxServer
    protocol_version = "HTTP/1.1"
    # Otherwise a response can wait 40 ms for the client's delayed acknowledgement.
    disable_nagle_algorithm = True

    def respond(self) -> None:
        """Answer a request of any method, whose head has been read."""
        length = self.headers.get("Content-Length", "0")
        if "Transfer-Encoding" in self.headers or not re.fullmatch("[0-9]{1,7}", length):
            self.close_connection = True
            problem = "The sandbox reads only a body with a Content-Length, of at most 9,999,999 bytes."
            self._send(refuse(HTTPStatus.LENGTH_REQUIRED, problem))
            return
        body = self.rfile.read(int(length))
        if len(body) < int(length):  # the client has ended in the middle
            return
        request = Request(
            method=self.command,
            path=unquote(self.path.partition("?")[0]),
            headers={name.lower(): value for name, value in self.headers.items()},
            media_type=self.headers.get_content_type(),
            body=body,
            base_url=f"http://{self.headers.get('Host', '127.0.0.1')}",
        )
        response = self.server.api.answer(request)
        # A response that still waits when the server stops is broken off.
        if self.server.stopping.wait(response.delay_s) or response.ending == "reset":
            self._reset()
        else:
            self._send(response)

    do_GET = do_POST = do_PUT = do_DELETE = respond  # noqa: N815 - the base class' names

    def log_message(self, format: str, *args: Any) -> None:  # noqa: A002 - the base class' name
        """Write nothing: the sandbox records its requests, and must not write into the output of tests."""

    def _send(self, response: Response) -> None:
        self.send_response(response.status)
        for name, value in response.headers.items():
            self.send_header(name, value)
        self.send_header("Content-Length", str(len(response.body)))
        if self.close_connection or response.ending == "cut":
            self.send_header("Connection", "close")  # which makes the base class close it
        self.end_headers()
        length = len(response.body) // 2 if response.ending == "cut" else len(response.body)
        self.wfile.write(response.body[:length])

    def _reset(self) -> None:
        """Close the connection at once with a TCP reset."""
        self.close_connection = True
        # Lingering for zero seconds makes the operating system send RST instead of FIN.
        self.connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        # The socket closes only with the last file that was made of it.
        self.rfile.close()
        self.connection.close()


class SandboxServer(ThreadingTCPServer):
    """The server, which has one thread for each connection, and accepts them from the moment it is made.

    ``ThreadingHTTPServer`` is the same, but looks its own name up in the DNS.

    :param host: an address or a name of this machine.
    :param port: the port, 0 for any free one.
    :param api: returns the response to each request.
    :raises OSError: if the address or the port cannot be used.
    """

    allow_reuse_address = True
    request_queue_size = 256

    def __init__(self, host: str, port: int, api: Api) -> None:
        self.api = api
        self.stopping = Event()
        super().__init__((host, port), SandboxRequestHandler)
        # A client cannot connect to the address that means "every address of this machine".
        name = "127.0.0.1" if host == "0.0.0.0" else host  # noqa: S104 - compared with, not bound to
        self.url = f"http://{name}:{self.server_address[1]}"
        self._open: dict[Any, Thread] = {}
        self._accepting = Thread(target=self.serve_forever, args=(0.02,), daemon=True)
        self._accepting.start()

    def stop(self) -> None:
        """Stop accepting, close every connection, and wait for their threads to end."""
        # First, so that no connection is added to those that are closed below.
        self.shutdown()
        self._accepting.join()
        self.server_close()
        self.stopping.set()
        for connection, thread in self._open.copy().items():
            with contextlib.suppress(OSError):  # it may be closed already
                connection.shutdown(socket.SHUT_RDWR)
            thread.join()

    def process_request(self, request: Any, client_address: Any) -> None:
        """Handle a connection in a thread that can be waited for, and that does not keep the interpreter running.

        The base class offers only one of the two.

        :param request: its socket.
        :param client_address: its address.
        """
        thread = Thread(target=self.process_request_thread, args=(request, client_address), daemon=True)
        self._open[request] = thread
        thread.start()

    def shutdown_request(self, request: Any) -> None:
        """Close a connection.

        :param request: its socket.
        """
        super().shutdown_request(request)
        self._open.pop(request, None)

    def handle_error(self, request: Any, client_address: Any) -> None:
        """Write the traceback of a defect of the sandbox; a client that has closed its connection early is none.

        :param request: the socket of the connection.
        :param client_address: its address.
        """
        if not isinstance(sys.exception(), OSError):
            super().handle_error(request, client_address)


class Sandbox(SandboxControls):
    """A stand-in BzCtrl, served from threads of this process.

    Use it as a context manager, or call ``start`` and ``stop``:

    ```python
    with Sandbox() as sandbox:
        sandbox.fail_next(503, retry_after_s=1)
        ...  # create a todo at sandbox.url
        print(sandbox.todos)
    ```

    :param host: the address to listen at, default ``127.0.0.1``: only this machine.
    :param port: the port, default 0: any free one, which ``url`` then shows.
    :param data: an SQLite file that keeps the todos, for one sandbox at a time; by default a new start begins with none.
    :param username: the only username accepted; by default any is, with any password.
    :param password: its password; given together with ``username`` or not at all.
    :param token_lifetime_s: seconds after which a token is refused, default 3600, at most 1,000,000,000.
    :param clock: returns the current time as an aware datetime, for tokens and dates of creation.
    :raises ValueError: naming every invalid argument.
    """

    def __init__(
        self,
        *,
        host: str = "127.0.0.1",
        port: int = 0,
        data: str | Path | None = None,
        username: str | None = None,
        password: str | None = None,
        token_lifetime_s: float = 3600,
        clock: Callable[[], datetime] = _utc_now,
    ) -> None:
        is_lifetime = 0 < token_lifetime_s <= 10**9
        check(
            {
                "username and password go together": (username is None) == (password is None),
                "username and password must not be empty": "" not in (username, password),
                f"token_lifetime_s must be seconds, more than 0 and at most 1,000,000,000, not {token_lifetime_s!r}": is_lifetime,
                f"port must be from 0 (any free one) to 65535, not {port!r}": port in range(65536),
            }
        )
        credentials = None if username is None or password is None else (username, password)
        super().__init__(State(TodoStore(data), clock, credentials, token_lifetime_s))
        self._host, self._port = host, port
        self._server: SandboxServer | None = None

    def start(self) -> None:
        """Start serving; requests are answered when this returns.

        :raises OSError: if the address, the port or the data file cannot be used.
        """
        # Before the first request, whose todo gets the next key.
        self._state.todos.open()
        try:
            self._server = SandboxServer(self._host, self._port, Api(self._state, self))
        except OSError as exc:
            self._state.todos.close()
            problem = f"cannot listen at {self._host}, port {self._port}: {exc.strerror}; `--port 0` (port=0) takes any port that is free"
            raise OSError(problem) from exc

    def stop(self) -> None:
        """Stop serving. Responses that wait are broken off; no thread is left. A second call does nothing."""
        if self._server is not None:
            self._server.stop()
            self._state.todos.close()
            self._server = None

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()

    @property
    def url(self) -> str:
        """Return its address, such as ``http://127.0.0.1:40123``: the Host of an Airflow connection.

        :raises RuntimeError: if it is not running.
        """
        if self._server is None:
            raise RuntimeError("the sandbox is not running: call start(), or use it in a `with` statement")
        return self._server.url

    @property
    def todos(self) -> list[dict[str, Any]]:
        """Return copies of its todos, in order of creation; also after ``stop``.

        Each has the keys of its message, and ``key``, ``taskLink``, ``tags``, ``createdAt``; and ``dueDate`` if its
        status is DONE.
        """
        return self._state.todos.all()

    @property
    def requests(self) -> list[RecordedRequest]:
        """Return the recorded requests, the oldest first, without those to ``/sandbox/``; also after ``stop``."""
        return list(self._state.requests)
