"""Answer requests: the two documented endpoints, the pages, and the sandbox's own endpoints under ``/sandbox/``.

Each response is complete before its first byte is sent, so that a fault can still delay it, cut it or drop it.

The page at ``/app/`` has all todos. At ``/app/#/todo/<key>``, of which a server gets only the part before ``#``, it shows one.
"""

from __future__ import annotations

import json
import secrets
import uuid
from dataclasses import asdict, dataclass, field, replace
from datetime import timedelta
from email.utils import format_datetime
from http import HTTPStatus
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from jinja2 import Environment, FileSystemLoader, StrictUndefined

from bzctrl_provider.sandbox import contract
from bzctrl_provider.sandbox.contract import CREATE_PATH, FORM, JSON, TOKEN_PATH, WireError
from bzctrl_provider.sandbox.state import Fault, RecordedRequest, SandboxControls, State, redact, redact_body

if TYPE_CHECKING:
    from collections.abc import Callable

_KINDS = {("POST", TOKEN_PATH): "token", ("POST", CREATE_PATH): "create", ("PUT", CREATE_PATH): "create"}
"""The requests that can get a fault: those that would have an effect."""

# Texts of DAGs are on the pages. They are escaped; the policy holds if one of them should be forgotten.
_PAGE_HEADERS = {
    "Cache-Control": "no-store",
    "Content-Security-Policy": "default-src 'none'; style-src 'self'; img-src data:; base-uri 'none'; form-action 'none'",
}
_HTML = {"Content-Type": "text/html; charset=utf-8"}
_CSS = {"Content-Type": "text/css; charset=utf-8"}
_SIGN_IN = b"<!DOCTYPE html><html><head><title>Sign in</title></head><body>Please sign in.</body></html>"


@dataclass(frozen=True)
class Request:
    """One HTTP request that was read completely."""

    method: str
    path: str
    """Percent-decoded, without the query."""
    headers: dict[str, str]
    """Names in lower case."""
    media_type: str
    """Of the Content-Type header, in lower case."""
    body: bytes
    base_url: str
    """The address that the client used, such as ``http://127.0.0.1:8137``."""


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


def refuse(status: HTTPStatus, description: str, **more: Any) -> Response:
    """Return an error as JSON with ``error`` and ``error_description``.

    :param status: the HTTP status.
    :param description: a sentence for people.
    :param more: further keys of the JSON; ``error`` is the status' phrase by default.
    """
    # HTTP demands it of a 401.
    headers = {"WWW-Authenticate": "Bearer"} if status == HTTPStatus.UNAUTHORIZED else None
    content = {"error": status.phrase, "error_description": description, **more}
    return make_json(content, status, headers)


def refuse_fields(errors: list[WireError], error: str) -> Response:
    """Return a 400 that names every error of a request.

    :param errors: the errors.
    :param error: a short name.
    """
    description = "; ".join(f"{found['field']} {found['fault']}" for found in errors)
    return refuse(HTTPStatus.BAD_REQUEST, description, error=error, faults=errors)


