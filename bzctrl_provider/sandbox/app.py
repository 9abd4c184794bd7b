"""Answer requests: the two documented endpoints, the pages, and the sandbox's own endpoints under ``/sandbox/``.

Each response is complete before its first byte is sent, so that a fault can still delay it, cut it or drop it.

The pages are all todos at ``/app/``, one todo at ``/app/#/todo/<key>``. The part of an address after ``#`` never reaches a server. A
small script therefore fetches ``/app/todo/<key>``, which is also a complete page for a browser without scripts.
"""

from __future__ import annotations

import inspect
import json
import re
from dataclasses import asdict, dataclass, field, replace
from datetime import timedelta
from decimal import Decimal
from email.utils import format_datetime
from http import HTTPStatus
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from jinja2 import Environment, FileSystemLoader, StrictUndefined

from bzctrl_provider.sandbox import contract
from bzctrl_provider.sandbox.contract import CREATE_PATH, FORM, JSON, TOKEN_PATH, WireError
from bzctrl_provider.sandbox.state import RecordedRequest, SandboxControls, redact_body, redact_headers

if TYPE_CHECKING:
    from collections.abc import Callable
    from datetime import datetime

    from bzctrl_provider.sandbox.state import Fault, State

_KINDS = {("POST", TOKEN_PATH): "token", ("POST", CREATE_PATH): "create", ("PUT", CREATE_PATH): "create"}
"""The requests that can get a fault: those that would have an effect."""

# Texts of DAGs are on the pages. They are escaped; the policy holds if one of them should be forgotten.
_PAGE_HEADERS = {
    "Cache-Control": "no-store",
    "Content-Security-Policy": "default-src 'none'; script-src 'self'; style-src 'self'; connect-src 'self'; img-src 'self'; base-uri 'none'; form-action 'none'",
}
_HTML = {"Content-Type": "text/html; charset=utf-8"}
_SIGN_IN = b"<!DOCTYPE html><html><head><title>Sign in</title></head><body>Please sign in.</body></html>"


@dataclass(frozen=True)
class Request:
    """One HTTP request that was read completely."""

    method: str
    path: str
    """Percent-decoded, without the query."""
    headers: dict[str, str]
    """Names in lower case."""
    body: bytes
    base_url: str
    """The address that the client used, such as ``http://127.0.0.1:8137``."""

    @property
    def content_type(self) -> str:
        """Return the Content-Type header, empty if there is none."""
        return self.headers.get("content-type", "")


@dataclass(frozen=True)
class Response:
    """One HTTP response, and how the server sends it."""

    status: int
    body: bytes = b""
    headers: dict[str, str] = field(default_factory=dict)
    delay_s: float = 0
    """Seconds before anything happens on the connection."""
    ending: Literal["complete", "cut", "reset"] = "complete"
    """``complete``: sent completely. ``cut``: half of the body, then the end. ``reset``: a TCP reset, no response."""


def make_json(content: Any, status: int = HTTPStatus.OK, headers: dict[str, str] | None = None) -> Response:
    """Return content as a JSON response that no cache keeps.

    :param content: plain JSON.
    :param status: the HTTP status, default 200.
    :param headers: more headers.
    """
    # ASCII can carry even half of a surrogate pair, which a request may hold.
    body = json.dumps(content).encode("ascii")
    return Response(status, body, {"Content-Type": JSON, "Cache-Control": "no-store", **(headers or {})})


def refuse(
    status: HTTPStatus, description: str, error: str | None = None, headers: dict[str, str] | None = None
) -> Response:
    """Return an error as JSON with ``error`` and ``error_description``.

    :param status: the HTTP status.
    :param description: a sentence for people.
    :param error: a short name, by default the status' phrase.
    :param headers: more headers.
    """
    return make_json({"error": error or status.phrase, "error_description": description}, status, headers)


def refuse_fields(errors: list[WireError], error: str) -> Response:
    """Return a 400 that names every error of a request.

    :param errors: the errors.
    :param error: a short name.
    """
    description = "; ".join(f"{found['field']} {found['fault']}" for found in errors)
    content = {"error": error, "error_description": description, "faults": errors}
    return make_json(content, HTTPStatus.BAD_REQUEST)


def refuse_credentials(description: str, error: str) -> Response:
    """Return a 401.

    :param description: a sentence for people.
    :param error: a short name.
    """
    return refuse(HTTPStatus.UNAUTHORIZED, description, error, {"WWW-Authenticate": "Bearer"})


