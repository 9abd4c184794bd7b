"""What is recorded of a request, and what a fault answers."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

import pytest

from bzctrl_provider.sandbox.faults import Fault
from bzctrl_provider.sandbox.front import (
    base_url,
    fault_answer,
    recorded_body,
    recorded_headers,
    request_kind,
)

TOKEN = "/bzctrl-core-api/oauth/token"
CREATE = "/bzctrl-core-api/api/v1/task/add-task"
FORM = "application/x-www-form-urlencoded"


@pytest.mark.parametrize(
    ("method", "path", "kind"),
    [
        ("POST", TOKEN, "token"),
        ("POST", CREATE, "create"),
        ("PUT", CREATE, "create"),
        ("GET", CREATE, None),
        ("POST", "/", None),
    ],
)
def test_kind_of_request(method: str, path: str, kind: str | None) -> None:
    """Only requests that would do something are open to faults."""
    assert request_kind(method, path) == kind


def test_secret_headers_are_blotted_out() -> None:
    """A record keeps the scheme of an Authorization header and nothing else of a secret."""
    raw = [
        (b"Authorization", b"Bearer secret"),
        (b"Proxy-Authorization", b"secret"),
        (b"Cookie", b"session=secret"),
        (b"Accept", b"a"),
        (b"accept", b"b"),
    ]
    assert recorded_headers(raw) == {
        "authorization": "Bearer ***",
        "proxy-authorization": "***",
        "cookie": "***",
        "accept": "a, b",
    }


@pytest.mark.parametrize(
    ("raw", "path", "content_type", "body"),
    [
        (b"", TOKEN, FORM, None),
        (
            b"grant_type=password&username=u&password=p",
            TOKEN,
            FORM,
            {"grant_type": "password", "username": "u", "password": "***"},
        ),
        (
            b'{"username": "u", "password": "p"}',
            TOKEN,
            "application/json",
            {"username": "u", "password": "***"},
        ),
        (b"password=%ff", TOKEN, FORM, "***"),
        (b"password=p", TOKEN, "text/plain", "***"),
        (b'{"title": "t"}', CREATE, "application/json; charset=utf-8", {"title": "t"}),
        (b"[1]", CREATE, "application/json", [1]),
        (b"{", CREATE, "application/json", "{"),
        (b"\xff", CREATE, "", "\ufffd"),
    ],
)
def test_recorded_body(raw: bytes, path: str, content_type: str, body: Any) -> None:
    """A body is recorded as it can be read, and no password ever is."""
    assert recorded_body(raw, path=path, content_type=content_type) == body


@pytest.mark.parametrize(
    ("scope", "url"),
    [
        ({"headers": [(b"host", b"bzctrl.test:81")], "server": ("127.0.0.1", 1)}, "http://bzctrl.test:81"),
        ({"headers": [], "server": ("127.0.0.1", 1)}, "http://127.0.0.1:1"),
        ({"headers": [], "server": ("::1", 1)}, "http://[::1]:1"),
    ],
)
def test_address_is_the_one_the_client_used(scope: dict[str, Any], url: str) -> None:
    """Links begin with the Host the client named, and with the server's address where it named none."""
    assert base_url({"scheme": "http", **scope}) == url


def test_retry_after_as_a_date() -> None:
    """Retry-After can be an HTTP date that lies so many seconds ahead."""
    fault = Fault(429, retry_after_s=90, retry_after_as_date=True)
    answer = fault_answer(fault, base_url="http://x", now=datetime(2026, 1, 31, 23, 59, tzinfo=UTC))
    assert (b"retry-after", b"Sun, 01 Feb 2026 00:00:30 GMT") in answer.headers


def test_not_modified_has_no_body() -> None:
    """A 304 has none by HTTP's own rules."""
    assert fault_answer(Fault(304), base_url="http://x", now=datetime.now(UTC)).body == b""
