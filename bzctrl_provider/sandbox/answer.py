"""An HTTP answer held in the hand: made whole before a byte of it is sent, so that it can still be spoiled."""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from typing import Any


@dataclass(frozen=True)
class Answer:
    """A status, headers as ASGI wants them, and a body."""

    status: int
    headers: list[tuple[bytes, bytes]] = field(default_factory=list)
    body: bytes = b""


def as_json(content: Any) -> bytes:
    """Return content as JSON in ASCII, which can carry even half a surrogate pair that a request held.

    :param content: plain JSON.
    """
    return json.dumps(content).encode("ascii")


def whole(status: int, content_type: str, body: bytes, **headers: str) -> Answer:
    """Return an answer with its Content-Length.

    :param status: the HTTP status.
    :param content_type: of the body.
    :param body: the body.
    :param headers: more headers, their names with `_` for `-`.
    """
    pairs = [("content-type", content_type), ("content-length", str(len(body)))]
    pairs += [(name.replace("_", "-"), value) for name, value in headers.items()]
    return Answer(status, [(name.encode("ascii"), value.encode("latin-1")) for name, value in pairs], body)
