"""Replace secrets in a text by ``***``, however they are written there.

A server can repeat a password as it is, as a form or an address writes it (percent-encoded, perhaps twice), in JSON
(perhaps within a JSON text) or in HTML. The text is decoded step by step, and each step is searched for the secrets; so
the search costs one ``str.find`` for a secret and a step, whatever the length of the secret.
"""

from __future__ import annotations

import html
import re
import string
from collections import deque
from typing import TYPE_CHECKING
from urllib.parse import unquote, unquote_plus

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Mapping

    from pydantic import SecretStr

REDACTED = "***"

_DEPTH_MAX = 3
"""How many encodings around a secret are decoded, in any order."""

_STEPS_MAX = 24
"""How many decoded texts are searched at most: a hostile one has all encodings in it."""

_SEARCHED_CHARS = 20_000
"""How much of a response is searched for secrets, of which an error shows 500 characters."""

_LONGEST_SPELLING = 10
"""The most characters for one: ``&#x10ffff;``."""

_ASCII_LOWER = str.maketrans(string.ascii_uppercase, string.ascii_lowercase)

_ESCAPE = r"(?s)\\(u[0-9a-fA-F]{4}|x[0-9a-fA-F]{2}|.)"
_ESCAPED = {"n": "\n", "t": "\t", "r": "\r", "b": "\b", "f": "\f"}


def _unescape_json(text: str) -> str:
    def char(match: re.Match[str]) -> str:
        code = match[1]
        return chr(int(code[1:], 16)) if len(code) > 1 else _ESCAPED.get(code, code)

    decoded = re.sub(_ESCAPE, char, text)
    # Two halves of a surrogate pair are one character.
    return decoded.encode("utf-16", "surrogatepass").decode("utf-16", "replace")


_DECODERS: tuple[tuple[str, Callable[[str], str]], ...] = (
    ("%", unquote),
    ("+", unquote_plus),
    ("\\", _unescape_json),
    ("&", html.unescape),
)
"""The sign of an encoding in a text, and the function that decodes it."""


def redact(text: str, secrets: Iterable[SecretStr]) -> str:
    """Return a text with ``***`` for each secret.

    A text without secrets stays as it is. One with an encoded secret comes back decoded as far as it had to be to find it.
    """
    values = [value for secret in secrets if (value := secret.get_secret_value())]
    for value in values:
        text = _replace(text, value)
    for _ in range(_STEPS_MAX):
        found = _find(text, values)
        if found is None:
            return text
        text = _replace(*found)
    return REDACTED


def _find(text: str, values: Iterable[str]) -> tuple[str, str] | None:
    """Return a decoded text in which a secret is found, and the secret; None if there is none."""
    lowered = [(value, value.translate(_ASCII_LOWER)) for value in values]
    for decoded in _decoded_texts(text):
        searched = decoded.translate(_ASCII_LOWER)
        for value, low in lowered:
            if low in searched:
                return decoded, value
    return None


def _decoded_texts(text: str) -> Iterator[str]:
    """Yield what a text is when it is decoded up to ``_DEPTH_MAX`` times, in any order."""
    seen = {text}
    queue = deque([(text, 0)])
    while queue and len(seen) < _STEPS_MAX:
        encoded, depth = queue.popleft()
        for sign, decode in _DECODERS:
            decoded = decode(encoded) if sign in encoded else encoded
            if decoded in seen:
                continue
            seen.add(decoded)
            yield decoded
            if depth + 1 < _DEPTH_MAX:
                queue.append((decoded, depth + 1))


def _replace(text: str, value: str) -> str:
    """Replace a secret in any case of its ASCII letters."""
    searched, low = text.translate(_ASCII_LOWER), value.translate(_ASCII_LOWER)
    parts = []
    start = 0
    while (at := searched.find(low, start)) >= 0:
        parts += [text[start:at], REDACTED]
        start = at + len(value)
    return "".join([*parts, text[start:]])


def redact_beginning(text: str, secrets: Iterable[SecretStr]) -> str:
    """Redact the beginning of a text that may be long, and never leave half a secret at its end."""
    secrets = list(secrets)
    if len(text) <= _SEARCHED_CHARS:
        return redact(text, secrets)
    longest = max((len(secret.get_secret_value()) for secret in secrets), default=0)
    return redact(text[:_SEARCHED_CHARS], secrets)[: -_LONGEST_SPELLING * longest or None]


def proxy_passwords(proxies: Mapping[str, str]) -> list[str]:
    """Return the passwords in the addresses of proxies, as they are written and decoded; also of malformed ones."""
    found = []
    for address in proxies.values():
        userinfo, at, _ = address.rpartition("@")
        if at:
            _, _, credentials = userinfo.rpartition("://")
            _, _, password = credentials.partition(":")
            found += [password, unquote(password)]
    return list(dict.fromkeys(filter(None, found)))
