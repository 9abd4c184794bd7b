"""The pages: all todos at `/app/`, one todo at `/app/#/todo/<key>`.

What follows a `#` never reaches a server. A small script therefore fetches `/app/todo/<key>`, which is a whole page
of its own for a browser without scripts.
"""

# No `from __future__ import annotations` here: FastAPI reads the endpoints' annotations while they are registered.

import asyncio
import re
from datetime import datetime
from pathlib import Path
from typing import Any, Final
from urllib.parse import quote

from fastapi import FastAPI, Request, Response
from fastapi.responses import RedirectResponse
from jinja2 import Environment, FileSystemLoader, StrictUndefined
from starlette.exceptions import HTTPException

from bzctrl_provider.sandbox.connection import CONNECTION_VARIABLE, connection_json
from bzctrl_provider.sandbox.front import base_url
from bzctrl_provider.sandbox.state import TodoStore

PAGE_ROUTES: Final[dict[str, tuple[str, ...]]] = {
    "/": ("GET", "HEAD"),
    "/app": ("GET", "HEAD"),
    "/app/": ("GET", "HEAD"),
    "/app/todo/<key>": ("GET", "HEAD"),
    "/app/static/<file>": ("GET", "HEAD"),
}

MAX_LISTED: Final = 200

SECURITY_HEADERS: Final = {
    "Cache-Control": "no-store",
    "Content-Security-Policy": (
        "default-src 'none'; script-src 'self'; style-src 'self'; connect-src 'self'; img-src 'self' data:; "
        "base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
    ),
    "Referrer-Policy": "no-referrer",
    "X-Content-Type-Options": "nosniff",
}

_HERE: Final = Path(__file__).parent
_STATIC_TYPES: Final = {
    "sandbox.css": "text/css; charset=utf-8",
    "sandbox.js": "text/javascript; charset=utf-8",
    "icon.svg": "image/svg+xml",
}

_LINK: Final = re.compile(r"https?://[^\s<>\"'`]+", re.IGNORECASE)
_SENTENCE_END: Final = ".,;:!?"

_LABELS: Final = {
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


def euros(amount: str) -> str:
    """Return a wire amount as people read it: `1234.5` becomes `EUR 1,234.50`, and no digit is lost.

    :param amount: digits with an optional decimal point.
    """
    units, _, cents = amount.partition(".")
    grouped = re.sub(r"(?<=\d)(?=(\d{3})+$)", ",", units.lstrip("0") or "0")
    return f"EUR {grouped}.{cents.ljust(2, '0')}"


def moment(created_at: str) -> str:
    """Return a stored time as people read it: `2026-01-31 09:05 UTC`.

    :param created_at: as the store keeps it.
    """
    return f"{datetime.fromisoformat(created_at):%Y-%m-%d %H:%M} UTC"


def linked(text: str) -> list[tuple[str, bool]]:
    """Cut a text into pieces, each with whether it is a link to an http(s) address.

    Punctuation that ends the sentence, and a bracket that was opened before the address, stay outside of the link.

    :param text: what the user wrote.
    """
    pieces: list[tuple[str, bool]] = []
    end = 0
    for found in _LINK.finditer(text):
        url = _without_sentence_end(found.group())
        pieces += [(text[end : found.start()], False), (url, True)]
        end = found.start() + len(url)
    pieces.append((text[end:], False))
    return [piece for piece in pieces if piece[0]]


def _without_sentence_end(url: str) -> str:
    while url[-1] in _SENTENCE_END or (
        url[-1] in ")]" and url.count(url[-1]) > url.count("(["[")]".index(url[-1])])
    ):
        url = url[:-1]
    return url


def css_name(value: str) -> str:
    """Return a wire value as a class name: `IN PROGRESS` becomes `in-progress`.

    :param value: one of the contract's values.
    """
    return re.sub(r"[^a-z]+", "-", value.lower())


def facts(todo: dict[str, Any]) -> list[tuple[str, str]]:
    """Return what a todo's page lists, each with its label, in a settled order.

    :param todo: as the store keeps it.
    """
    shown = []
    for key, label in _LABELS.items():
        if key not in todo:
            continue
        value = todo[key]
        if key == "financialImpact":
            value = euros(value)
        elif key == "createdAt":
            value = moment(value)
        shown.append((label, ", ".join(value) if isinstance(value, list) else value))
    return shown


def _environment() -> Environment:
    environment = Environment(
        loader=FileSystemLoader(_HERE / "templates"),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters.update(
        css_name=css_name, linked=linked, moment=moment, path=lambda key: quote(key, safe="")
    )
    return environment


class Pages:
    """The pages' endpoints.

    :param todos: what they show.
    """

    def __init__(self, todos: TodoStore) -> None:
        self._todos = todos
        self._environment = _environment()
        self._static = {name: (_HERE / "static" / name).read_bytes() for name in _STATIC_TYPES}

    def register(self, app: FastAPI) -> None:
        """Add the endpoints.

        :param app: what they are added to.
        """
        methods = ["GET", "HEAD"]
        app.add_api_route("/", self.home, methods=methods)
        app.add_api_route("/app", self.home, methods=methods)
        app.add_api_route("/app/", self.list, methods=methods)
        # `:path`, because a key may hold a slash, as the workspace it begins with may.
        app.add_api_route("/app/todo/{key:path}", self.todo, methods=methods)
        app.add_api_route("/app/static/{name}", self.static, methods=methods)

    async def home(self) -> Response:
        """Lead to the list."""
        return RedirectResponse("/app/", headers=SECURITY_HEADERS)

    async def list(self, request: Request) -> Response:
        """Show the newest todos."""
        todos, count = await asyncio.to_thread(self._todos.newest, MAX_LISTED)
        url = base_url(request.scope)
        return self._page(
            "list.html",
            todos=todos,
            count=count,
            url=url,
            variable=CONNECTION_VARIABLE,
            connection=connection_json(url),
        )

    async def todo(self, key: str) -> Response:
        """Show one todo, or say that there is none."""
        todo = await asyncio.to_thread(self._todos.get, key)
        if todo is None:
            return self._page("unknown.html", status=404, key=key)
        return self._page("todo.html", todo=todo, facts=facts(todo))

    async def static(self, name: str) -> Response:
        """Return the style sheet, the script or the icon."""
        if name not in self._static:
            raise HTTPException(404)
        return Response(self._static[name], headers=SECURITY_HEADERS, media_type=_STATIC_TYPES[name])

    def _page(self, template: str, *, status: int = 200, **values: Any) -> Response:
        text = self._environment.get_template(template).render(**values)
        # A page may repeat what was typed into the address bar, half a surrogate pair included.
        body = text.encode("utf-8", errors="replace")
        return Response(
            body, status_code=status, headers=SECURITY_HEADERS, media_type="text/html; charset=utf-8"
        )
