"""Run the sandbox as an object, with its server in threads of this process."""

from __future__ import annotations

import errno
from typing import TYPE_CHECKING, Any

from bzctrl_provider.sandbox.app import Application
from bzctrl_provider.sandbox.controls import SandboxControls
from bzctrl_provider.sandbox.fault_injector import FaultInjector
from bzctrl_provider.sandbox.faults import FaultPlan
from bzctrl_provider.sandbox.http_server import SandboxServer
from bzctrl_provider.sandbox.state import State, TodoStore, TokenStore, utc_now

if TYPE_CHECKING:
    from collections.abc import Callable
    from datetime import datetime
    from pathlib import Path
    from types import TracebackType
    from typing import Self

    from bzctrl_provider.sandbox.state import RecordedRequest

MAX_TOKEN_LIFETIME_S = 1_000_000_000

_EVERYWHERE = {"0.0.0.0": "127.0.0.1", "::": "::1", "": "127.0.0.1"}  # noqa: S104 - compared with, not bound to


class Sandbox(SandboxControls):
    """Serve a stand-in BzCtrl from threads of this process.

    Use it as a context manager, or call ``start`` and ``stop``:

    ```python
    with Sandbox() as sandbox:
        sandbox.fail_next(503, retry_after_s=1)
        ...  # create a todo at sandbox.url
        print(sandbox.todos)
    ```

    :param host: the address to listen at, default ``127.0.0.1``: only this machine.
    :param port: the port, default 0: any free one, which ``url`` then shows.
    :param data: an SQLite file that keeps the todos, which other sandboxes may use at the same time; by default they
        are kept in memory and lost after ``stop``.
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
        clock: Callable[[], datetime] = utc_now,
    ) -> None:
        problems = []
        if (username is None) != (password is None):
            problems.append("username and password go together")
        if "" in (username, password):
            problems.append("username and password must not be empty")
        if not 0 < token_lifetime_s <= MAX_TOKEN_LIFETIME_S:
            problems.append(
                f"token_lifetime_s must be seconds, more than 0 and at most {MAX_TOKEN_LIFETIME_S:,}, "
                f"not {token_lifetime_s!r}"
            )
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

    def start(self) -> None:
        """Start to serve; it is ready when this returns.

        :raises OSError: if the port is in use, or the address or the data file cannot be used.
        :raises ValueError: if the data file is not a sandbox's.
        :raises RuntimeError: if it runs already.
        """
        if self._server is not None:
            raise RuntimeError(f"the sandbox runs already, at {self._url}")
        injector = FaultInjector(
            Application(self._state, self._faults),
            faults=self._faults,
            requests=self._state.requests,
            clock=self._clock,
        )
        try:
            server = SandboxServer(self._host, self._port, injector)
        except OSError as exc:
            raise OSError(exc.errno, _describe_refusal(self._host, self._port, exc)) from exc
        try:
            self._state.todos.open()
        except BaseException:
            server.server_close()
            raise
        server.start()
        self._url = _make_url(self._host, server.port)
        self._server = server

    def stop(self) -> None:
        """Stop serving. Slow responses are broken off; no thread is left. A second call does nothing."""
        if self._server is None:
            return
        self._server.stop()
        self._state.todos.close()
        self._server = self._url = None

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
        """Return its address, such as ``http://127.0.0.1:40123``: the Host of an Airflow connection.

        :raises RuntimeError: if it is not running.
        """
        if self._url is None:
            raise RuntimeError("the sandbox is not running: call start(), or use it in a `with` statement")
        return self._url

    @property
    def todos(self) -> list[dict[str, Any]]:
        """Return copies of its todos, in order of creation.

        Each has the keys of its message, and ``key``, ``taskLink``, ``tags``, ``createdAt``; and ``dueDate`` if its
        status is DONE.

        :raises RuntimeError: if it is not running.
        """
        return self._state.todos.all()

    @property
    def requests(self) -> list[RecordedRequest]:
        """Return copies of the recorded requests, the oldest first, without those to ``/sandbox/``.

        The newest 10,000 are kept, or fewer if they have more than 64 MiB together. They can be read after ``stop``,
        too.
        """
        return self._state.requests.all()


def _describe_refusal(host: str, port: int, exc: OSError) -> str:
    remedy = (
        "`--port 0` (port=0) takes any port that is free"
        if exc.errno == errno.EADDRINUSE
        else "name an address of this machine, or none, and a port that you may use"
    )
    return f"cannot listen at {host}, port {port}: {exc.strerror or exc}; {remedy}"


def _make_url(host: str, port: int) -> str:
    reachable = _EVERYWHERE.get(host, host)
    return f"http://[{reachable}]:{port}" if ":" in reachable else f"http://{reachable}:{port}"
