"""Show the pages: all todos at ``/app/``, one todo at ``/app/#/todo/<key>``.

The part of an address after ``#`` never reaches a server. A small script therefore fetches ``/app/todo/<key>``, which
is also a complete page for a browser without scripts.
"""

from __future__ import annotations

import re
from datetime import datetime
from http import HTTPStatus
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import quote

from jinja2 import Environment, FileSystemLoader, StrictUndefined

from bzctrl_provider.sandbox.connection import CONNECTION_VARIABLE, make_connection_json
from bzctrl_provider.sandbox.response import Response, make_error_response

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from bzctrl_provider.sandbox.request import Request
    from bzctrl_provider.sandbox.state import TodoStore

MAX_LISTED = 200

SECURITY_HEADERS = {
    "Cache-Control": "no-store",
    "Content-Security-Policy": (
        "default-src 'none'; script-src 'self'; style-src 'self'; connect-src 'self'; img-src 'self' data:; "
        "base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
    ),
    "Referrer-Policy": "no-referrer",
    "X-Content-Type-Options": "nosniff",
}

_TODO_PREFIX = "/app/todo/"
_STATIC_PREFIX = "/app/static/"

_HERE = Path(__file__).parent
_STATIC_TYPES = {
    "sandbox.css": "text/css; charset=utf-8",
    "sandbox.js": "text/javascript; charset=utf-8",
    "icon.svg": "image/svg+xml",
}

_LINK = re.compile(r"https?://[^\s<>\"'`]+", re.IGNORECASE)
_SENTENCE_END = ".,;:!?"
_BRACKETS = {"(": ")", "[": "]"}

_LABELS = {
    "domainWorkSpace": "Domain workspace",
    "domain": "Domain",
    "workspace": "Workspace",
    "assignee": "Assignee",
    "reporter": "Reporter",
    "financialImpact": "Financial impact",
    "impact": "Impact",
    "likelihood": "Likelihood",
    "category": "Category",
    "subCategory": "Sub-category",
    "orderID": "Order ID",
    "lrn": "LRN",
    "LRN": "LRN",
    "reminderDate": "Reminder date",
    "dueDate": "Due date",
    "createdAt": "Created",
}


def format_euros(amount: str) -> str:
    """Return a wire amount as people read it: ``1234.5`` becomes ``EUR 1,234.50``, and no digit is lost.

    :param amount: digits with an optional decimal point.
    """
    units, _, cents = amount.partition(".")
    units = units.lstrip("0") or "0"
    # Slices, because a regular expression with a look-ahead takes quadratic time, and int() refuses thousands of digits.
    first = len(units) % 3 or 3
    groups = [units[:first], *(units[start : start + 3] for start in range(first, len(units), 3))]
    return f"EUR {','.join(groups)}.{cents.ljust(2, '0')}"


def format_time(created_at: str) -> str:
    """Return a stored time as people read it: ``2026-01-31 09:05 UTC``.

    :param created_at: as the store keeps it.
    """
    return f"{datetime.fromisoformat(created_at):%Y-%m-%d %H:%M} UTC"


def split_links(text: str) -> list[tuple[str, bool]]:
    """Split a text into pieces, each with whether it is a link to an http(s) address.

    Punctuation that ends the sentence, and a bracket that was opened before the address, stay outside of the link.

    :param text: as the todo has it.
    """
    pieces: list[tuple[str, bool]] = []
    end = 0
    for found in _LINK.finditer(text):
        url = _strip_sentence_end(found.group())
        pieces += [(text[end : found.start()], False), (url, True)]
        end = found.start() + len(url)
    pieces.append((text[end:], False))
    return [piece for piece in pieces if piece[0]]


def _strip_sentence_end(url: str) -> str:
    # Counted once: counting for each bracket takes quadratic time.
    unmatched = {closing: url.count(closing) - url.count(opening) for opening, closing in _BRACKETS.items()}
    end = len(url)
    while url[end - 1] in _SENTENCE_END or unmatched.get(url[end - 1], 0) > 0:
        end -= 1
        if url[end] in unmatched:
            unmatched[url[end]] -= 1
    return url[:end]


