"""Calls that are ended from outside, or that cannot begin: by a signal, a proxy that is none."""

from __future__ import annotations

import os
import signal
import threading
import time
from pathlib import Path

import pytest
from support.errors import get_error
from support.scripted_server import hang, reply

from bzctrl_provider.exceptions import BzCtrlTransportError


class TaskStoppedError(Exception):
    """Raised by the signal handler of a task, such as a scheduler's own timeout."""


@pytest.fixture
def stop_after():
    """Return a function that has a signal handler raise ``TaskStoppedError`` in the main thread after so many seconds."""

    def stop(*_):
        raise TaskStoppedError

    previous = signal.signal(signal.SIGALRM, stop)
    yield lambda seconds: signal.setitimer(signal.ITIMER_REAL, seconds)
    signal.setitimer(signal.ITIMER_REAL, 0)
    signal.signal(signal.SIGALRM, previous)


# --- signals ---------------------------------------------------------------------------------------------------------


def test_create_todo_signal_handler_raises_in_request_comes_out(server, new_client, fields, stop_after):
    """An exception of the task's own in the middle of a request is no transport error, and is not swallowed."""
    for kind in ["token", "create"]:
        server.reset()
        setattr(server, kind, [hang])
        client = new_client()
        stop_after(0.3)
        with pytest.raises(TaskStoppedError):
            client.create_todo(fields)
        assert len(server.sent("create")) == (1 if kind == "create" else 0)


def test_create_todo_signal_handler_raises_in_wait_comes_out(server, new_client, fields, stop_after):
    """As in the middle of a wait of a minute."""
    server.create = [reply(429, headers=["Retry-After: 60"])]
    client = new_client()
    stop_after(0.5)
    began = time.monotonic()
    with pytest.raises(TaskStoppedError):
        client.create_todo(fields)
    assert time.monotonic() - began < 3


def test_create_todos_task_is_stopped_ends_all_waits(server, new_client, fields, stop_after):
    """Eight threads that wait for a minute end at once, none of them sends its todo again, and the other todos are not begun."""
    server.create = [reply(429, headers=["Retry-After: 60"])]
    client = new_client()
    stop_after(1.0)
    began = time.monotonic()
    with pytest.raises(TaskStoppedError):
        client.create_todos([fields] * 100, max_workers=8)
    assert time.monotonic() - began < 5
    assert len(server.sent("create")) <= 8


# --- what cannot be sent ---------------------------------------------------------------------------------------------


def test_create_todo_ca_file_vanished_was_not_sent(server, new_client, fields, tmp_path, authority):
    """The CA file was there when the connection was read, and is gone now: the outcome is known."""
    server.tls, ca_bundle = authority
    client = new_client(f"https://127.0.0.1:{server.port}", verify=ca_bundle)
    client.check_credentials()
    client.close()
    Path(ca_bundle).unlink()
    error = get_error(client, fields)
    assert type(error) is BzCtrlTransportError
    assert not error.outcome_unknown
    assert "was not sent" in str(error)
    assert server.sent("create") == []


@pytest.mark.security
def test_create_todo_unusable_proxy_was_not_sent(new_client, fields, monkeypatch):
    """A malformed address, or SOCKS without PySocks: nothing was sent, and the proxy's password is in no error."""
    for proxy in [
        "http://user:pr0xy-password@proxy.example:not-a-port",
        "http://user:pr0xy-password@[proxy",
        "socks5://user:pr0xy-password@127.0.0.1:1080",
        "nonsense://user:pr0xy-password@127.0.0.1:1080",
    ]:
        for name in ("NO_PROXY", "no_proxy", "https_proxy"):
            monkeypatch.delenv(name, raising=False)
        monkeypatch.setenv("HTTPS_PROXY", proxy)
        error = get_error(new_client("https://bzctrl.invalid"), fields)
        assert type(error) is BzCtrlTransportError
        assert not error.outcome_unknown
        assert "was not sent" in str(error)
        assert "pr0xy-password" not in str(error) + repr(error)


# --- fork ------------------------------------------------------------------------------------------------------------


@pytest.mark.filterwarnings("ignore:.*fork.*:DeprecationWarning")
def test_create_todo_threads_of_a_forked_child_use_no_socket_of_the_parent(server, new_client, fields):
    """In each of 50 children, eight threads begin at once; none of them writes into the parent's connection."""
    client = new_client()
    client.create_todo(fields)
    parents = client._requester
    for _ in range(50):
        child = os.fork()
        if child == 0:
            start = threading.Barrier(8)
            used = []

            def use(start=start, used=used):
                start.wait(10)
                used.append(client._requester)

            threads = [threading.Thread(target=use) for _ in range(8)]
            for thread in threads:
                thread.start()
            for thread in threads:
                thread.join(10)
            os._exit(0 if len(used) == 8 and all(own is not parents for own in used) else 1)
        assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
    assert client.create_todo(fields).title == "t"
    assert server.connections == 1
