"""Make text of other systems safe to show: responses of BzCtrl, the data of a DAG, values in Airflow's storage.

A line break must not forge a line of a log, a control character not control a terminal, a mark of direction not reverse a
line, half a surrogate pair not break an encoder of UTF-8, and an object's own ``repr`` not show a secret.

Here is also how texts are read that users write: patterns of names, and times. A text or a list that is shown has one of
four sizes. ``settings`` imports this module in every process of Airflow, so it imports nothing heavy.
"""

from __future__ import annotations

import hashlib
import json
import re
from datetime import UTC, date, datetime
from decimal import Decimal
from fnmatch import fnmatchcase
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping, Sequence

NAME_CHARS = 200
"""The most characters of a name: an id, a title, a path's last part."""

LINE_CHARS = 300
"""The most characters of a line: a reason, an address in a sentence, a path."""

TEXT_CHARS = 2000
"""The most characters of a text: an exception, an excerpt of a response, an address that has to work."""

LIST_ITEMS = 20
"""The most items of a list; the rest is a number."""

DIGITS_MAX = 400
"""The most digits of a number: every float can be written with fewer, and ``1e999999999`` would fill the memory."""

FAILURES_MAX = 1000
"""The most failures in a row that ``consecutive_failures`` waits for."""

WINDOW_MAX_S = 10 * 365 * 86_400
"""The longest ``dedup_window_s``: ten years."""

LOG_LINES_MAX = 50
"""The most lines of a task's log in an incident."""

MAX_WORKERS = 64
"""The most threads, and therefore connections, that one client uses."""

_PLAIN = (type(None), bool, int, float, complex, str, bytes, Decimal, date, datetime)
_CONTAINERS = (list, tuple, set, frozenset)


def digest_of(*parts: object) -> str:
    """Return 64 hexadecimal digits: equal parts give the same ones, in every process and on every machine."""
    # As JSON, because joined text makes ("a", "bc") and ("ab", "c") the same.
    text = json.dumps([str(part) for part in parts])
    return hashlib.sha256(text.encode("utf-8", "surrogatepass")).hexdigest()


def one_line(text: str, *, max_chars: int) -> str:
    """Return the beginning of a text as one line of characters that can be seen."""
    seen = "".join(char if char.isprintable() else " " for char in text)
    return " ".join(seen.split())[:max_chars]


def plain_text(text: str) -> str:
    """Return a text of any length with its lines, and ``U+FFFD`` for characters that no database and no terminal should get."""
    return re.sub(r"[\x00-\x08\x0b\x0c\x0e-\x1f\x7f-\x9f\ud800-\udfff]", "\ufffd", text)


def cut(text: str, chars: int) -> str:
    """Return the beginning of a text, with an ellipsis if something was left out."""
    return text if len(text) <= chars else f"{text[: chars - 1]}…"


def count(number: int, thing: str) -> str:
    """Return a number with its noun, for example ``2 tests``."""
    return f"{number} {thing}" if number == 1 else f"{number} {thing}s"


def format_span(seconds: float, *, least: int = 1) -> str:
    """Return a time span in its largest unit, such as ``12 min``.

    :param seconds: its length; less than 0 counts as 0.
    :param least: how many of a unit there have to be; with 2, 90 seconds are ``90 s``.
    """
    for unit, unit_s in (("d", 86_400), ("h", 3600), ("min", 60)):
        if seconds >= least * unit_s:
            return f"{int(seconds // unit_s)} {unit}"
    return f"{max(0, int(seconds))} s"


def list_names(names: Sequence[str]) -> str:
    """Return the first 20 names on one line, and how many more there are."""
    more = len(names) - LIST_ITEMS
    return ", ".join(names[:LIST_ITEMS]) + (f" and {more} more" if more > 0 else "")


def suggest(name: str, known: Iterable[str], *, otherwise: str = "there are {}") -> str:
    """Return the remedy for a name that is unknown: the one that it may be a typing error of, otherwise all.

    :param otherwise: has ``{}`` in place of all known names.
    """
    # Only here: each process of Airflow imports this module.
    from difflib import get_close_matches

    names = list(known)
    close = get_close_matches(name.lower(), names, n=1)
    return f"did you mean {close[0]}?" if close else otherwise.format(", ".join(names))


