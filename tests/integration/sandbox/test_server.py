"""Starting, stopping, sharing a file, the command line and the pytest fixture."""

from __future__ import annotations

import json
import logging
import os
import signal
import socket
import subprocess
import sys
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

import pytest
import requests

import bzctrl_provider.sandbox
from bzctrl_provider.sandbox import Sandbox, cli

if TYPE_CHECKING:
    from collections.abc import Iterator

ROOT = Path(__file__).parents[3]


def environment() -> dict[str, str]:
    return os.environ | {"PYTHONPATH": str(ROOT), "PYTHONUNBUFFERED": "1"}


def run_python(*arguments: str, cwd: Path | None = None) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, *arguments]
    return subprocess.run(
        command, capture_output=True, text=True, timeout=60, check=False, env=environment(), cwd=cwd
    )


def exchange(url: str, sent: bytes) -> bytes:
    """Send bytes over a connection of their own, and return everything that comes back."""
    host, port = urlsplit(url).netloc.split(":")
    with socket.create_connection((host, int(port)), timeout=10) as connection:
        connection.sendall(sent)
        received = b""
        while piece := connection.recv(65536):
            received += piece
    return received


@pytest.fixture
def command() -> Iterator[Any]:
    started: list[subprocess.Popen[str]] = []

    def start(*arguments: str) -> tuple[subprocess.Popen[str], str, str]:
        process = subprocess.Popen(
            [sys.executable, "-W", "error", "-m", "bzctrl_provider.sandbox", "--port", "0", *arguments],
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            env=environment(),
        )
        started.append(process)
        assert process.stdout is not None
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


def test_start_and_stop_leave_nothing(make_caller: Any) -> None:
    """After `with`, no thread is left and the port is free; idle connections do not hold the end up."""
    before = threading.active_count()
    with Sandbox() as sandbox:
        caller = make_caller(sandbox.url).log_in()
        port = urlsplit(sandbox.url).port
        assert port
        began = time.monotonic()
    assert time.monotonic() - began < 2
    assert threading.active_count() == before
    with pytest.raises(requests.exceptions.ConnectionError):
        caller.create()
    with Sandbox(port=port) as again:
        assert again.url == sandbox_url(port)


def sandbox_url(port: int) -> str:
    return f"http://127.0.0.1:{port}"


def test_server_that_serves_logs_nothing(
    make_caller: Any, caplog: pytest.LogCaptureFixture, capfd: pytest.CaptureFixture[str]
) -> None:
    """A sandbox puts nothing into the log or the output of the tests that use it."""
    caplog.set_level(logging.DEBUG)
    with Sandbox() as sandbox:
        make_caller(sandbox.url).token()
        make_caller(sandbox.url).send("GET", "/nowhere")
        exchange(sandbox.url, b"nonsense\r\n\r\n")
    assert [record for record in caplog.records if record.name.startswith("bzctrl")] == []
    assert capfd.readouterr() == ("", "")


def test_states_that_do_not_fit_are_named() -> None:
    """A second start, and reading what is only there while it runs, are clear errors; a second stop is none."""
    sandbox = Sandbox()
    with pytest.raises(RuntimeError, match="not running"):
        _ = sandbox.url
    with sandbox, pytest.raises(RuntimeError, match="runs already"):
        sandbox.start()
    with pytest.raises(RuntimeError, match="not running"):
        _ = sandbox.todos
    sandbox.stop()
    assert sandbox.requests == []


def test_requests_can_be_read_after_the_end(make_caller: Any) -> None:
    """Assertions about requests may follow the `with` block."""
    with Sandbox() as sandbox:
        make_caller(sandbox.url).token()
    assert [record.status for record in sandbox.requests] == [200]


def test_port_in_use_is_reported_at_once() -> None:
    """The caller gets an OSError with the port and the remedy, and no server is left half-started."""
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        before = threading.active_count()
        with pytest.raises(OSError, match=rf"port {port}: .*--port 0"):
            Sandbox(port=port).start()
    assert threading.active_count() == before


