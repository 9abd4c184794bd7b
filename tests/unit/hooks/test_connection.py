from __future__ import annotations

import json
import logging
import os
import time
import traceback

import pytest
from airflow.providers.common.compat.sdk import Connection
from pydantic import SecretStr
from support.bzctrl import PASSWORD

from bzctrl_provider.client.config import ENVIRONMENTS, BzCtrlConfig
from bzctrl_provider.exceptions import BzCtrlConfigError
from bzctrl_provider.hooks.connection import read_connection


def make_config(extra=None, **fields):
    given = {"login": "user@example.com", "password": "topsecret", **fields}
    return read_connection(
        Connection(
            conn_id="bz",
            conn_type="bzctrl",
            extra=extra if isinstance(extra, str) else json.dumps(extra or {}),
            **given,
        )
    )


def get_faults(extra=None, **fields):
    with pytest.raises(BzCtrlConfigError) as caught:
        make_config(extra, **fields)
    return dict(caught.value.errors)


def test_from_connection_minimal_gets_the_defaults():
    """Login, password and environment are enough."""
    config = make_config({"environment": "ACC"})
    assert config == BzCtrlConfig(
        endpoints=ENVIRONMENTS["ACC"],
        username="user@example.com",
        password=SecretStr("topsecret"),
        timeout_s=30.0,
        max_attempts=3,
        verify=True,
        message_format="add-task",
        in_progress_spelling="IN PROGRESS",
        defaults={"reporter": "user@example.com"},
        connection="the connection 'bz'",
    )


def test_from_connection_all_extras_are_used(tmp_path):
    """Numbers and booleans may be text, as a URI or the UI gives them."""
    ca_bundle = tmp_path / "ca.pem"
    ca_bundle.touch()
    config = make_config(
        {
            "environment": "prod",
            "domain_workspace": "EXA-CON-BUS-WOR",
            "reporter": "reporter@example.com",
            "assignee": "assignee@example.com",
            "timeout_s": "2.5",
            "max_attempts": "1",
            "verify": "true",
            "ca_bundle": str(ca_bundle),
            "message_format": "predefined",
            "in_progress_spelling": "inprogress",
        }
    )
    assert config.endpoints == ENVIRONMENTS["PROD"]
    assert (config.timeout_s, config.max_attempts, config.verify) == (2.5, 1, str(ca_bundle))
    assert (config.message_format, config.in_progress_spelling) == ("predefined", "INPROGRESS")
    assert config.defaults == {
        "domain_workspace": "EXA-CON-BUS-WOR",
        "reporter": "reporter@example.com",
        "assignee": "assignee@example.com",
    }


def test_from_connection_null_and_blank_are_unset(caplog):
    """The UI stores null for what was left empty."""
    empty = dict.fromkeys(["reporter", "timeout_s", "verify", "ca_bundle", "message_format", "allow_http"])
    assert make_config({"environment": "ACC", **empty, "assignee": "  "}) == make_config(
        {"environment": "ACC"}
    )
    assert caplog.records == []


def test_from_connection_host_overrides_the_environment():
    """Host, Schema and Port make the address; clear text is fine on this machine."""
    config = make_config({"environment": "PROD"}, host="127.0.0.1", schema="http", port=8137)
    assert config.endpoints.token_url.startswith("http://127.0.0.1:8137/")
    assert make_config({"allow_http": True}, host="http://intranet").endpoints.token_url.startswith(
        "http://intranet/"
    )


def test_from_connection_login_no_email_is_no_reporter():
    """The login is the reporter only if it is an e-mail address."""
    assert make_config({"environment": "ACC"}, login="api-user").defaults == {}


def test_from_connection_several_errors_raises_one_error():
    """Fields and extras, each with its name, in one error that names the connection and no secret."""
    faults = get_faults(
        {
            "environment": "TEST",
            "timeout_s": 0,
            "max_attempts": True,
            "verify": "maybe",
            "ca_bundle": "/not/there.pem",
            "message_format": "xml",
            "in_progress_spelling": "BUSY",
            "allow_http": 5,
            "reporter": "nobody",
            "assignee": "a b",
        },
        host="http://user:topsecret@bzctrl.example.com",
        login=" ",
        password="",
    )
    assert faults.keys() == {
        "extra.environment",
        "extra.timeout_s",
        "extra.max_attempts",
        "extra.verify",
        "extra.ca_bundle",
        "extra.message_format",
        "extra.in_progress_spelling",
        "extra.allow_http",
        "extra.reporter",
        "extra.assignee",
        "host",
        "login",
        "password",
    }
    assert "ACC or PROD, not 'TEST'" in faults["extra.environment"]


def test_from_connection_without_host_and_environment_raises():
    """Without a host the environment has to be chosen."""
    assert "ACC or PROD" in get_faults()["extra.environment"]


