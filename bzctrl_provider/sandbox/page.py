"""Show the pages: all todos at ``/app/``, one todo at ``/app/#/todo/<key>``.

The part of an address after ``#`` never reaches a server. A small script therefore fetches ``/app/todo/<key>``, which
is also a complete page for a browser without scripts.
"""

from __future__ import annotations

import re
from decimal import Decimal
from pathlib import Path
from typing import Any

from jinja2 import Environment, FileSystemLoader, StrictUndefined

_HERE = Path(__file__).parent
STATIC = {
    "sandbox.css": "text/css; charset=utf-8",
    "sandbox.js": "text/javascript; charset=utf-8",
    "icon.svg": "image/svg+xml",
}
"""The files of the pages, and their types."""

# An address in a sentence: the punctuation at its end is the sentence's.
_LINK = re.compile(r"(https?://[^\s<>\"'`]*[^\s<>\"'`.,;:!?)\]])", re.IGNORECASE)


def split_links(text: str) -> list[tuple[str, bool]]:
    """Split a text into pieces, each with whether it is a link to an http(s) address.

    :param text: as the todo has it.
    """
    return [(piece, number % 2 == 1) for number, piece in enumerate(_LINK.split(text))]


def group_digits(amount: str) -> str:
    """Return a wire amount as people read it: ``1234567.5`` becomes ``1,234,567.5``, and no digit is lost.

    :param amount: digits with an optional decimal point.
    """
    return f"{Decimal(amount):,}"


_ENVIRONMENT = Environment(
    loader=FileSystemLoader(_HERE / "templates"),
    autoescape=True,
    undefined=StrictUndefined,
    trim_blocks=True,
    lstrip_blocks=True,
)
_ENVIRONMENT.filters.update(split_links=split_links, group_digits=group_digits)


def render(template: str, **values: Any) -> bytes:
    """Return a page.

    :param template: the name of its template.
    :param values: what the template shows.
    """
    # A page may repeat a key from the address, half of a surrogate pair included.
    return _ENVIRONMENT.get_template(template).render(**values).encode("utf-8", errors="replace")


def read_static(name: str) -> bytes:
    """Return a file of the pages.

    :param name: a key of ``STATIC``.
    """
    return (_HERE / "static" / name).read_bytes()