class Api:
    """The endpoints, with the faults that were asked for.

    :param state: what the endpoints share.
    :param controls: of the state.
    """

    def __init__(self, state: State, controls: SandboxControls) -> None:
        self._state = state
        self._controls = controls
        todos = state.todos
        home = Response(HTTPStatus.TEMPORARY_REDIRECT, b"", {"Location": "/app/", **_PAGE_HEADERS})
        style = Response(HTTPStatus.OK, (_HERE / "static" / "sandbox.css").read_bytes(), _CSS | _PAGE_HEADERS)
        self._routes: dict[tuple[str, str], Callable[[Request], Response]] = {
            ("POST", TOKEN_PATH): self._issue_token,
            ("POST", CREATE_PATH): self._create,
            ("PUT", CREATE_PATH): self._create,
            ("GET", "/"): lambda _: home,
            ("GET", "/app/"): self._show_todos,
            ("GET", "/app/sandbox.css"): lambda _: style,
            ("GET", "/sandbox/health"): lambda _: make_json({"status": "ok", "todos": len(todos.all())}),
            ("GET", "/sandbox/todos"): lambda _: make_json(todos.all()),
            ("GET", "/sandbox/requests"): lambda _: make_json([asdict(one) for one in state.requests]),
            ("POST", "/sandbox/faults"): _call(controls.fail_next),
            ("DELETE", "/sandbox/faults"): _call(controls.clear_faults),
            ("POST", "/sandbox/faults/random"): _call(controls.fail_randomly),
            ("DELETE", "/sandbox/tokens"): _call(controls.expire_tokens),
            ("POST", "/sandbox/reset"): _call(controls.reset),
        }

    def answer(self, request: Request) -> Response:
        """Return the response to a request, with its fault; the request is recorded before this returns.

        A request to ``/sandbox/`` gets no fault, and is not recorded.

        :param request: the received request.
        """
        fault = self._controls.take_fault(_KINDS.get((request.method, request.path)))
        takes_effect = fault is None or fault.takes_effect
        response = self._respond(request) if takes_effect else Response(HTTPStatus.OK)
        if fault is not None and response.status == HTTPStatus.OK:
            response = replace(self._inject(fault, response, request.base_url), delay_s=fault.delay_s)
        elif fault is not None:
            # Nothing was created: a fault after the creation waits for the next request.
            self._controls.give_back(fault)
            fault = None
        recorded = RecordedRequest(
            request.method,
            request.path,
            redact(request.headers),
            redact_body(request.body, path=request.path, media_type=request.media_type),
            status=None if response.ending == "reset" else response.status,
            fault=None if fault is None else str(fault.kind),
        )
        # Before the first byte is sent: a client that has its response finds the record.
        if not request.path.startswith("/sandbox/"):
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
            date = format_datetime(self._state.clock() + timedelta(seconds=fault.retry_after_s), usegmt=True)
            headers["Retry-After"] = date if fault.retry_after_as_date else str(fault.retry_after_s)
        if status in range(300, 400):
            headers["Location"] = fault.location or f"{base_url}/app/"
        content = {"error": f"{status}", "error_description": "A fault that was asked for in the sandbox."}
        response = make_json(content, status, headers)
        return replace(response, body=b"") if status == HTTPStatus.NOT_MODIFIED else response

    def _respond(self, request: Request) -> Response:
        if endpoint := self._routes.get((request.method, request.path)):
            return endpoint(request)
        return refuse(HTTPStatus.NOT_FOUND, f"There is nothing for {request.method} at {request.path}.")

    def _issue_token(self, request: Request) -> Response:
        """Issue a token for a username and a password."""
        if request.media_type != FORM:
            return refuse(HTTPStatus.UNSUPPORTED_MEDIA_TYPE, f"The Content-Type must be {FORM}.")
        form, errors = contract.read_message(request.body, FORM, contract.TOKEN_FORM)
        if errors:
            return refuse_fields(errors, "invalid_request")
        if self._state.credentials not in (None, (form["username"], form["password"])):
            return refuse(HTTPStatus.UNAUTHORIZED, "Bad credentials", error="invalid_grant")
        token, lifetime_s = secrets.token_urlsafe(32), self._state.token_lifetime_s
        self._state.tokens[token] = self._state.clock() + timedelta(seconds=lifetime_s)
        content = {
            "access_token": token,
            "refresh_token": secrets.token_urlsafe(32),
            "token_type": "Bearer",
            "expires_in": int(lifetime_s),
            "scope": "*",
            "jti": str(uuid.uuid4()),
        }
        return make_json(content)

    def _create(self, request: Request) -> Response:
        """Create a todo from a message without errors."""
        scheme, _, token = request.headers.get("authorization", "").partition(" ")
        expires_at = self._state.tokens.get(token)
        if scheme != "Bearer" or expires_at is None or self._state.clock() >= expires_at:
            problem = "The Authorization header must be 'Bearer' and a token of this sandbox, not expired or revoked."
            return refuse(HTTPStatus.UNAUTHORIZED, problem, error="invalid_token")
        if request.media_type != JSON:
            return refuse(HTTPStatus.UNSUPPORTED_MEDIA_TYPE, f"The Content-Type must be {JSON}.")
        body, errors = contract.read_message(request.body, JSON, contract.MESSAGES[request.method])
        if errors:
            return refuse_fields(errors, HTTPStatus.BAD_REQUEST.phrase)
        todo = self._state.todos.create(body, base_url=request.base_url, now=self._state.clock())
        response = {key: todo[key] for key in ("title", "description", "taskLink", "tags")}
        return make_json({**response, "taskType": todo["todoType"]})

    def _show_todos(self, request: Request) -> Response:
        page = PAGES.get_template("list.html").render(
            todos=self._state.todos.all()[::-1], url=request.base_url
        )
        # A todo may have half of a surrogate pair.
        return Response(HTTPStatus.OK, page.encode("utf-8", errors="replace"), _HTML | _PAGE_HEADERS)


def _call(method: Callable[..., None]) -> Callable[[Request], Response]:
    """Return the endpoint that calls a method with the JSON object of the body as its arguments."""

    def endpoint(request: Request) -> Response:
        try:
            method(**contract.read_json(request.body or b"{}"))
        except (TypeError, ValueError) as exc:
            return refuse(HTTPStatus.BAD_REQUEST, str(exc))
        return make_json({"status": "ok"})

    return endpoint


CONNECTION_VARIABLE = "AIRFLOW_CONN_BZCTRL_DEFAULT"
LOGIN = "sandbox@example.com"
PASSWORD = "sandbox-password"  # noqa: S105 - made up, and accepted by no other BzCtrl


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
    extra: dict[str, Any] = {"domain_workspace": "EXA-CON-BUS-WOR", "reporter": reporter}
    if allow_http:
        extra["allow_http"] = True
    values = {"conn_type": "bzctrl", "host": url, "login": login, "password": password, "extra": extra}
    return json.dumps(values)


_HERE = Path(__file__).parent
PAGES = Environment(loader=FileSystemLoader(_HERE / "templates"), autoescape=True, undefined=StrictUndefined)