def make_css_name(value: str) -> str:
    """Return a wire value as a class name: ``IN PROGRESS`` becomes ``in-progress``.

    :param value: one of the contract's values.
    """
    return re.sub(r"[^a-z]+", "-", value.lower())


def list_facts(todo: dict[str, Any]) -> list[tuple[str, str]]:
    """Return the details of a todo with their labels, always in the same order.

    :param todo: as the store keeps it.
    """
    shown = []
    for key, label in _LABELS.items():
        if key not in todo:
            continue
        value = todo[key]
        if key == "financialImpact":
            value = format_euros(value)
        elif key == "createdAt":
            value = format_time(value)
        shown.append((label, ", ".join(value) if isinstance(value, list) else value))
    return shown


def _make_environment() -> Environment:
    environment = Environment(
        loader=FileSystemLoader(_HERE / "templates"),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters.update(
        css_name=make_css_name,
        split_links=split_links,
        format_time=format_time,
        path=lambda key: quote(key, safe=""),
    )
    return environment


class Pages:
    """Serve the pages.

    :param todos: the todos that they show.
    """

    def __init__(self, todos: TodoStore) -> None:
        self._todos = todos
        self._environment = _make_environment()
        self._static = {name: (_HERE / "static" / name).read_bytes() for name in _STATIC_TYPES}

    def routes(self) -> Mapping[str, Mapping[str, Callable[[Request], Response]]]:
        """Return the endpoint of each path and method."""
        endpoints = {
            "/": self.home,
            "/app": self.home,
            "/app/": self.list,
            _TODO_PREFIX + "<key>": self.todo,
            _STATIC_PREFIX + "<file>": self.static,
        }
        # The server leaves the body out of a response to HEAD.
        return {path: {"GET": endpoint, "HEAD": endpoint} for path, endpoint in endpoints.items()}

    def home(self, _request: Request) -> Response:
        """Redirect to the list."""
        return Response(HTTPStatus.TEMPORARY_REDIRECT, b"", {"Location": "/app/", **SECURITY_HEADERS})

    def list(self, request: Request) -> Response:
        """Show the newest todos."""
        todos, count = self._todos.newest(MAX_LISTED)
        return self._render(
            "list.html",
            todos=todos,
            count=count,
            url=request.base_url,
            variable=CONNECTION_VARIABLE,
            connection=make_connection_json(request.base_url),
        )

    def todo(self, request: Request) -> Response:
        """Show one todo, or that there is none with this key."""
        # A key may hold a slash, as the workspace that it begins with may.
        key = request.path.removeprefix(_TODO_PREFIX)
        todo = self._todos.get(key)
        if todo is None:
            return self._render("unknown.html", status=HTTPStatus.NOT_FOUND, key=key)
        return self._render("todo.html", todo=todo, facts=list_facts(todo))

    def static(self, request: Request) -> Response:
        """Return the style sheet, the script or the icon."""
        name = request.path.removeprefix(_STATIC_PREFIX)
        if name not in self._static:
            known = [f"GET {_STATIC_PREFIX}{one}" for one in _STATIC_TYPES]
            return make_error_response(
                HTTPStatus.NOT_FOUND, f"There is nothing at {request.path}.", known=known
            )
        return Response(
            HTTPStatus.OK, self._static[name], {"Content-Type": _STATIC_TYPES[name], **SECURITY_HEADERS}
        )

    def _render(self, template: str, *, status: int = HTTPStatus.OK, **values: Any) -> Response:
        text = self._environment.get_template(template).render(**values)
        # A page may repeat a key from the address, half of a surrogate pair included.
        body = text.encode("utf-8", errors="replace")
        return Response(status, body, {"Content-Type": "text/html; charset=utf-8", **SECURITY_HEADERS})
