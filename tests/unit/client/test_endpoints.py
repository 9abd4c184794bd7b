from __future__ import annotations

import pytest

from bzctrl_provider.client.endpoints import Endpoints


def test_acceptance_is_where_the_document_says():
    """Both calls of ACC are on one host."""
    assert Endpoints.from_environment("ACC") == Endpoints(
        "https://acc.bzctrl.com/bzctrl-core-api/oauth/token",
        "https://acc.bzctrl.com/bzctrl-core-api/api/v1/task/add-task",
    )


def test_production_has_two_hosts():
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
def test_another_host_has_the_same_paths(host, more, base):
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
def test_an_unusable_address_is_refused_with_the_remedy(host, more, said):
    """Contradictions, credentials, and clear text to another machine are named, and no secret is quoted."""
    with pytest.raises(ValueError, match=said) as caught:
        Endpoints.from_host(host, **more)
    assert "topsecret" not in str(caught.value)


def test_from_host_several_faults_are_one_error():
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
def test_from_host_unusable_address_is_refused(host, settings, said):
    """A host to which requests cannot send is an error of the connection, which quotes no part of a password."""
    with pytest.raises(ValueError, match=said) as caught:
        Endpoints.from_host(host, **settings)
    assert "sw0rd" not in str(caught.value)