def test_from_connection_ca_bundle_without_verify_raises(tmp_path):
    """Either the certificate is checked with that file, or it is not checked."""
    (tmp_path / "ca.pem").touch()
    extra = {"environment": "ACC", "verify": False, "ca_bundle": str(tmp_path / "ca.pem")}
    assert get_faults(extra).keys() == {"extra.ca_bundle"}
    assert make_config({"environment": "ACC", "verify": False}).verify is False


def test_from_connection_extra_no_object_raises():
    """It does not count as empty."""
    for extra in ["not json", "[1]", '"text"', "5"]:
        assert "JSON object" in get_faults(extra)["extra"]


def test_from_connection_unknown_extras_are_one_warning(caplog):
    """With the known ones beside them, for the typing error to be seen; they are no fault."""
    with caplog.at_level(logging.WARNING):
        make_config({"environment": "ACC", "domain_workspce": "X", "timeout": 5})
    (record,) = caplog.records
    assert "domain_workspce, timeout" in record.message
    assert "domain_workspace" in record.message
    assert "'bz'" in record.message


@pytest.mark.security
def test_from_connection_other_conn_type_raises():
    """A mistyped id must not send another system's password to its host."""
    connection = Connection(
        conn_id="crm",
        conn_type="http",
        host="https://crm.example.com",
        login="u",
        password="another-systems-password",
    )
    with pytest.raises(BzCtrlConfigError, match="must be bzctrl, not 'http'"):
        read_connection(connection)


def test_config_repr_has_no_password():
    """A configuration can be logged."""
    assert "topsecret" not in repr(make_config({"environment": "ACC"}))


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


def get_stored_faults(extra="{}", **fields):
    with pytest.raises(BzCtrlConfigError) as caught:
        read_connection(Stored(extra, **fields))
    assert PASSWORD not in str(caught.value)
    return dict(caught.value.errors)


@pytest.mark.security
def test_from_connection_bomb_as_extra_is_a_fault():
    """As any other that is no JSON object; quickly."""
    for extra in [
        "[" * 500_000,
        '{"environment":' * 100_000,
        '{"timeout_s": ' + "1" * 5000 + "}",
        "NaN",
        '{"environment": "ACC"} {}',
        "\x00",
        "x" * 5_000_000,
    ]:
        began = time.monotonic()
        assert get_stored_faults(extra) == {"extra": 'must be a JSON object such as {"environment": "ACC"}'}
        assert time.monotonic() - began < 2


@pytest.mark.security
def test_from_connection_hostile_value_is_a_fault_of_its_name():
    """On one short line."""
    for name, value in [
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
    ]:
        extra = (
            f'{{"{name}": {value}, "environment": "ACC"}}'
            if name != "environment"
            else f'{{"{name}": {value}}}'
        )
        (field,) = get_stored_faults(extra)
        assert field == f"extra.{name}"
        assert all(line.isprintable() and len(line) < 400 for line in get_stored_faults(extra).values())


@pytest.mark.security
def test_from_connection_hostile_extras_forge_no_log_line(caplog):
    """However they are named and however many they are, there is one line of bounded length."""
    extra = {
        "environment": "ACC",
        "a\n[2026] ERROR forged\x1b[31m\u202e": 1,
        **{f"x{n}": 1 for n in range(10_000)},
    }
    with caplog.at_level(logging.WARNING):
        read_connection(Stored(json.dumps(extra)))
    (record,) = caplog.records
    assert record.getMessage().isprintable()
    assert len(record.getMessage()) < 1000


@pytest.mark.security
def test_from_connection_credentials_beyond_utf_8_are_a_fault():
    """As from a variable of the environment with broken bytes. The error of the encoder itself would hold the password."""
    for field in ["login", "password"]:
        broken = "topsecret\udce9"
        with pytest.raises(BzCtrlConfigError) as caught:
            read_connection(Stored('{"environment": "ACC"}', **{field: broken}))
        assert dict(caught.value.errors) == {
            field: "is no text that UTF-8 can hold: it has half surrogate pairs",
        }
        shown = "".join(traceback.format_exception(caught.value)) + repr(caught.value)
        assert "topsecret" not in shown


@pytest.mark.security
def test_from_connection_stored_class_has_the_attributes_of_airflow():
    """The stand-in of these tests has what Airflow's has."""
    connection = Connection(
        conn_id="bz", conn_type="bzctrl", login="u", password=PASSWORD, extra='{"environment": "ACC"}'
    )
    names = [name for name in vars(Stored) if not name.startswith("_")]
    assert all(hasattr(connection, name) for name in [*names, "extra"])
    assert read_connection(connection).username == "u"
    assert PASSWORD not in os.environ.values()
