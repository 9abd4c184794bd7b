"""Replace secrets in a text by ``***``: as they are, and as an address, a form, JSON or HTML write them."""

from __future__ import annotations

import html
import json
import re
from typing import TYPE_CHECKING
from urllib.parse import quote, quote_plus, unquote

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from pydantic import SecretStr

REDACTED = "***"

_SEARCHED_CHARS = 20_000
"""How much of a response is searched for secrets, of which an error shows 500 characters."""


def _spellings(secret: str) -> set[str]:
    percent = {quote(secret, safe="", errors="replace"), quote_plus(secret, errors="replace")}
    in_json = {json.dumps(secret)[1:-1], json.dumps(secret, ensure_ascii=False)[1:-1]}
    in_html = html.escape(secret)
    return {
        secret,
        *percent,
        *(re.sub("%..", lambda match: match[0].lower(), text) for text in percent),
        *in_json,
        *(text.replace("/", r"\/") for text in in_json),
        html.escape(secret, quote=False),
        *(in_html.replace("&#x27;", apostrophe) for apostrophe in ("&#x27;", "&#39;", "&#039;", "&apos;")),
    }


def redact(text: str, secrets: Iterable[SecretStr]) -> str:
    """Return the beginning of a text with ``***`` for each secret, and never with half a secret at its end."""
    spellings = {spelled for secret in secrets for spelled in _spellings(secret.get_secret_value())} - {""}
    cut = len(text) - _SEARCHED_CHARS
    text = text[:_SEARCHED_CHARS]
    for spelled in sorted(spellings, key=len, reverse=True):
        text = text.replace(spelled, REDACTED)
    return text[: -max(map(len, spellings))] if cut > 0 and spellings else text


def proxy_passwords(proxies: Mapping[str, str]) -> list[str]:
    """Return the passwords in the addresses of proxies, as they are written and decoded; also of malformed ones."""
    found = [re.search(r"(?:^|//)[^/:]*:(?!//)(.+)@", address) for address in proxies.values()]
    passwords = [match[1] for match in found if match]
    return list(dict.fromkeys([*passwords, *map(unquote, passwords)]))
