"""Hostile and damaged connections: one error names all faults, and contains no secret."""

from __future__ import annotations

import json
import logging
import os
import pickle
import time
import traceback

import pytest
from airflow.providers.common.compat.sdk import Connection
from pydantic import SecretStr

from bzctrl_provider.client.api import BzCtrlClient
from bzctrl_provider.client.endpoints import Endpoints
from bzctrl_provider.config import BzCtrlConfig
from bzctrl_provider.exceptions import BzCtrlConfigError
from bzctrl_provider.hooks.bzctrl import BzCtrlHook

pytestmark = pytest.mark.security

PASSWORD = "Ex@mpl3!-password"


class Stored:
    """The attributes that are read of a connection; Airflow's own class parses the extra differently in each version."""

    conn_id = "bz"
    conn_type = "bzctrl"
    host = schema = port = None
    login = "user@example.com"
    password = PASSWORD

    def __init__(self, extra="{}", **fields):
        self.extra = extra
        self.__dict__.update(fields)


def get_faults(extra="{}", **fields):
    with pytest.raises(BzCtrlConfigError) as caught:
        BzCtrlConfig.from_connection(Stored(extra, **fields))
    assert PASSWORD not in str(caught.value)
    return dict(caught.value.faults)


@pytest.mark.parametrize(
    "extra",
    [
        "[" * 500_000,
        '{"environment":' * 100_000,
        '{"timeout_s": ' + "1" * 5000 + "}",
        "NaN",
        '{"environment": "ACC"} {}',
        "\x00",
        "x" * 5_000_000,
    ],
    ids=["nested", "nested objects", "a huge integer", "NaN", "two objects", "NUL", "megabytes"],
)
def test_an_extra_that_is_a_bomb_is_a_fault(extra):
    """As any other that is no JSON object; quickly."""
    began = time.monotonic()
    assert get_faults(extra) == {"extra": 'must be a JSON object such as {"environment": "ACC"}'}
    assert time.monotonic() - began < 2


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("timeout_s", "NaN"),
        ("timeout_s", "Infinity"),
        ("timeout_s", "1e999"),
        ("timeout_s", "-1"),
        ("max_attempts", "1e3"),
        ("max_attempts", "1" * 4000),
        ("verify", '"no\\u202e\\nforged: line"'),
        ("message_format", '"' + "x" * 1_000_000 + '"'),
        ("ca_bundle", '"/dev/null/\\u0000"'),
        ("ca_bundle", '"' + "x" * 5000 + '"'),
        ("domain_workspace", "[1]"),
        ("reporter", '"a@b.example\\r\\nforged: line"'),
        ("environment", '{"a": {"b": 1}}'),
    ],
)
def test_a_value_that_is_nonsense_is_a_fault_of_its_name(name, value):
    """On one short line."""
    extra = (
        f'{{"{name}": {value}, "environment": "ACC"}}' if name != "environment" else f'{{"{name}": {value}}}'
    )
    (field,) = get_faults(extra)
    assert field == f"extra.{name}"
    assert all(line.isprintable() and len(line) < 400 for line in get_faults(extra).values())


def test_unknown_extras_forge_no_line_of_the_log(caplog):
    """However they are named and however many they are, there is one line of bounded length."""
    extra = {
        "environment": "ACC",
        "a\n[2026] ERROR forged\x1b[31m\u202e": 1,
        **{f"x{n}": 1 for n in range(10_000)},
    }
    with caplog.at_level(logging.WARNING):
        BzCtrlConfig.from_connection(Stored(json.dumps(extra)))
    (record,) = caplog.records
    assert record.getMessage().isprintable()
    assert len(record.getMessage()) < 1000


@pytest.mark.parametrize("field", ["login", "password"])
def test_credentials_that_cannot_be_written_are_a_fault(field):
    """As from a variable of the environment with broken bytes. The error of the encoder itself would hold the password."""
    broken = "topsecret\udce9"
    with pytest.raises(BzCtrlConfigError) as caught:
        BzCtrlConfig.from_connection(Stored('{"environment": "ACC"}', **{field: broken}))
    assert dict(caught.value.faults) == {
        field: "is no text that UTF-8 can hold: it has half surrogate pairs",
    }
    shown = "".join(traceback.format_exception(caught.value)) + repr(caught.value)
    assert "topsecret" not in shown


@pytest.mark.parametrize(
    "text",
    ["a\r\nInjected: header", "a&grant_type=client_credentials", "ü 橙 %00", "\x00\x1b", "x" * 100_000],
)
def test_credentials_stay_within_their_field(requests_mock, text):
    """Credentials with any characters are one value of the form."""
    acc = Endpoints.from_environment("ACC")
    requests_mock.post(acc.token_url, json={"access_token": "made-up-token"})
    BzCtrlClient(acc, username=text, password=SecretStr(text)).check_credentials()
    request = requests_mock.last_request
    assert request.text.count("&") == 2
    assert request.text.count("=") == 3
    assert "\r" not in request.text
    assert "Injected" not in request.headers


def test_neither_configuration_nor_hook_shows_a_secret(monkeypatch):
    """No repr, traceback or pickle contains a secret; a hook with a client cannot be pickled."""
    monkeypatch.setenv(
        "AIRFLOW_CONN_BZCTRL_DEFAULT",
        json.dumps(
            {"conn_type": "bzctrl", "login": "user", "password": PASSWORD, "extra": {"environment": "ACC"}}
        ),
    )
    hook = BzCtrlHook()
    assert PASSWORD.encode() not in pickle.dumps(hook.bzctrl_conn_id)
    client = hook.get_conn()
    assert PASSWORD not in repr(hook) + repr(client) + repr(vars(hook)) + repr(vars(client))
    with pytest.raises(TypeError):
        pickle.dumps(hook)


def test_airflows_own_connection_is_read_in_the_same_way():
    """The stand-in of these tests has what Airflow's has."""
    connection = Connection(
        conn_id="bz", conn_type="bzctrl", login="u", password=PASSWORD, extra='{"environment": "ACC"}'
    )
    names = [name for name in vars(Stored) if not name.startswith("_")]
    assert all(hasattr(connection, name) for name in [*names, "extra"])
    assert BzCtrlConfig.from_connection(connection).username == "u"
    assert PASSWORD not in os.environ.values()