class Api:
    """The endpoints, with the faults that were asked for.

    :param state: what the endpoints share.
    :param clock: returns the current time.
    """

    def __init__(self, state: State, clock: Callable[[], datetime]) -> None:
        self._state = state
        self._clock = clock
        todos, controls = state.todos, SandboxControls(state)
        home = Response(HTTPStatus.TEMPORARY_REDIRECT, b"", {"Location": "/app/", **_PAGE_HEADERS})
        self._routes: dict[str, dict[str, Callable[[Request], Response]]] = {
            TOKEN_PATH: {"POST": self._issue_token},
            CREATE_PATH: {"POST": self._create, "PUT": self._create},
            "/": {"GET": lambda _: home},
            "/app": {"GET": lambda _: home},
            "/app/": {"GET": self._show_list},
            "/app/todo/": {"GET": self._show_todo},
            "/app/static/": {"GET": self._show_static},
            "/sandbox/health": {"GET": lambda _: make_json({"status": "ok", "todos": len(todos.all())})},
            "/sandbox/todos": {"GET": lambda _: make_json(todos.all())},
            "/sandbox/requests": {"GET": lambda _: make_json([asdict(one) for one in state.requests])},
            "/sandbox/faults": {"POST": _call(controls.fail_next), "DELETE": _call(controls.clear_faults)},
            "/sandbox/faults/random": {"POST": _call(controls.fail_randomly)},
            "/sandbox/tokens": {"DELETE": _call(controls.expire_tokens)},
            "/sandbox/reset": {"POST": _call(controls.reset)},
        }

    def answer(self, request: Request) -> Response:
        """Return the response to a request, with its fault; the request is recorded before this returns.

        :param request: the received request.
        """
        if request.path.startswith("/sandbox/"):
            return self._respond(request)
        fault = self._state.faults.take(_KINDS.get((request.method, request.path)))
        takes_effect = fault is None or fault.takes_effect
        response = self._respond(request) if takes_effect else Response(HTTPStatus.OK)
        if fault is not None and response.status != HTTPStatus.OK:
            # Nothing was created: a fault after the creation waits for a request that creates something.
            self._state.faults.give_back(fault)
            fault = None
        if fault is not None:
            response = replace(self._inject(fault, response, request.base_url), delay_s=fault.delay_s)
        # Recorded before the first byte is sent: a client that has its response finds the record.
        recorded = RecordedRequest(
            request.method,
            request.path,
            redact_headers(request.headers),
            redact_body(request.body, path=request.path, content_type=request.content_type),
            status=None if response.ending == "reset" else response.status,
            fault=None if fault is None else str(fault.kind),
        )
        self._state.requests.append(recorded)
        return response

    def _inject(self, fault: Fault, response: Response, base_url: str) -> Response:
        """Return the response of a fault; ``response`` is the real one if the request takes effect."""
        if isinstance(fault.kind, int):
            return self._make_status(fault, fault.kind, base_url)
        return {
            "slow": response,
            "cut": replace(response, ending="cut"),
            "html": Response(HTTPStatus.OK, _SIGN_IN, _HTML),
            "empty": Response(HTTPStatus.OK, b"", {"Content-Type": JSON}),
            "no_todo": make_json({"status": 500, "error": "Internal Server Error"}),
        }.get(fault.kind, Response(HTTPStatus.OK, ending="reset"))

    def _make_status(self, fault: Fault, status: int, base_url: str) -> Response:
        headers = {}
        if fault.retry_after_s is not None:
            date = format_datetime(self._clock() + timedelta(seconds=fault.retry_after_s), usegmt=True)
            headers["Retry-After"] = date if fault.retry_after_as_date else str(fault.retry_after_s)
        if status in range(300, 400):
            headers["Location"] = fault.location or f"{base_url}/app/"
        content = {"error": f"{status}", "error_description": "A fault that was asked for in the sandbox."}
        response = make_json(content, status, headers)
        return replace(response, body=b"") if status == HTTPStatus.NOT_MODIFIED else response

    def _respond(self, request: Request) -> Response:
        methods = self._routes.get(re.sub("(?s)^(/app/(?:todo|static)/).+", r"\1", request.path), {})
        if request.method in methods:
            return methods[request.method](request)
        if methods:
            allowed = {"Allow": ", ".join(methods)}
            return refuse(HTTPStatus.METHOD_NOT_ALLOWED, f"Allowed are {allowed['Allow']}.", headers=allowed)
        return refuse(HTTPStatus.NOT_FOUND, f"There is nothing at {request.path}.")

    def _issue_token(self, request: Request) -> Response:
        """Issue a token for a username and a password."""
        if not contract.is_media_type(request.content_type, FORM):
            return refuse(HTTPStatus.UNSUPPORTED_MEDIA_TYPE, f"The Content-Type must be {FORM}.")
        pairs, errors = contract.read_token_form(request.body)
        if errors:
            return refuse_fields(errors, "invalid_request")
        if self._state.credentials not in (None, (pairs["username"], pairs["password"])):
            return refuse_credentials("Bad credentials", "invalid_grant")
        return make_json(self._state.tokens.issue())

    def _create(self, request: Request) -> Response:
        """Create a todo from a message without errors."""
        scheme, _, token = request.headers.get("authorization", "").partition(" ")
        if scheme != "Bearer" or not self._state.tokens.is_live(token):
            problem = "The Authorization header must be 'Bearer' and a token of this sandbox, not expired or revoked."
            return refuse_credentials(problem, "invalid_token")
        if not contract.is_media_type(request.content_type, JSON):
            return refuse(HTTPStatus.UNSUPPORTED_MEDIA_TYPE, f"The Content-Type must be {JSON}.")
        body, errors = contract.read_todo(request.body, contract.MESSAGES[request.method])
        if errors:
            return refuse_fields(errors, HTTPStatus.BAD_REQUEST.phrase)
        todo = self._state.todos.create(body, base_url=request.base_url)
        response = {key: todo[key] for key in ("title", "description", "taskLink", "tags")}
        return make_json({**response, "taskType": todo["todoType"]})

    def _show_list(self, request: Request) -> Response:
        body = render(
            "list.html",
            todos=self._state.todos.all()[::-1],
            url=request.base_url,
            variable=CONNECTION_VARIABLE,
            connection=make_connection_json(request.base_url),
        )
        return Response(HTTPStatus.OK, body, _HTML | _PAGE_HEADERS)

    def _show_todo(self, request: Request) -> Response:
        # A key may hold a slash, as the workspace that it begins with may.
        key = request.path.removeprefix("/app/todo/")
        todo = self._state.todos.get(key)
        template = "unknown.html" if todo is None else "todo.html"
        status = HTTPStatus.NOT_FOUND if todo is None else HTTPStatus.OK
        return Response(status, render(template, key=key, todo=todo), _HTML | _PAGE_HEADERS)

    def _show_static(self, request: Request) -> Response:
        name = request.path.removeprefix("/app/static/")
        if name not in STATIC:
            return refuse(HTTPStatus.NOT_FOUND, f"There is nothing at {request.path}.")
        headers = {"Content-Type": STATIC[name], **_PAGE_HEADERS}
        return Response(HTTPStatus.OK, read_static(name), headers)


