"""Hold one HTTP request that was read completely."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Request:
    """Hold one request, without anything of its connection."""

    method: str
    path: str
    """Percent-decoded, without the query."""
    headers: dict[str, str]
    """Names in lower case; the values of a repeated header are joined by a comma."""
    body: bytes
    base_url: str
    """The address that the client used, such as ``http://127.0.0.1:8137``."""

    @property
    def content_type(self) -> str:
        """Return the Content-Type header, empty if there is none."""
        return self.headers.get("content-type", "")
