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


def test_stop_with_an_idle_connection_leaves_nothing(make_caller: Any) -> None:
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
    # The client of this test logs as well, to the output once Airflow 3.0 has run a DAG in this process.
    caplog.set_level(logging.WARNING, logger="urllib3")
    with Sandbox() as sandbox:
        make_caller(sandbox.url).token()
        make_caller(sandbox.url).send("GET", "/nowhere")
        exchange(sandbox.url, b"nonsense\r\n\r\n")
    assert [record for record in caplog.records if record.name.startswith("bzctrl")] == []
    assert capfd.readouterr() == ("", "")


def test_sandbox_in_the_wrong_state_raises() -> None:
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


def test_requests_after_stop_can_be_read(make_caller: Any) -> None:
    """Assertions about requests may follow the `with` block."""
    with Sandbox() as sandbox:
        make_caller(sandbox.url).token()
    assert [record.status for record in sandbox.requests] == [200]


def test_start_with_a_port_in_use_raises() -> None:
    """The caller gets an OSError with the port and the remedy, and no server is left half-started."""
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        before = threading.active_count()
        with pytest.raises(OSError, match=rf"port {port}: .*--port 0"):
            Sandbox(port=port).start()
    assert threading.active_count() == before


def test_stop_with_half_a_request_is_prompt() -> None:
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
def test_url_of_an_ipv6_address_has_brackets(make_caller: Any) -> None:
    """An IPv6 address has brackets in the sandbox's address."""
    with Sandbox(host="::1") as sandbox:
        assert sandbox.url.startswith("http://[::1]:")
        assert make_caller(sandbox.url).token().status_code == 200


def test_url_of_all_addresses_is_loopback() -> None:
    """Listening at every address, the sandbox gives one that can be opened on this machine."""
    with Sandbox(host="0.0.0.0") as sandbox:
        assert sandbox.url.startswith("http://127.0.0.1:")


def test_restart_with_a_data_file_keeps_the_todos(tmp_path: Path, make_caller: Any) -> None:
    """Todos in a file are there after a restart, and keys count on."""
    sandbox = Sandbox(data=tmp_path / "todos.sqlite")
    for expected in (1, 2):
        with sandbox:
            make_caller(sandbox.url).log_in().create()
            assert [todo["key"] for todo in sandbox.todos][-1] == f"EXA-CON-BUS-WOR-0{expected}"
    with pytest.raises(OSError, match="cannot"):
        Sandbox(data=tmp_path).start()


def test_processes_with_one_data_file_share_it(tmp_path: Path, command: Any, make_caller: Any) -> None:
    """Two sandboxes over one file, asked at once, never give the same key twice."""
    data = str(tmp_path / "shared.sqlite")
    callers = [make_caller(command("--data", data)[1]).log_in() for _ in range(2)]
    with ThreadPoolExecutor(8) as pool:
        responses = list(pool.map(lambda number: callers[number % 2].create(), range(40)))
    assert [response.status_code for response in responses] == [200] * 40
    assert len({response.json()["taskLink"].rpartition("/")[2] for response in responses}) == 40
    listed = [caller.send("GET", "/sandbox/todos").json() for caller in callers]
    assert listed[0] == listed[1]
    assert len(listed[0]) == 40


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_command_with_a_signal_ends_with_code_0(
    command: Any, make_caller: Any, number: signal.Signals
) -> None:
    """The command serves until Ctrl-C or SIGTERM, then ends with code 0 and without a traceback."""
    process, url, greeting = command("--username", "jane", "--password", "Ex@mpl3!", "--token-lifetime", "60")
    response = make_caller(url).token()
    assert response.json()["expires_in"] == 60
    process.send_signal(number)
    assert process.communicate(timeout=10) == ("", "")
    assert process.returncode == 0
    assert f"{url}/app/" in greeting
    assert "Ex@mpl3!" not in greeting


def test_command_on_all_addresses_warns(command: Any) -> None:
    """Listening to the whole network is possible, and said to be what it is."""
    process, _, greeting = command("--host", "0.0.0.0")
    process.terminate()
    _, errors = process.communicate(timeout=10)
    assert "Everybody on the network can reach the sandbox" in errors
    assert '"allow_http": true' in greeting


def test_command_with_a_port_in_use_ends_with_one_line() -> None:
    """A port in use ends the command with one line and code 1."""
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        ended = run_python("-m", "bzctrl_provider.sandbox", "--port", str(port))
    assert (ended.returncode, ended.stdout, ended.stderr.count("\n")) == (1, "", 1)
    assert f"port {port}" in ended.stderr
    assert "--port 0" in ended.stderr


@pytest.mark.parametrize("host", ["127.0.0.1", "0.0.0.0"])
def test_main_with_a_signal_returns_0(host: str, capsys: pytest.CaptureFixture[str]) -> None:
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


def test_sandbox_that_serves_loads_neither_client_nor_airflow() -> None:
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


def test_package_with_each_promised_name_exports_it() -> None:
    """Every promised name is there, and an unknown one is an AttributeError."""
    for name in bzctrl_provider.sandbox.__all__:
        assert getattr(bzctrl_provider.sandbox, name) is not None
    with pytest.raises(AttributeError, match="nonsense"):
        _ = bzctrl_provider.sandbox.nonsense


def test_fixture_in_a_test_sets_the_connection(
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


def test_fixture_in_several_tests_empties_one_server(tmp_path: Path) -> None:
    """In a project of a user, each test gets the one server, emptied."""
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
