"""Starting, stopping, clients that misbehave, the data file, the command line and the pytest fixture."""

from __future__ import annotations

import json
import logging
import os
import signal
import socket
import subprocess
import sys
import threading
from pathlib import Path
from urllib.parse import urlsplit

import pytest
import requests

import bzctrl_provider.sandbox
from bzctrl_provider.sandbox import Sandbox

ROOT = Path(__file__).parents[3]
ENVIRONMENT = os.environ | {"PYTHONPATH": str(ROOT), "PYTHONUNBUFFERED": "1"}
LINE = b"POST /bzctrl-core-api/oauth/token HTTP/1.1\r\nHost: x\r\n"


def run_python(*arguments, cwd=None):
    command = [sys.executable, *arguments]
    return subprocess.run(
        command, capture_output=True, text=True, timeout=60, check=False, env=ENVIRONMENT, cwd=cwd
    )


def connect(url, sent=b""):
    parts = urlsplit(url)
    connection = socket.create_connection((parts.hostname, parts.port), timeout=10)
    connection.sendall(sent)
    return connection


def receive_all(connection):
    received = b""
    with connection:
        while piece := connection.recv(65536):
            received += piece
    return received


@pytest.fixture
def command():
    """Return a function that starts the command; each process is ended after the test."""
    started = []

    def start(*arguments):
        process = subprocess.Popen(
            [sys.executable, "-W", "error", "-m", "bzctrl_provider.sandbox", "--port", "0", *arguments],
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            env=ENVIRONMENT,
        )
        started.append(process)
        greeting = ""
        while "Ctrl-C" not in greeting:
            line = process.stdout.readline()
            assert line, "it ended before it served"
            greeting += line
        return process, greeting.split("\n")[0].split()[-1], greeting

    yield start
    for process in started:
        process.kill()
        process.communicate()


def test_stop_with_clients_of_every_kind_is_prompt_and_leaves_nothing(make_caller, within):
    """Idle connections, half a request and unread responses do not delay `stop`; no thread is left, the port is free."""
    before = set(threading.enumerate())
    sandbox = Sandbox()
    sandbox.start()
    port = urlsplit(sandbox.url).port
    caller = make_caller(sandbox.url).log_in()
    clients = [
        connect(sandbox.url),
        connect(sandbox.url, b"GET /app"),
        connect(sandbox.url, LINE + b"Content-Length: 100\r\n\r\nhalf"),
        # Responses that the client never reads, until the sandbox cannot send any more.
        connect(sandbox.url, b"GET /app/sandbox.css HTTP/1.1\r\nHost: x\r\n\r\n" * 5_000),
    ]
    caller.create()
    with within(seconds=2):
        sandbox.stop()
    assert set(threading.enumerate()) <= before
    with pytest.raises(requests.exceptions.ConnectionError):
        caller.create()
    with Sandbox(port=port) as again:
        assert again.url == f"http://127.0.0.1:{port}"
    for client in clients:
        client.close()


def test_client_that_misbehaves_ends_only_its_own_connection(sandbox, caller):
    """Requests that are no HTTP, have no length, or end half-way leave the sandbox as it was, without a record."""
    for sent, status in [
        (b"nonsense\r\n\r\n", None),
        (b"GET /app/ HTTP/2.0\r\n\r\n", None),
        (b"BREW /app/ HTTP/1.1\r\nHost: x\r\n\r\n", 501),
        (b"GET /" + b"[" * 70_000 + b" HTTP/1.1\r\n\r\n", None),
        (LINE + b"".join(b"A%d: b\r\n" % n for n in range(101)) + b"\r\n", 431),
        (LINE + b"Content-Length: -1\r\n\r\n", 411),
        (LINE + b"Content-Length: 99999999999\r\n\r\n", 411),
        (LINE + b"Transfer-Encoding: chunked\r\n\r\n1\r\na\r\n0\r\n\r\n", 411),
        (LINE + b"Content-Length: 100\r\n\r\nhalf", None),
    ]:
        connection = connect(sandbox.url, sent)
        connection.shutdown(socket.SHUT_WR)
        try:
            received = receive_all(connection)
        except ConnectionResetError:  # it was refused before it was read completely
            continue
        assert status is None or received.startswith(b"HTTP/1.1 %d " % status), sent[:80]
    assert sandbox.requests == []
    assert caller.create().status_code == 200