def names_in_brackets(names: Sequence[str], *, room: int) -> str:
    """Return as many names as there is room for, such as `` (orders, totals, …)``; empty if there is none."""
    text = ""
    for number, name in enumerate(names, 1):
        longer = f"{text}, {name}" if text else name
        end = "" if number == len(names) else ", …"
        if len(longer) + len(end) + len(" ()") > room:
            return f" ({text}, …)" if text else ""
        text = longer
    return f" ({text})" if text else ""


def web_address(link: object) -> str | None:
    """Return a link that may become a button: http or https, to a host, without credentials; otherwise None."""
    if not isinstance(link, str) or not link.lower().startswith(("http://", "https://")):
        return None
    if len(link) > TEXT_CHARS or not link.isprintable() or not set(link).isdisjoint(' "<>\\`'):
        return None
    try:
        parts = urlsplit(link)
    except ValueError:
        return None
    return link if parts.hostname and "@" not in parts.netloc else None


def is_email(text: str) -> bool:
    """Return whether a text is one e-mail address, without a name around it."""
    return re.fullmatch(r"[^@\s<>,;]+@[^@\s<>,;]+", text) is not None


def is_encodable(text: str) -> bool:
    """Return whether a text can be sent as UTF-8, which half a surrogate pair cannot."""
    return re.search(r"[\ud800-\udfff]", text) is None


def json_line(data: object) -> str:
    """Return data as JSON on one line, readable in any alphabet; of an object that is no plain data, the type."""
    try:
        text = json.dumps(data, default=safe_repr, ensure_ascii=False)
    except (TypeError, ValueError, RecursionError):  # a key that is no text, data that holds itself
        return json.dumps(safe_repr(data))
    return "".join(char if char.isprintable() else json.dumps(char)[1:-1] for char in text)


def safe_repr(value: Any, *, max_chars: int = NAME_CHARS) -> str:
    """Return the beginning of a value for a message; of an object that is no plain data, only its type."""
    kind = type(value)
    items = value if kind in _CONTAINERS else [value]
    if len(items) < LIST_ITEMS and all(type(item) in _PLAIN for item in items):
        try:
            return f"{value!r:.{max_chars}}"
        except ValueError:  # Python writes no integer of more than 4,300 digits
            return "a number of thousands of digits"
    if isinstance(value, str):
        return f"{str.__repr__(value):.{max_chars}}"
    return f"an object of type {one_line(kind.__name__, max_chars=NAME_CHARS)}"


def fits_any(patterns: Iterable[str], name: str) -> bool:
    """Return whether any of the patterns fits a name.

    A pattern is one of a shell, as in Python's ``fnmatch``: ``*`` is any text, ``?`` is one character, ``[ab]`` is one of these
    characters, and ``[!ab]`` is one of all others; ``[[]`` is the character ``[``. Upper and lower case differ, and a pattern
    has to fit the whole name.
    """
    return any(fnmatchcase(name, pattern) for pattern in patterns)


def read_patterns(value: object) -> tuple[str, ...]:
    """Return the patterns that a user has written as a list of texts, or as one text.

    :raises ValueError: the value is something else, empty, or has an empty pattern.
    """
    texts = [value] if isinstance(value, str) else value
    if not isinstance(texts, list) or not all(isinstance(text, str) for text in texts):
        raise ValueError(f"must be a pattern or a list of patterns, not {value!r}")
    if not texts:
        raise ValueError("must have at least one pattern: leave it out to match everything")
    patterns = tuple(text.strip() for text in texts)
    if not all(patterns):
        raise ValueError('must not have an empty pattern: write "*" to match everything')
    return patterns


def read_values(
    written: Mapping[str, Any], rules: Mapping[str, Callable[[Any], Any]]
) -> tuple[dict[str, Any], list[tuple[str, str]]]:
    """Return the values that a user has written, and the faults of the others, each with its name.

    :param rules: all names that there are, each with what returns its value, or raises ``ValueError``.
    """
    values: dict[str, Any] = {}
    faults = []
    for name, value in written.items():
        if name not in rules:
            faults.append((name, f"is unknown: {suggest(name, rules)}"))
            continue
        try:
            values[name] = rules[name](value)
        except ValueError as exc:
            faults.append((name, str(exc)))
    return values, faults


def parse_time(value: object) -> datetime | None:
    """Return the time of a text in ISO 8601 that names a time zone, in UTC; None for anything else."""
    try:
        time = datetime.fromisoformat(value) if isinstance(value, str) else None
        return time.astimezone(UTC) if time and time.tzinfo else None
    except (ValueError, OverflowError):
        return None
