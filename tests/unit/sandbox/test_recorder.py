"""The records of requests."""

from __future__ import annotations

from typing import Any

import pytest

from bzctrl_provider.sandbox.recorder import MAX_RECORDED_BODY, record, redact_body, redact_headers
from bzctrl_provider.sandbox.request import Request

TOKEN = "/bzctrl-core-api/oauth/token"
CREATE = "/bzctrl-core-api/api/v1/task/add-task"
FORM = "application/x-www-form-urlencoded"
JSON = "application/json"


def test_redact_headers_with_credentials_keeps_the_scheme() -> None:
    """A record keeps the scheme of an Authorization header and nothing more of a secret."""
    headers = {
        "authorization": "Bearer secret",
        "proxy-authorization": "secret",
        "cookie": "session=secret",
        "accept": "a, b",
    }
    assert redact_headers(headers) == {
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
        (b'{"username": "u", "password": "p"}', TOKEN, JSON, {"username": "u", "password": "***"}),
        (b"password=%ff", TOKEN, FORM, "***"),
        (b"password=p", TOKEN, "text/plain", "***"),
        (b'{"title": "t"}', CREATE, "application/json; charset=utf-8", {"title": "t"}),
        (b"[1]", CREATE, JSON, [1]),
        (b"{", CREATE, JSON, "{"),
        (b"\xff", CREATE, "", "\ufffd"),
    ],
)
def test_redact_body_of_any_kind_has_no_password(raw: bytes, path: str, content_type: str, body: Any) -> None:
    """A body is recorded as it can be read, and no password ever is."""
    assert redact_body(raw, path=path, content_type=content_type) == body


@pytest.mark.parametrize(
    ("raw", "path", "content_type", "beginning"),
    [
        (b'{"title": "%s"}' % (b"t" * MAX_RECORDED_BODY), CREATE, JSON, '{"title": "ttt'),
        (
            b'{"password": "p", "title": "%s"}' % (b"t" * MAX_RECORDED_BODY),
            CREATE,
            JSON,
            '{"password": "***"',
        ),
        (b"x" * (MAX_RECORDED_BODY + 1), CREATE, JSON, "xxx"),
        (
            b"grant_type=password&password=p&x=" + b"x" * MAX_RECORDED_BODY,
            TOKEN,
            FORM,
            '{"grant_type": "password", "password": "***"',
        ),
    ],
    ids=["json", "json with a password", "text", "form"],
)
def test_redact_body_over_the_limit_is_truncated_visibly(
    raw: bytes, path: str, content_type: str, beginning: str
) -> None:
    """A longer body is recorded as the beginning of its text and a note with its size, secrets redacted before."""
    body = redact_body(raw, path=path, content_type=content_type)
    note = f"… (truncated: the body has {len(raw):,} bytes)"
    assert body.startswith(beginning)
    assert body.endswith(note)
    assert len(body) == MAX_RECORDED_BODY + len(note)


def test_redact_body_at_the_limit_is_complete() -> None:
    """A body of exactly the limit is recorded as its JSON."""
    raw = b'{"title": "%s"}' % (b"t" * (MAX_RECORDED_BODY - 13))
    assert len(raw) == MAX_RECORDED_BODY
    assert redact_body(raw, path=CREATE, content_type=JSON) == {"title": "t" * (MAX_RECORDED_BODY - 13)}


def test_record_of_a_reset_has_no_status() -> None:
    """A record names method, path, status and fault."""
    request = Request("POST", CREATE, {"content-type": JSON}, b'{"a": 1}', "http://x")
    made = record(request, status=None, fault="reset_after")
    assert made.as_dict() == {
        "method": "POST",
        "path": CREATE,
        "headers": {"content-type": JSON},
        "body": {"a": 1},
        "status": None,
        "fault": "reset_after",
    }