def test_http_1_0_and_continue_are_served(sandbox):
    """HTTP/1.0 needs no Host; a client that expects 100 gets it before it sends its body."""
    received = receive_all(connect(sandbox.url, b"GET /sandbox/health HTTP/1.0\r\n\r\n"))
    assert received.startswith(b"HTTP/1.1 200 OK")
    with connect(sandbox.url, LINE + b"Expect: 100-continue\r\nContent-Length: 1\r\n\r\n") as connection:
        assert connection.recv(65536) == b"HTTP/1.1 100 Continue\r\n\r\n"
        connection.sendall(b"x")
        assert connection.recv(65536).startswith(b"HTTP/1.1 415 ")


def test_defect_of_the_sandbox_is_written_to_the_error_stream(sandbox, caller, monkeypatch, capfd):
    """It ends the connection, and the traceback says why."""
    monkeypatch.setattr(sandbox._state.todos, "create", lambda *_, **__: 1 / 0)
    with pytest.raises(requests.exceptions.ConnectionError):
        caller.create()
    assert "ZeroDivisionError" in capfd.readouterr().err


def test_create_in_a_row_is_quick(sandbox, caller, within):
    """Headers and body do not wait for each other, so that 50 requests take less than 1.5 seconds."""
    with within(seconds=1.5):
        for _ in range(50):
            caller.create()
    assert len(sandbox.todos) == 50


def test_server_that_serves_logs_nothing(make_caller, caplog, capfd):
    """A sandbox puts nothing into the log or the output of the tests that use it."""
    caplog.set_level(logging.INFO)
    # The client of this test logs as well, to the output once Airflow 3.0 has run a DAG in this process.
    caplog.set_level(logging.WARNING, logger="urllib3")
    with Sandbox() as sandbox:
        make_caller(sandbox.url).token()
        make_caller(sandbox.url).send("GET", "/nowhere")
        receive_all(connect(sandbox.url, b"nonsense\r\n\r\n"))
    assert [record for record in caplog.records if record.name.startswith("bzctrl")] == []
    assert capfd.readouterr() == ("", "")


def test_sandbox_in_the_wrong_state_raises(make_caller):
    """The address of a stopped one is an error; todos and requests can be read after `stop`."""
    sandbox = Sandbox()
    with pytest.raises(RuntimeError, match="not running"):
        _ = sandbox.url
    with sandbox:
        make_caller(sandbox.url).log_in().create()
    with pytest.raises(RuntimeError, match="not running"):
        _ = sandbox.url
    sandbox.stop()
    assert len(sandbox.todos) == 1
    assert [record.status for record in sandbox.requests] == [200, 200]
    with sandbox:
        assert sandbox.todos == []


def test_start_with_a_port_in_use_raises(tmp_path):
    """The caller gets an OSError with the port and the remedy, and nothing is left half-started."""
    before = set(threading.enumerate())
    data = tmp_path / "todos.sqlite"
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        with pytest.raises(OSError, match=rf"port {port}: .*--port 0"):
            Sandbox(port=port, data=data).start()
        ended = run_python("-m", "bzctrl_provider.sandbox", "--port", str(port))
    assert (ended.returncode, ended.stdout, ended.stderr.count("\n")) == (1, "", 1)
    assert set(threading.enumerate()) <= before
    with Sandbox(data=data), pytest.raises(OSError, match="locked"):
        Sandbox(data=data).start()


def test_url_of_every_address_can_be_used(make_caller):
    """It has the address of this machine, to which a client can connect."""
    with Sandbox(host="0.0.0.0") as sandbox:
        assert sandbox.url.startswith("http://127.0.0.1:")
        assert make_caller(sandbox.url).token().status_code == 200


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_command_with_a_signal_ends_with_code_0(command, make_caller, tmp_path, number):
    """The command ends with code 0 and no traceback, prints no password, and has its todos again after a restart."""
    arguments = ("--username", "jane", "--password", "Ex@mpl3!", "--data", str(tmp_path / "todos.sqlite"))
    for count in (1, 2):
        process, url, greeting = command(*arguments, "--token-lifetime", "60")
        caller = make_caller(url).log_in()
        assert caller.token().json()["expires_in"] == 60
        assert caller.create().json()["taskLink"].endswith(f"-0{count}")
        process.send_signal(number)
        assert process.communicate(timeout=10) == ("", "")
        assert process.returncode == 0
        assert f"{url}/app/" in greeting
        assert "Ex@mpl3!" not in greeting


