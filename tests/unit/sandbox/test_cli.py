"""The command line's arguments and what it prints."""

from __future__ import annotations

import json
import os
import re
import shlex
import signal
import threading

import pytest

from bzctrl_provider.client.config import Endpoints
from bzctrl_provider.sandbox.__main__ import main, make_greeting, make_parser


@pytest.fixture(autouse=True)
def _handlers():
    """Restore the handlers of signals, which the command sets for its process."""
    before = {number: signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)}
    yield
    for number, handler in before.items():
        signal.signal(number, handler)


def printed_connection(text):
    [line] = [line for line in text.splitlines() if line.startswith("export ")]
    name, _, value = shlex.split(line)[1].partition("=")
    assert name == "AIRFLOW_CONN_BZCTRL_DEFAULT"
    return json.loads(value)


def test_parser_without_arguments_has_the_defaults():
    """Without arguments it listens only on this machine, at port 8137, and keeps nothing."""
    arguments = vars(make_parser().parse_args([]))
    unset = {"data": None, "username": None, "password": None}
    assert arguments == {"host": "127.0.0.1", "port": 8137, "token_lifetime_s": 3600, **unset}


def test_greeting_prints_a_connection_without_a_real_password():
    """The printed line sets an Airflow connection that leads to the sandbox; the user's own password is not in it."""
    extra = {"domain_workspace": "EXA-CON-BUS-WOR", "reporter": "sandbox@example.com"}
    connection = printed_connection(make_greeting("http://127.0.0.1:1", username=None, allow_http=False))
    assert connection == {
        "conn_type": "bzctrl",
        "host": "http://127.0.0.1:1",
        "login": "sandbox@example.com",
        "password": "sandbox-password",
        "extra": extra,
    }
    connection = printed_connection(make_greeting("http://x:1", username="it's me", allow_http=True))
    assert (connection["login"], connection["password"]) == ("it's me", "<the password>")
    assert connection["extra"] == extra | {"allow_http": True}


def test_greeting_has_the_address_as_the_form_of_a_connection_takes_it():
    """The fields of the UI give the same address as the printed line: its Test button refuses a host with a port."""
    for url in ("http://127.0.0.1:8137", "http://localhost:81"):
        text = make_greeting(url, username=None, allow_http=False)
        host, schema, port = re.search(r"UI: Host (\S+), Schema (\S+), Port (\d+),", text).groups()
        endpoints = Endpoints.from_host(host, schema=schema, port=int(port))
        assert endpoints == Endpoints.from_host(printed_connection(text)["host"])
        assert endpoints.create_url.startswith(f"{url}/")


def test_main_with_an_invalid_argument_ends_with_one_line(capsys):
    """An invalid argument ends with code 1 and one line on standard error."""
    for argv, message in [
        (["--port", "70000"], "port must be"),
        (["--port", "-1", "--username", "u"], "go together; port must be"),
        (["--username", "", "--password", ""], "must not be empty"),
        (["--token-lifetime", "nan"], "token_lifetime_s"),
        (["--token-lifetime", "1e300"], "at most 1,000,000,000"),
        (["--port", "0", "--host", "no such host"], "cannot listen"),
        (["--port", "0", "--data", "/no/such/folder/x.sqlite"], "/no/such/folder/x.sqlite"),
    ]:
        assert main(argv) == 1
        output = capsys.readouterr()
        assert output.out == ""
        assert output.err.startswith("bzctrl-sandbox: ")
        assert output.err.count("\n") == 1
        assert message in output.err


def test_main_with_a_signal_returns_0(capsys):
    """The signal ends it with 0 and no thread left; an address for the whole network is warned of."""
    before = set(threading.enumerate())
    for host in ("127.0.0.1", "0.0.0.0"):
        timer = threading.Timer(0.3, os.kill, [os.getpid(), signal.SIGTERM])
        timer.start()
        assert main(["--port", "0", "--host", host]) == 0
        timer.join()
        output = capsys.readouterr()
        assert "point Airflow at it" in output.out
        assert ("everybody on the network" in output.err) is (host == "0.0.0.0")
    # Those of other tests may have ended meanwhile.
    assert set(threading.enumerate()) <= before
