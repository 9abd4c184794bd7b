"""Hostile hosts: an editor of the connection chooses the host of the password, but cannot disguise it."""

from __future__ import annotations

import time

import pytest
from pydantic import SecretStr

from bzctrl_provider.client.api import BzCtrlClient
from bzctrl_provider.client.endpoints import Endpoints

pytestmark = pytest.mark.security


@pytest.mark.parametrize(
    "host",
    [
        "https://user:topsecret@bzctrl.example.com",
        "https://bzctrl.example.com@evil.example",
        "https://bzctrl.example.com\\@evil.example",
        "https://bzctrl.example.com\\.evil.example",
        "https://bzctrl.example.com%2f.evil.example",
        "https://bzctrl.example.com%00.evil.example",
        "https://bzctrl.example.com\r\nHost: evil.example",
        "bzctrl.example.com\r\nInjected: header",
        "bzctrl.example.com\nx",
        "bzctrl.example.com\tx",
        "bzctrl\x00.example.com",
        "bzctrl\x1b[31m.example.com",
        "bzctrl\u202e.example.com",
        "bzctrl\u200b.example.com",
        "bzctrl\ud800.example.com",
        "https://bzctrl.example.com/\u202e",
        "https://bzctrl.example.com/\x00",
        "https://bzctrl..example.com",
        "https://.example.com",
        "https://-bzctrl.example.com",
        "https://" + "a" * 64 + ".example.com",
        "https://" + "a." * 200 + "example.com",
        "a" * 1_000_000,
        "https://bzctrl.example.com<script>",
        "https://*.example.com",
        "https://bzctrl.example.com?x=https://evil.example",
        "https://bzctrl.example.com#@evil.example",
        "https://[::1",
        "https://[::1]evil.example",
        "https://bzctrl.example.com:0x50",
        "https://bzctrl.example.com:-1",
        "file:///etc/passwd",
        "ftp://bzctrl.example.com",
        "gopher://127.0.0.1:6379/_",
        "javascript://bzctrl.example.com",
        "data://bzctrl.example.com",
        "unix:///var/run/docker.sock",
        "http+unix://%2fvar%2frun%2fdocker.sock",
        "://bzctrl.example.com",
    ],
    ids=lambda host: f"{host!r:.50}",
)
def test_no_host_in_disguise_is_taken(host):
    """Credentials, other schemes, line breaks, what libraries read differently, and what is no name; quickly, and unquoted."""
    began = time.monotonic()
    with pytest.raises(ValueError) as caught:
        Endpoints.from_host(host, allow_http=True)
    assert type(caught.value) is ValueError
    assert "topsecret" not in str(caught.value)
    assert "evil" not in str(caught.value)
    assert str(caught.value).isprintable()
    assert time.monotonic() - began < 2


@pytest.mark.parametrize(
    "host",
    [
        "http://169.254.169.254",  # where clouds keep the credentials of a machine
        "http://[fe80::1]",
        "http://metadata.google.internal",
        "http://10.0.0.1",
        "http://0.0.0.0",
        "http://127.0.0.1.evil.example",
        "http://localhost.evil.example",
        "http://2130706433",
        "http://0x7f.1",
        "http://127.1",
    ],
)
def test_no_clear_text_goes_to_another_machine_by_itself(host):
    """Only `allow_http` permits it, also for addresses that resemble this machine."""
    with pytest.raises(ValueError, match="is clear-text http"):
        Endpoints.from_host(host)
    assert (
        Endpoints.from_host(host, allow_http=True).create_url
        == f"{host}/bzctrl-core-api/api/v1/task/add-task"
    )


@pytest.mark.parametrize(
    "host",
    [
        "bzctrl",
        "bz_ctrl.example.com",
        "bzctrl.example.com.",
        "xn--bcher-kva.example",
        "bücher.example",
        "10.0.0.1",
        "[fe80::1]",
        "BZCTRL.example.com/a%20path/",
    ],
)
def test_every_honest_host_is_taken(host):
    """And requests takes it as well: the client prepares its two requests when it is made."""
    BzCtrlClient(Endpoints.from_host(host), username="user", password=SecretStr("made-up"))