def test_half_a_request_does_not_hold_the_end_up() -> None:
    """A client that sends half a request and waits cannot keep the sandbox running."""
    with Sandbox() as sandbox:
        host, port = urlsplit(sandbox.url).netloc.split(":")
        connection = socket.create_connection((host, int(port)))
        connection.sendall(
            b"POST /bzctrl-core-api/oauth/token HTTP/1.1\r\nHost: x\r\nContent-Length: 9\r\n\r\n"
        )
        requests.get(f"{sandbox.url}/sandbox/health", timeout=5, proxies={"http": ""})
        began = time.monotonic()
    assert time.monotonic() - began < 3
    connection.close()


@pytest.mark.skipif(not socket.has_dualstack_ipv6(), reason="this machine has no IPv6")
def test_ipv6(make_caller: Any) -> None:
    """An IPv6 address has brackets in the sandbox's URL."""
    with Sandbox(host="::1") as sandbox:
        assert sandbox.url.startswith("http://[::1]:")
        assert make_caller(sandbox.url).token().status_code == 200


def test_everywhere_is_reached_here() -> None:
    """Listening at every address, the sandbox gives one that can be opened on this machine."""
    with Sandbox(host="0.0.0.0") as sandbox:
        assert sandbox.url.startswith("http://127.0.0.1:")


def test_data_file_survives_a_restart(tmp_path: Path, make_caller: Any) -> None:
    """Todos in a file are there after a restart, and keys count on."""
    sandbox = Sandbox(data=tmp_path / "todos.sqlite")
    for expected in (1, 2):
        with sandbox:
            make_caller(sandbox.url).log_in().create()
            assert [todo["key"] for todo in sandbox.todos][-1] == f"EXA-CON-BUS-WOR-0{expected}"
    with pytest.raises(OSError, match="cannot"):
        Sandbox(data=tmp_path).start()


def test_two_processes_share_a_file(tmp_path: Path, command: Any, make_caller: Any) -> None:
    """Two sandboxes over one file, asked at once, never give the same key twice."""
    data = str(tmp_path / "shared.sqlite")
    callers = [make_caller(command("--data", data)[1]).log_in() for _ in range(2)]
    with ThreadPoolExecutor(8) as pool:
        answers = list(pool.map(lambda number: callers[number % 2].create(), range(40)))
    assert [answer.status_code for answer in answers] == [200] * 40
    assert len({answer.json()["taskLink"].rpartition("/")[2] for answer in answers}) == 40
    listed = [caller.send("GET", "/sandbox/todos").json() for caller in callers]
    assert listed[0] == listed[1]
    assert len(listed[0]) == 40


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_command_ends_in_order(command: Any, make_caller: Any, number: signal.Signals) -> None:
    """The command serves until Ctrl-C or SIGTERM, then ends with code 0 and without a traceback."""
    process, url, greeting = command("--username", "jane", "--password", "Ex@mpl3!", "--token-lifetime", "60")
    answer = make_caller(url).token()
    assert answer.json()["expires_in"] == 60
    process.send_signal(number)
    assert process.communicate(timeout=10) == ("", "")
    assert process.returncode == 0
    assert f"{url}/app/" in greeting
    assert "Ex@mpl3!" not in greeting


def test_command_warns_of_an_open_door(command: Any) -> None:
    """Listening to the whole network is possible, and said to be what it is."""
    process, _, greeting = command("--host", "0.0.0.0")
    process.terminate()
    _, errors = process.communicate(timeout=10)
    assert "Everybody on the network can reach the sandbox" in errors
    assert '"allow_http": true' in greeting


def test_command_with_a_port_in_use() -> None:
    """A port in use ends the command with one line and code 1."""
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        ended = run_python("-m", "bzctrl_provider.sandbox", "--port", str(port))
    assert (ended.returncode, ended.stdout, ended.stderr.count("\n")) == (1, "", 1)
    assert f"port {port}" in ended.stderr
    assert "--port 0" in ended.stderr


@pytest.mark.parametrize("host", ["127.0.0.1", "0.0.0.0"])
def test_command_in_this_process(host: str, capsys: pytest.CaptureFixture[str]) -> None:
    """`main` returns 0 when the signal comes, and leaves no thread."""
    before = threading.active_count()
    timer = threading.Timer(0.3, signal.raise_signal, [signal.SIGTERM])
    timer.start()
    assert cli.main(["--port", "0", "--host", host]) == 0
    timer.join()
    assert threading.active_count() == before
    output = capsys.readouterr()
    assert "point Airflow at it" in output.out
    assert ("Everybody" in output.err) is (host == "0.0.0.0")