def test_import_of_the_plugin_loads_nothing_heavy():
    """Neither the package nor the pytest plugin loads a server, a client or Airflow."""
    heavy = "{'http.server', 'requests', 'pydantic', 'jinja2', 'sqlite3', 'airflow', 'asyncio'}"
    code = (
        "import pytest, sys; before = set(sys.modules)\n"
        "import bzctrl_provider.sandbox.pytest_plugin, bzctrl_provider.sandbox\n"
        f"loaded = (set(sys.modules) - before) & {heavy}\n"
        "assert not loaded, loaded"
    )
    ended = run_python("-c", code)
    assert (ended.returncode, ended.stderr) == (0, "")


def test_sandbox_that_serves_loads_neither_client_nor_airflow():
    """A running sandbox loads nothing of the provider but itself, and besides the standard library only Jinja."""
    code = (
        "import sys\n"
        "before = set(sys.modules)\n"
        "from urllib.request import urlopen\n"
        "from bzctrl_provider.sandbox import Sandbox\n"
        "with Sandbox() as sandbox: urlopen(sandbox.url + '/app/').read()\n"
        "print([name for name in sys.modules if name.startswith('bzctrl_provider.')"
        " and not name.startswith('bzctrl_provider.sandbox')])\n"
        "loaded = {name.partition('.')[0] for name in set(sys.modules) - before}\n"
        "print(*sorted(loaded - set(sys.stdlib_module_names)))"
    )
    ended = run_python("-W", "error", "-X", "dev", "-c", code)
    assert (ended.stdout, ended.stderr) == ("[]\nbzctrl_provider jinja2 markupsafe\n", "")


def test_package_with_each_promised_name_exports_it():
    """Every promised name is there, and an unknown one is an AttributeError."""
    for name in bzctrl_provider.sandbox.__all__:
        assert getattr(bzctrl_provider.sandbox, name) is not None
    with pytest.raises(AttributeError, match="nonsense"):
        _ = bzctrl_provider.sandbox.nonsense


def test_fixture_in_a_test_sets_the_connection(bzctrl_sandbox, monkeypatch):
    """The fixture provides an empty sandbox and the connection that leads to it."""
    assert (bzctrl_sandbox.todos, bzctrl_sandbox.requests) == ([], [])
    connection = json.loads(os.environ["AIRFLOW_CONN_BZCTRL_DEFAULT"])
    assert connection.pop("password").startswith("sandbox-password-")
    assert connection == {
        "conn_type": "bzctrl",
        "host": bzctrl_sandbox.url,
        "login": "sandbox@example.com",
        "extra": {"domain_workspace": "EXA-CON-BUS-WOR", "reporter": "sandbox@example.com"},
    }
    assert "127.0.0.1" in os.environ["NO_PROXY"].split(",")
    monkeypatch.undo()
    assert "AIRFLOW_CONN_BZCTRL_DEFAULT" not in os.environ


def test_fixture_in_several_tests_is_a_new_sandbox(tmp_path):
    """In a project of a user, each test gets a sandbox of its own, and no fault of another test."""
    (tmp_path / "test_theirs.py").write_text(
        "import os, requests\n"
        "def token(sandbox):\n"
        "    form = {'grant_type': 'password', 'username': 'u', 'password': 'p'}\n"
        "    return requests.post(sandbox.url + '/bzctrl-core-api/oauth/token', data=form, timeout=5).status_code\n"
        "def test_one(bzctrl_sandbox):\n"
        "    bzctrl_sandbox.fail_next(503, on='token', times=2)\n"
        "    assert token(bzctrl_sandbox) == 503\n"
        "def test_two(bzctrl_sandbox):\n"
        "    assert bzctrl_sandbox.requests == []\n"
        "    assert token(bzctrl_sandbox) == 200\n"
        "def test_three():\n"
        "    assert 'AIRFLOW_CONN_BZCTRL_DEFAULT' not in os.environ\n",
    )
    options = ["-q", "-W", "error", "-c", os.devnull, "-p", "no:cacheprovider"]
    ended = run_python("-m", "pytest", *options, "test_theirs.py", cwd=tmp_path)
    assert "3 passed" in ended.stdout, ended.stdout + ended.stderr
