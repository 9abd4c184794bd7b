from __future__ import annotations

import time

import pytest
from pydantic import SecretStr

from bzctrl_provider.client.api import BzCtrlClient
from bzctrl_provider.client.endpoints import Endpoints


def test_from_environment_acc_uses_one_host():
    """Both calls of ACC are on one host."""
    assert Endpoints.from_environment("ACC") == Endpoints(
        "https://acc.bzctrl.com/bzctrl-core-api/oauth/token",
        "https://acc.bzctrl.com/bzctrl-core-api/api/v1/task/add-task",
    )


def test_from_environment_prod_uses_two_hosts():
    """PROD grants tokens without www and creates with it, as documented."""
    assert Endpoints.from_environment("PROD") == Endpoints(
        "https://bzctrl.com/bzctrl-core-api/oauth/token",
        "https://www.bzctrl.com/bzctrl-core-api/api/v1/task/add-task",
    )


@pytest.mark.parametrize(
    ("host", "more", "base"),
    [
        ("bzctrl.example.com", {}, "https://bzctrl.example.com"),
        ("bzctrl.example.com", {"port": 8443}, "https://bzctrl.example.com:8443"),
        ("localhost", {"schema": "http", "port": 8137}, "http://localhost:8137"),
        ("http://127.0.0.1:8137/", {}, "http://127.0.0.1:8137"),
        ("http://127.0.0.1", {"port": 8137}, "http://127.0.0.1:8137"),
        (
            "HTTPS://bzctrl.example.com:8443/prefix/",
            {"schema": "https"},
            "https://bzctrl.example.com:8443/prefix",
        ),
        ("::1", {"schema": "http", "port": 80}, "http://[::1]:80"),
        ("http://[::1]:8137", {}, "http://[::1]:8137"),
        ("http://intranet", {"allow_http": True}, "http://intranet"),
        (" bzctrl.example.com ", {}, "https://bzctrl.example.com"),
    ],
)
def test_from_host_any_form_has_the_same_paths(host, more, base):
    """A host may be a name or a whole URL, with scheme and port in it or beside it."""
    endpoints = Endpoints.from_host(host, **more)
    assert endpoints.token_url == f"{base}/bzctrl-core-api/oauth/token"
    assert endpoints.create_url == f"{base}/bzctrl-core-api/api/v1/task/add-task"


@pytest.mark.security
@pytest.mark.parametrize(
    ("host", "more", "said"),
    [
        ("ftp://bzctrl.example.com", {}, "https://"),
        ("https://bzctrl.example.com", {"schema": "http"}, "Schema"),
        ("https://bzctrl.example.com:1", {"port": 2}, "Port"),
        ("https://user:topsecret@bzctrl.example.com", {}, "Login and Password"),
        ("https://", {}, "no address"),
        ("https://bz ctrl", {}, "no address"),
        ("https://bzctrl.example.com:99999", {}, "no address"),
        ("https://[bzctrl", {}, "no address"),
        ("https://bzctrl.example.com/?a=topsecret", {}, "base URL"),
        ("https://bzctrl.example.com/bzctrl-core-api/oauth/token", {}, "base URL"),
        ("http://bzctrl.example.com", {}, "allow_http"),
        ("http://127.0.0.1.example.com", {}, "allow_http"),
        ("http://localhost.example.com", {}, "allow_http"),
    ],
)
def test_from_host_invalid_address_raises_with_the_remedy(host, more, said):
    """Contradictions, credentials, and clear text to another machine are named, and no secret is quoted."""
    with pytest.raises(ValueError, match=said) as caught:
        Endpoints.from_host(host, **more)
    assert "topsecret" not in str(caught.value)


def test_from_host_several_errors_raises_one_error():
    """Scheme, port, credentials, path and clear text in one message."""
    with pytest.raises(ValueError, match="Schema") as caught:
        Endpoints.from_host("http://u:topsecret@bz.example.com:1/bzctrl-core-api?x", schema="https", port=2)
    for said in ("Schema", "Port", "Login and Password", "base URL", "allow_http"):
        assert said in str(caught.value)
    assert "topsecret" not in str(caught.value)


@pytest.mark.security
@pytest.mark.parametrize(
    ("host", "settings", "said"),
    [
        ("https:/bzctrl.example.com", {}, "is no address"),
        ("https:bzctrl.example.com", {}, "is no address"),
        ("HTTP:/bzctrl.example.com", {}, "is no address"),
        ("https://bzctrl.example.com:0x1bb", {}, "is no address"),
        ("https://bzctrl.example.com:70000", {}, "is no address"),
        ("https://bzctrl.example.com/" + "x" * 2000, {}, "is no address"),
        ("bzctrl.example.com", {"port": 70000}, "cannot have this Port: give a number from 1 to 65535"),
        ("bzctrl.example.com", {"port": -1}, "cannot have this Port"),
        ("faß☃.example.com", {}, "has no name that a host can have"),
        ("☃.example.com", {}, "has no name that a host can have"),
        ("a\u2024b.example.com", {}, "has no name that a host can have"),
        ("bzctrl.example.com", {"schema": "sw0rd@bzctrl"}, "cannot have this Schema: give http or https"),
    ],
    ids=lambda value: f"{value!s:.40}",
)
def test_from_host_address_unusable_for_requests_raises(host, settings, said):
    """A host to which requests cannot send is an error of the connection, which quotes no part of a password."""
    with pytest.raises(ValueError, match=said) as caught:
        Endpoints.from_host(host, **settings)
    assert "sw0rd" not in str(caught.value)


@pytest.mark.security
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
def test_from_host_disguised_address_raises(host):
    """Credentials, other schemes, line breaks, what libraries read differently, and what is no name; quickly, and unquoted."""
    began = time.monotonic()
    with pytest.raises(ValueError) as caught:
        Endpoints.from_host(host, allow_http=True)
    assert type(caught.value) is ValueError
    assert "topsecret" not in str(caught.value)
    assert "evil" not in str(caught.value)
    assert str(caught.value).isprintable()
    assert time.monotonic() - began < 2


@pytest.mark.security
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
def test_from_host_clear_text_to_other_machine_raises(host):
    """Only `allow_http` permits it, also for addresses that resemble this machine."""
    with pytest.raises(ValueError, match="is clear-text http"):
        Endpoints.from_host(host)
    assert (
        Endpoints.from_host(host, allow_http=True).create_url
        == f"{host}/bzctrl-core-api/api/v1/task/add-task"
    )


@pytest.mark.security
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
def test_from_host_valid_address_is_accepted(host):
    """And requests takes it as well: the client prepares its two requests when it is made."""
    BzCtrlClient(Endpoints.from_host(host), username="user", password=SecretStr("made-up"))