def test_import_of_the_plugin_loads_nothing_heavy() -> None:
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


def test_sandbox_never_loads_the_client_or_airflow() -> None:
    """A running sandbox has loaded nothing of the provider but itself."""
    code = (
        "import sys\n"
        "from bzctrl_provider.sandbox import Sandbox\n"
        "with Sandbox(): pass\n"
        "print([name for name in sys.modules if name.split('.')[0] == 'airflow'"
        " or name.startswith('bzctrl_provider.') and not name.startswith('bzctrl_provider.sandbox')])"
    )
    assert run_python("-W", "error", "-X", "dev", "-c", code).stdout == "[]\n"


def test_sandbox_that_serves_needs_no_web_framework() -> None:
    """Apart from the standard library, a running sandbox has loaded only Jinja, which Airflow brings."""
    code = (
        "import sys\n"
        "before = set(sys.modules)\n"
        "from urllib.request import urlopen\n"
        "from bzctrl_provider.sandbox import Sandbox\n"
        "with Sandbox() as sandbox: urlopen(sandbox.url + '/app/').read()\n"
        "loaded = {name.partition('.')[0] for name in set(sys.modules) - before}\n"
        "print(*sorted(loaded - set(sys.stdlib_module_names)))"
    )
    ended = run_python("-W", "error", "-c", code)
    assert (ended.stdout, ended.stderr) == ("bzctrl_provider jinja2 markupsafe\n", "")


def test_package_exports() -> None:
    """Every promised name is there, and an unknown one is an AttributeError."""
    for name in bzctrl_provider.sandbox.__all__:
        assert getattr(bzctrl_provider.sandbox, name) is not None
    with pytest.raises(AttributeError, match="nonsense"):
        _ = bzctrl_provider.sandbox.nonsense


def test_fixture_points_airflow_at_the_sandbox(
    bzctrl_sandbox: Sandbox, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The fixture gives an empty sandbox and the connection that leads to it."""
    assert (bzctrl_sandbox.todos, bzctrl_sandbox.requests) == ([], [])
    connection = json.loads(os.environ["AIRFLOW_CONN_BZCTRL_DEFAULT"])
    assert connection.pop("password").startswith("sandbox-password-")
    assert connection == {
        "conn_type": "bzctrl",
        "host": bzctrl_sandbox.url,
        "login": "sandbox@example.com",
        "extra": {"domain_workspace": "EXA-CON-BUS-WOR", "reporter": "sandbox@example.com"},
    }
    assert os.environ["NO_PROXY"].endswith("127.0.0.1")
    monkeypatch.undo()
    assert "AIRFLOW_CONN_BZCTRL_DEFAULT" not in os.environ


def test_fixture_in_a_users_tests(tmp_path: Path) -> None:
    """In a project of somebody else, each test gets the one server, emptied."""
    (tmp_path / "test_theirs.py").write_text(
        "import os, requests\n"
        "urls = []\n"
        "def token(sandbox):\n"
        "    form = {'grant_type': 'password', 'username': 'u', 'password': 'p'}\n"
        "    return requests.post(sandbox.url + '/bzctrl-core-api/oauth/token', data=form, timeout=5).status_code\n"
        "def test_one(bzctrl_sandbox):\n"
        "    bzctrl_sandbox.fail_next(503, on='token', times=2)\n"
        "    assert token(bzctrl_sandbox) == 503\n"
        "    urls.append(bzctrl_sandbox.url)\n"
        "def test_two(bzctrl_sandbox):\n"
        "    assert bzctrl_sandbox.requests == []\n"
        "    assert token(bzctrl_sandbox) == 200\n"
        "    assert urls == [bzctrl_sandbox.url]\n"
        "def test_three():\n"
        "    assert 'AIRFLOW_CONN_BZCTRL_DEFAULT' not in os.environ\n",
    )
    options = ["-q", "-W", "error", "-c", os.devnull, "-p", "no:cacheprovider"]
    ended = run_python("-m", "pytest", *options, "test_theirs.py", cwd=tmp_path)
    assert "3 passed" in ended.stdout, ended.stdout + ended.stderr
