"""The command line's arguments and what it prints."""

from __future__ import annotations

import json
import shlex
import signal

import pytest

from bzctrl_provider.sandbox.cli import is_loopback, main, make_greeting, make_parser


def printed_connection(text: str) -> dict[str, object]:
    [line] = [line for line in text.splitlines() if line.startswith("export ")]
    name, _, value = shlex.split(line)[1].partition("=")
    assert name == "AIRFLOW_CONN_BZCTRL_DEFAULT"
    connection: dict[str, object] = json.loads(value)
    return connection


def test_parser_without_arguments_has_the_defaults() -> None:
    """Without arguments it listens only on this machine, at port 8137, and keeps nothing."""
    arguments = vars(make_parser().parse_args([]))
    assert arguments == {
        "host": "127.0.0.1",
        "port": 8137,
        "data": None,
        "username": None,
        "password": None,
        "token_lifetime": 3600,
    }


@pytest.mark.parametrize(
    ("host", "loopback"),
    [
        ("127.0.0.1", True),
        ("127.1.2.3", True),
        ("::1", True),
        ("localhost", True),
        ("0.0.0.0", False),
        ("box.example", False),
    ],
)
def test_is_loopback_of_an_address_is_whether_only_this_machine_reaches_it(host: str, loopback: bool) -> None:
    """Only addresses of this machine count as its own."""
    assert is_loopback(host) is loopback


def test_greeting_without_credentials_can_be_pasted() -> None:
    """The printed line sets an Airflow connection that leads to the sandbox."""
    connection = printed_connection(make_greeting("http://127.0.0.1:1", username=None, loopback=True))
    assert connection == {
        "conn_type": "bzctrl",
        "host": "http://127.0.0.1:1",
        "login": "sandbox@example.com",
        "password": "sandbox-password",
        "extra": {"domain_workspace": "EXA-CON-BUS-WOR", "reporter": "sandbox@example.com"},
    }


def test_greeting_with_credentials_omits_the_password() -> None:
    """With credentials of the user's own, the username is printed and the password is not."""
    connection = printed_connection(make_greeting("http://x:1", username="it's me", loopback=False))
    assert (connection["login"], connection["password"]) == ("it's me", "<the password>")
    assert connection["extra"] == {
        "domain_workspace": "EXA-CON-BUS-WOR",
        "reporter": "sandbox@example.com",
        "allow_http": True,
    }


@pytest.mark.parametrize(
    ("argv", "message"),
    [
        (["--port", "70000"], "port must be"),
        (["--port", "-1"], "port must be"),
        (["--username", "u"], "go together"),
        (["--username", "", "--password", ""], "must not be empty"),
        (["--token-lifetime", "0"], "token_lifetime_s"),
        (["--token-lifetime", "nan"], "token_lifetime_s"),
        (["--token-lifetime", "1e300"], "at most 1,000,000,000"),
        (["--port", "0", "--host", "no such host"], "cannot listen"),
        (["--port", "0", "--data", "/no/such/folder/x.sqlite"], "/no/such/folder/x.sqlite"),
    ],
)
def test_main_with_an_invalid_argument_ends_with_one_line(
    argv: list[str], message: str, capsys: pytest.CaptureFixture[str]
) -> None:
    """A bad argument ends with code 1 and one line on standard error."""
    assert main(argv) == 1
    output = capsys.readouterr()
    assert output.out == ""
    assert output.err.startswith("bzctrl-sandbox: ")
    assert output.err.count("\n") == 1
    assert message in output.err


def test_main_after_its_end_restores_the_signal_handlers(capsys: pytest.CaptureFixture[str]) -> None:
    """A program that calls `main` keeps its own signal handlers."""
    before = [signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)]
    assert main(["--port", "70000"]) == 1
    assert [signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)] == before
    assert capsys.readouterr().err
