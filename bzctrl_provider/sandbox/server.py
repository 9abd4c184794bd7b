"""The sandbox as an object: a server in a thread of its own."""

from __future__ import annotations

import errno
import math
import socket
import threading
from typing import TYPE_CHECKING, Any, Final

from bzctrl_provider.sandbox.faults import FaultPlan
from bzctrl_provider.sandbox.state import State, TodoStore, TokenStore, utc_now
from bzctrl_provider.sandbox.steering import Steering

if TYPE_CHECKING:
    from collections.abc import Callable
    from datetime import datetime
    from pathlib import Path
    from types import TracebackType
    from typing import Self

    from bzctrl_provider.sandbox.serving import SandboxServer
    from bzctrl_provider.sandbox.state import RecordedRequest

REMEDY: Final = "pip install 'airflow-provider-bzctrl[sandbox]'"

_BACKLOG: Final = 256
_LOOK_S: Final = 0.1
_EVERYWHERE: Final = {"0.0.0.0": "127.0.0.1", "::": "::1", "": "127.0.0.1"}  # noqa: S104 - compared with, not bound to


class Sandbox(Steering):
    """A stand-in BzCtrl that serves from a thread of this process.

    Use it as a context manager, or call `start` and `stop`:

    ```python
    with Sandbox() as sandbox:
        sandbox.fail_next(503, retry_after_s=1)
        ...  # create a todo at sandbox.url
        print(sandbox.todos)
    ```

    :param host: the address to listen at, default `127.0.0.1`: this machine alone.
    :param port: the port, default 0: any free one, which `url` then shows.
    :param data: an SQLite file that keeps the todos, which other sandboxes may use at the same time; by default they
        are kept in memory and are gone after `stop`.
    :param username: the only username accepted; by default any is, with any password.
    :param password: its password; given together with `username` or not at all.
    :param token_lifetime_s: seconds after which a token is refused, default 3600.
    :param clock: what tells the time, for tokens and dates of creation; returns an aware datetime.
    :raises ValueError: naming every argument that does not fit.
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
        clock: Callable[[], datetime] = utc_now,
    ) -> None:
        problems = []
        if (username is None) != (password is None):
            problems.append("username and password go together")
        if "" in (username, password):
            problems.append("username and password must not be empty")
        if not math.isfinite(token_lifetime_s) or token_lifetime_s <= 0:
            problems.append(f"token_lifetime_s must be seconds, more than 0, not {token_lifetime_s!r}")
        if not 0 <= port <= 65535:  # noqa: PLR2004 - the highest port there is
            problems.append(f"port must be from 0 (any free one) to 65535, not {port!r}")
        if problems:
            raise ValueError("; ".join(problems))
        state = State(
            todos=TodoStore(data, clock=clock),
            tokens=TokenStore(lifetime_s=token_lifetime_s, clock=clock),
            credentials=None if username is None or password is None else (username, password),
        )
        super().__init__(state, FaultPlan())
        self._host = host
        self._port = port
        self._clock = clock
        self._url: str | None = None
        self._server: SandboxServer | None = None
        self._thread: threading.Thread | None = None

    def start(self) -> None:
        """Begin to serve; it is ready when this returns.

        :raises ImportError: where FastAPI, uvicorn or Jinja is missing, with the command that installs them.
        :raises OSError: where the port is in use or the address or the data file cannot be used.
        :raises ValueError: where the data file is something else.
        :raises RuntimeError: where it runs already, or its server cannot start.
        """
        if self._thread is not None:
            msg = f"the sandbox runs already, at {self._url}"
            raise RuntimeError(msg)
        try:
            # Here and not above: the pytest plugin and the command line are there without the extra as well.
            from bzctrl_provider.sandbox.serving import build_server
        except ModuleNotFoundError as exc:
            msg = f"the BzCtrl sandbox needs {exc.name}: {REMEDY}"
            raise ImportError(msg, name=exc.name) from exc
        # Bound in the caller's thread, so that a port in use is the caller's error and not a thread's.
        listener = _listen(self._host, self._port)
        try:
            self._state.todos.open()
        except BaseException:
            listener.close()
            raise
        self._url = _url(self._host, listener.getsockname()[1])
        self._server = build_server(self._state, self._faults, clock=self._clock)
        self._thread = threading.Thread(
            target=self._server.run,
            args=([listener],),
            name="bzctrl-sandbox",
            daemon=True,
        )
        self._thread.start()
        while not self._server.ready.wait(_LOOK_S):
            if not self._thread.is_alive():
                self.stop()
                listener.close()
                msg = "the sandbox's server ended before it was ready; the log of uvicorn.error says why"
                raise RuntimeError(msg)

    def stop(self) -> None:
        """Stop serving. Slow answers are broken off; no thread is left. A second call does nothing."""
        if self._thread is None or self._server is None:
            return
        self._server.should_exit = True
        self._thread.join()
        self._state.todos.close()
        self._server = self._thread = self._url = None

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(
        self,
        exc_type: type[BaseException] | None,
        exc: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.stop()

    @property
    def url(self) -> str:
        """Its address, such as `http://127.0.0.1:40123`: the Host of an Airflow connection.

        :raises RuntimeError: where it is not running.
        """
        if self._url is None:
            msg = "the sandbox is not running: call start(), or use it in a `with` statement"
            raise RuntimeError(msg)
        return self._url

    @property
    def todos(self) -> list[dict[str, Any]]:
        """Copies of the todos it has, in order of creation.

        Each has the keys of the message it came in, and `key`, `taskLink`, `tags`, `createdAt`; and `dueDate` where
        its status is DONE.

        :raises RuntimeError: where it is not running.
        """
        return self._state.todos.all()

    @property
    def requests(self) -> list[RecordedRequest]:
        """Copies of the records of the newest 10 000 requests, the oldest first, without those to `/sandbox/`.

        They can be read after `stop` as well.
        """
        return self._state.requests.all()


def _listen(host: str, port: int) -> socket.socket:
    try:
        family, *_, address = socket.getaddrinfo(
            host or None, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE
        )[0]
        return socket.create_server(address[:2], family=family, backlog=_BACKLOG)
    except OSError as exc:
        # Python repeats the address in brackets.
        reason = (exc.strerror or str(exc)).partition(" (while ")[0]
        remedy = (
            "`--port 0` (port=0) takes any port that is free"
            if exc.errno == errno.EADDRINUSE
            else "name an address of this machine, or none, and a port that you may use"
        )
        raise OSError(exc.errno, f"cannot listen at {host}, port {port}: {reason}; {remedy}") from exc


def _url(host: str, port: int) -> str:
    reachable = _EVERYWHERE.get(host, host)
    return f"http://[{reachable}]:{port}" if ":" in reachable else f"http://{reachable}:{port}"
