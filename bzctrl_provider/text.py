"""Make text of other systems safe to show: responses of BzCtrl, the data of a DAG, values in Airflow's storage.

A line break must not forge a line of a log, a control character not control a terminal, a mark of direction not reverse a
line, half a surrogate pair not break an encoder of UTF-8, and an object's own ``repr`` not show a secret.
"""

from __future__ import annotations

import json
from datetime import date, datetime
from decimal import Decimal
from functools import cache
from urllib.parse import urlsplit

_SHOWN_CHARS = 80
_SHOWN_ITEMS = 20
_ADDRESS_CHARS = 2000

_PLAIN = (type(None), bool, int, float, complex, str, bytes, Decimal, date, datetime)
_CONTAINERS = (list, tuple, set, frozenset)

_EMAIL = r"[^@\s<>,;]+@[^@\s<>,;]+"

_UNFIT = (range(9), (0x0B, 0x0C), range(0x0E, 0x20), range(0x7F, 0xA0), range(0xD800, 0xE000))


def one_line(text: str, *, max_chars: int) -> str:
    """Return the beginning of a text as one line of characters that can be seen."""
    seen = "".join(char if char.isprintable() else " " for char in text)
    return " ".join(seen.split())[:max_chars]


def plain_text(text: str) -> str:
    """Return a text of any length with its lines, and ``U+FFFD`` for characters that no database and no terminal should get."""
    return text.translate(_replace_unfit())


@cache
def _replace_unfit() -> dict[int, str]:
    # Made when it is first used: each parse of a DAG file imports this module.
    return dict.fromkeys((code for codes in _UNFIT for code in codes), "\ufffd")


def web_address(link: object) -> str | None:
    """Return a link that may become a button: http or https, to a host, without credentials; otherwise None."""
    if not isinstance(link, str) or not link.lower().startswith(("http://", "https://")):
        return None
    if len(link) > _ADDRESS_CHARS or not link.isprintable() or not set(link).isdisjoint(' "<>\\`'):
        return None
    try:
        parts = urlsplit(link)
    except ValueError:
        return None
    return link if parts.hostname and "@" not in parts.netloc else None


def is_email(text: str) -> bool:
    """Return whether a text is one e-mail address, without a name around it."""
    import re

    return re.fullmatch(_EMAIL, text) is not None


def is_encodable(text: str) -> bool:
    """Return whether a text can be sent as UTF-8, which half a surrogate pair cannot."""
    try:
        text.encode()
    except UnicodeEncodeError:
        return False
    return True


def json_line(data: object) -> str:
    """Return data as JSON on one line, readable in any alphabet; of an object that is no plain data, the type."""
    try:
        text = json.dumps(data, default=safe_repr, ensure_ascii=False)
    except Exception:  # noqa: BLE001 - a key that is no text, data that holds itself
        return json.dumps(safe_repr(data))
    return "".join(char if char.isprintable() else json.dumps(char)[1:-1] for char in text)


def safe_repr(value: object, *, max_chars: int = _SHOWN_CHARS) -> str:
    """Return the beginning of a value for a message; of an object that is no plain data, only its type."""
    kind = type(value)
    if kind in _PLAIN or (kind in _CONTAINERS and _holds_plain(value)):
        try:
            return f"{value!r:.{max_chars}}"
        except ValueError:  # Python writes no integer of more than 4,300 digits
            return "a number of thousands of digits"
    if isinstance(value, str):
        return f"{str.__repr__(value):.{max_chars}}"
    return f"an object of type {one_line(kind.__name__, max_chars=_SHOWN_CHARS)}"


def _holds_plain(container: object) -> bool:
    items = list(container)[:_SHOWN_ITEMS] if isinstance(container, _CONTAINERS) else []
    return all(type(item) in _PLAIN for item in items) and len(items) < _SHOWN_ITEMS
