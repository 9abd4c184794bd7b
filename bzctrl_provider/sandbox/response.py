"""Hold one HTTP response: complete before its first byte is sent, so that a fault can still spoil it."""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from http import HTTPStatus
from typing import Any


@dataclass(frozen=True)
class Response:
    """Hold a status, a body, and headers with ASCII names; Content-Length follows from the body."""

    status: int
    body: bytes = b""
    headers: dict[str, str] = field(default_factory=dict)

    def encode_head(self, **more: str) -> bytes:
        """Return the status line and the headers as they go over the wire.

        :param more: more headers.
        """
        headers = {**self.headers, "Content-Length": str(len(self.body)), **more}
        lines = [f"HTTP/1.1 {self.status} {_get_reason(self.status)}"]
        lines += [f"{name}: {value}" for name, value in headers.items()]
        return "\r\n".join([*lines, "", ""]).encode("latin-1")


def make_json_response(
    content: Any, *, status: int = HTTPStatus.OK, headers: dict[str, str] | None = None
) -> Response:
    """Return content as a JSON response that no cache keeps.

    :param content: plain JSON.
    :param status: the HTTP status, default 200.
    :param headers: more headers.
    """
    # ASCII can carry even half of a surrogate pair, which a request may hold.
    body = json.dumps(content).encode("ascii")
    return Response(
        status, body, {"Content-Type": "application/json", "Cache-Control": "no-store", **(headers or {})}
    )


def make_error_response(
    status: HTTPStatus,
    description: str,
    *,
    error: str | None = None,
    headers: dict[str, str] | None = None,
    **more: Any,
) -> Response:
    """Return an error as JSON with ``error`` and ``error_description``.

    :param status: the HTTP status.
    :param description: a sentence for people.
    :param error: a short name, by default the status' phrase.
    :param headers: more headers.
    :param more: more keys of the JSON.
    """
    content = {"error": error or status.phrase, "error_description": description, **more}
    return make_json_response(content, status=status, headers=headers)


def _get_reason(status: int) -> str:
    try:
        return HTTPStatus(status).phrase
    except ValueError:
        return "Fault"  # a fault may have any status from 300 to 599