def _call(method: Callable[..., None]) -> Callable[[Request], Response]:
    """Return the endpoint that calls a method with the JSON object of the body as its arguments."""

    def endpoint(request: Request) -> Response:
        try:
            arguments = contract.read_json(request.body or b"{}")
            inspect.signature(method).bind(**arguments)
            method(**arguments)
        except (TypeError, ValueError) as exc:
            return refuse(HTTPStatus.BAD_REQUEST, str(exc))
        return make_json({"status": "ok"})

    return endpoint


CONNECTION_VARIABLE = "AIRFLOW_CONN_BZCTRL_DEFAULT"
LOGIN = "sandbox@example.com"
PASSWORD = "sandbox-password"  # noqa: S105 - made up, and accepted by no other BzCtrl
DOMAIN_WORKSPACE = "EXA-CON-BUS-WOR"


def make_connection_json(
    url: str, *, login: str = LOGIN, password: str = PASSWORD, allow_http: bool = False
) -> str:
    """Return the Airflow connection that points at a sandbox, as JSON for the environment variable.

    :param url: the sandbox's address, such as ``http://127.0.0.1:8137``.
    :param login: the username, which is the reporter as well.
    :param password: the password.
    :param allow_http: whether the connection allows clear text; needed if the address is not a loopback one.
    """
    reporter = login if "@" in login else LOGIN
    extra: dict[str, Any] = {"domain_workspace": DOMAIN_WORKSPACE, "reporter": reporter}
    if allow_http:
        extra["allow_http"] = True
    values = {"conn_type": "bzctrl", "host": url, "login": login, "password": password, "extra": extra}
    return json.dumps(values)


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
