"""Record requests in a form that may be shown: secrets redacted, and bounded in size."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

from bzctrl_provider.sandbox.contract import (
    TOKEN_PATH,
    UnreadableBodyError,
    is_media_type,
    read_form,
    read_json,
)
from bzctrl_provider.sandbox.state import RecordedRequest

if TYPE_CHECKING:
    from bzctrl_provider.sandbox.request import Request

REDACTED = "***"

MAX_RECORDED_BODY = 64 * 1024
"""How many characters of a body are recorded; a longer one is recorded as text that ends in a note."""

_SECRET_HEADERS = ("authorization", "proxy-authorization", "cookie")
_SECRET_KEYS = ("password", "access_token", "refresh_token", "client_secret")


def record(request: Request, *, status: int | None, fault: str | None) -> RecordedRequest:
    """Return the record of a request, without secrets.

    :param request: the received request.
    :param status: the status of the response; None if the connection was reset instead.
    :param fault: the name of the injected fault, if any.
    """
    return RecordedRequest(
        method=request.method,
        path=request.path,
        headers=redact_headers(request.headers),
        body=redact_body(request.body, path=request.path, content_type=request.content_type),
        status=status,
        fault=fault,
    )


def redact_headers(headers: dict[str, str]) -> dict[str, str]:
    """Return headers with their secrets redacted; of an Authorization header, the scheme is kept.

    :param headers: names in lower case.
    """
    return {
        name: _redact_credentials(value) if name in _SECRET_HEADERS else value
        for name, value in headers.items()
    }


def _redact_credentials(value: str) -> str:
    scheme = value.partition(" ")[0]
    return f"{scheme} {REDACTED}" if scheme in ("Bearer", "Basic") else REDACTED


def redact_body(raw: bytes, *, path: str, content_type: str) -> Any:
    """Return a body as it may be shown: parsed if possible, secrets redacted, at most ``MAX_RECORDED_BODY`` long.

    :param raw: the body as it was received.
    :param path: the path of the request; an unreadable body of a token request is redacted completely.
    :param content_type: the header's value.
    """
    if not raw:
        return None
    try:
        if is_media_type(content_type, "application/json"):
            return _limit(_redact_keys(read_json(raw)), size=len(raw))
        if is_media_type(content_type, "application/x-www-form-urlencoded"):
            return _limit(_redact_keys(dict(read_form(raw))), size=len(raw))
    except UnreadableBodyError:
        pass
    if path == TOKEN_PATH:
        return REDACTED
    return _limit(raw[: 4 * MAX_RECORDED_BODY].decode("utf-8", errors="replace"), size=len(raw))


def _redact_keys(body: Any) -> Any:
    if isinstance(body, dict):
        return {key: REDACTED if key in _SECRET_KEYS else value for key, value in body.items()}
    return body


def _limit(body: Any, *, size: int) -> Any:
    """Return a body, or the beginning of its text with a note if it is too long."""
    # Nothing gets longer than the bytes it came from, apart from characters that JSON escapes.
    if size <= MAX_RECORDED_BODY:
        return body
    text = body if isinstance(body, str) else json.dumps(body, ensure_ascii=False)
    return f"{text[:MAX_RECORDED_BODY]}… (truncated: the body has {size:,} bytes)"
