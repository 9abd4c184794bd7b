from __future__ import annotations

import time

import pytest
from requests_mock import ANY
from support.bzctrl import new_client

from bzctrl_provider.client.config import ENVIRONMENTS, Endpoints

HOST = "https://bzctrl.example.com"


def test_environments_hosts_are_as_documented():
    """Both calls of ACC are on one host; PROD grants tokens without www and creates with it."""
    for environment, token_host, create_host in (
        ("ACC", "https://acc.bzctrl.com", "https://acc.bzctrl.com"),
        ("PROD", "https://bzctrl.com", "https://www.bzctrl.com"),
    ):
        assert ENVIRONMENTS[environment] == Endpoints(
            f"{token_host}/bzctrl-core-api/oauth/token",
            f"{create_host}/bzctrl-core-api/api/v1/task/add-task",
        )


def test_is_production_knows_the_hosts_of_prod_in_any_form():
    """Also as a Host, with another scheme, port or case, an address of PROD is one; others are not."""
    assert ENVIRONMENTS["PROD"].is_production
    assert not ENVIRONMENTS["ACC"].is_production
    for host, is_production in (
        ("bzctrl.com", True),
        ("WWW.BzCtrl.com", True),
        ("https://www.bzctrl.com.:443", True),
        ("acc.bzctrl.com", False),
        ("bzctrl.com.example.com", False),
        ("http://127.0.0.1:8137", False),
    ):
        assert Endpoints.from_host(host).is_production == is_production, host


def test_from_host_any_form_has_the_same_paths():
    """A host may be a name or a whole URL, with scheme and port in it or beside it."""
    for host, more, base in (
        ("bzctrl.example.com", {}, HOST),
        (" bzctrl.example.com ", {}, HOST),
        ("bzctrl.example.com", {"port": 8443}, f"{HOST}:8443"),
        ("HTTPS://bzctrl.example.com:8443/prefix/", {"schema": "https"}, f"{HOST}:8443/prefix"),
        ("localhost", {"schema": "http", "port": 8137}, "http://localhost:8137"),
        ("http://127.0.0.1:8137/", {}, "http://127.0.0.1:8137"),
        ("http://127.0.0.1", {"port": 8137}, "http://127.0.0.1:8137"),
        ("::1", {"schema": "http", "port": 80}, "http://[::1]:80"),
        ("http://[::1]:8137", {}, "http://[::1]:8137"),
        ("http://intranet", {"allow_http": True}, "http://intranet"),
    ):
        assert Endpoints.from_host(host, **more) == Endpoints(
            f"{base}/bzctrl-core-api/oauth/token", f"{base}/bzctrl-core-api/api/v1/task/add-task"
        )


@pytest.mark.security
def test_from_host_invalid_address_raises_with_the_remedy():
    """Contradictions, credentials, clear text to another machine, and what requests cannot send to; no secret is quoted."""
    for host, more, said in (
        ("ftp://bzctrl.example.com", {}, "https://"),
        (HOST, {"schema": "http"}, "Schema"),
        ("bzctrl.example.com", {"schema": "topsecret@bzctrl"}, "cannot have this Schema: give http or https"),
        (f"{HOST}:1", {"port": 2}, "Port"),
        ("https://user:topsecret@bzctrl.example.com", {}, "Login and Password"),
        *(
            (host, {}, "is no address")
            for host in ("https://", "https://bz ctrl", "https://[bzctrl", f"{HOST}:99999")
        ),
        *(
            (host, {}, "is no address")
            for host in ("https:/bzctrl", "https:bzctrl", "HTTP:/bzctrl", f"{HOST}:0x1bb")
        ),
        *(
            (host, {}, "is no address")
            for host in (f"{HOST}/{'x' * 2000}", "faß☃.example.com", "a\u2024b.example.com")
        ),
        (f"{HOST}/?a=topsecret", {}, "base URL"),
        (f"{HOST}/bzctrl-core-api/oauth/token", {}, "base URL"),
        ("http://bzctrl.example.com", {}, "allow_http"),
    ):
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


DISGUISED = [
    "https://user:topsecret@bzctrl.example.com", f"{HOST}@evil.example", f"{HOST}\\@evil.example",
    f"{HOST}\\.evil.example", f"{HOST}%2f.evil.example", f"{HOST}%00.evil.example",
    f"{HOST}\r\nHost: evil.example", "bzctrl.example.com\r\nInjected: header", "bzctrl.example.com\nx",
    "bzctrl.example.com\tx", "bzctrl\x00.example.com", "bzctrl\x1b[31m.example.com", "bzctrl\u202e.example.com",
    "bzctrl\u200b.example.com", "bzctrl\ud800.example.com", f"{HOST}/\u202e", f"{HOST}/\x00",
    "https://bzctrl..example.com", "https://.example.com", "https://-bzctrl.example.com",
    f"https://{'a' * 64}.example.com", f"https://{'a.' * 200}example.com", "a" * 1_000_000, f"{HOST}<script>",
    "https://*.example.com", f"{HOST}?x=https://evil.example", f"{HOST}#@evil.example", "https://[::1",
    "https://[::1]evil.example", f"{HOST}:0x50", f"{HOST}:-1", "file:///etc/passwd", "ftp://bzctrl.example.com",
    "gopher://127.0.0.1:6379/_", "javascript://bzctrl.example.com", "data://bzctrl.example.com",
    "unix:///var/run/docker.sock", "http+unix://%2fvar%2frun%2fdocker.sock", "://bzctrl.example.com",
]  # fmt: skip


@pytest.mark.security
def test_from_host_disguised_address_raises():
    """Credentials, other schemes, line breaks, what libraries read differently, and what is no name; quickly, and unquoted."""
    for host in DISGUISED:
        began = time.monotonic()
        with pytest.raises(ValueError) as caught:
            Endpoints.from_host(host, allow_http=True)
        assert type(caught.value) is ValueError, host
        assert "topsecret" not in str(caught.value)
        assert "evil" not in str(caught.value)
        assert str(caught.value).isprintable()
        assert time.monotonic() - began < 2


@pytest.mark.security
def test_from_host_clear_text_to_other_machine_raises():
    """Only `allow_http` permits it, also to where clouds keep credentials and to addresses that resemble this machine."""
    for host in (
        "169.254.169.254", "[fe80::1]", "metadata.google.internal", "10.0.0.1", "0.0.0.0", "127.0.0.1.evil.example",
        "localhost.evil.example", "2130706433", "0x7f.1", "127.1",
    ):  # fmt: skip
        with pytest.raises(ValueError, match="is clear-text http"):
            Endpoints.from_host(f"http://{host}")
        created_at = Endpoints.from_host(f"http://{host}", allow_http=True).create_url
        assert created_at == f"http://{host}/bzctrl-core-api/api/v1/task/add-task"


@pytest.mark.security
def test_from_host_valid_address_is_accepted(requests_mock, fields):
    """And requests takes it as well: both requests are sent to it."""
    for host in (
        "bzctrl", "bz_ctrl.example.com", "bzctrl.example.com.", "xn--bcher-kva.example", "bücher.example", "10.0.0.1",
        "[fe80::1]", "BZCTRL.example.com/a%20path/",
    ):  # fmt: skip
        requests_mock.reset_mock()
        requests_mock.post(ANY, json={"access_token": "made-up"})
        new_client(Endpoints.from_host(host)).check_credentials()
        assert len(requests_mock.request_history) == 1
