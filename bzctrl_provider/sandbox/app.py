"""The honest BzCtrl: the two documented endpoints, the pages, and the sandbox's own endpoints under `/sandbox/`."""

# No `from __future__ import annotations` here: FastAPI reads the endpoints' annotations while they are registered.

import asyncio
import sqlite3
from http import HTTPStatus
from typing import Any, Final

from fastapi import FastAPI, Request, Response
from starlette.exceptions import HTTPException

from bzctrl_provider.sandbox import contract
from bzctrl_provider.sandbox.answer import as_json
from bzctrl_provider.sandbox.contract import CREATE_PATH, MESSAGES, TOKEN_PATH, UnreadableBodyError
from bzctrl_provider.sandbox.control import CONTROL_ROUTES, Control
from bzctrl_provider.sandbox.faults import FaultPlan
from bzctrl_provider.sandbox.front import base_url
from bzctrl_provider.sandbox.page import PAGE_ROUTES, Pages
from bzctrl_provider.sandbox.state import State

ROUTES: Final[dict[str, tuple[str, ...]]] = {
    TOKEN_PATH: ("POST",),
    CREATE_PATH: ("POST", "PUT"),
    **PAGE_ROUTES,
    **CONTROL_ROUTES,
}
"""Every address there is, with its methods."""


def json_response(content: Any, *, status: int = 200, headers: dict[str, str] | None = None) -> Response:
    """Return content as a JSON response nobody keeps.

    :param content: plain JSON.
    :param status: the HTTP status.
    :param headers: more headers.
    """
    return Response(
        as_json(content),
        status_code=status,
        headers={"Cache-Control": "no-store", **(headers or {})},
        media_type="application/json",
    )


def _refusal(status: HTTPStatus, description: str, *, error: str | None = None, **more: Any) -> Response:
    content = {"error": error or status.phrase, "error_description": description, **more}
    headers = {"WWW-Authenticate": "Bearer"} if status == HTTPStatus.UNAUTHORIZED else None
    return json_response(content, status=status, headers=headers)


def _bad_request(faults: list[contract.Fault], *, error: str | None = None) -> Response:
    description = "; ".join(f"{fault['field']} {fault['fault']}" for fault in faults)
    return _refusal(HTTPStatus.BAD_REQUEST, description, error=error, faults=faults)


class BzCtrlApi:
    """The two documented endpoints.

    :param state: what is remembered.
    """

    def __init__(self, state: State) -> None:
        self._state = state

    async def token(self, request: Request) -> Response:
        """Give a token for a username and a password."""
        wanted = "application/x-www-form-urlencoded"
        if not contract.is_media_type(request.headers.get("content-type", ""), wanted):
            return _refusal(HTTPStatus.UNSUPPORTED_MEDIA_TYPE, f"The Content-Type must be {wanted}.")
        try:
            pairs = contract.read_form(await request.body())
        except UnreadableBodyError as exc:
            return _bad_request([{"field": contract.WHOLE_BODY, "fault": str(exc)}], error="invalid_request")
        faults = contract.token_faults(pairs)
        if faults:
            return _bad_request(faults, error="invalid_request")
        values = dict(pairs)
        if not self._state.accepts(values["username"], values["password"]):
            return _refusal(HTTPStatus.UNAUTHORIZED, "Bad credentials", error="invalid_grant")
        return json_response(self._state.tokens.issue())

    async def create(self, request: Request) -> Response:
        """Make a todo of a message that has no fault."""
        scheme, _, token = request.headers.get("authorization", "").partition(" ")
        if scheme != "Bearer" or not self._state.tokens.is_live(token):
            problem = "The Authorization header must be 'Bearer' and a token that was given out here and is still alive."
            return _refusal(HTTPStatus.UNAUTHORIZED, problem, error="invalid_token")
        if not contract.is_media_type(request.headers.get("content-type", ""), "application/json"):
            return _refusal(HTTPStatus.UNSUPPORTED_MEDIA_TYPE, "The Content-Type must be application/json.")
        try:
            body = contract.read_json(await request.body())
        except UnreadableBodyError as exc:
            return _bad_request([{"field": contract.WHOLE_BODY, "fault": str(exc)}])
        faults = contract.todo_faults(body, MESSAGES[request.method])
        if faults:
            return _bad_request(faults)
        todo = await asyncio.to_thread(self._state.todos.create, body, base_url=base_url(request.scope))
        return json_response(
            {
                "title": todo["title"],
                "taskType": todo["todoType"],
                "description": todo["description"],
                "taskLink": todo["taskLink"],
                "tags": todo["tags"],
            },
        )


async def _http_error(request: Request, exc: Exception) -> Response:
    status = (
        HTTPStatus(exc.status_code) if isinstance(exc, HTTPException) else HTTPStatus.INTERNAL_SERVER_ERROR
    )
    if status == HTTPStatus.METHOD_NOT_ALLOWED:
        allowed = next(
            (methods for path, methods in ROUTES.items() if path == request.url.path), ("GET", "HEAD")
        )
        description = f"{request.url.path} knows {', '.join(allowed)}, not {request.method}."
        response = _refusal(status, description)
        response.headers["Allow"] = ", ".join(allowed)
        return response
    known = [f"{method} {path}" for path, methods in ROUTES.items() for method in methods if method != "HEAD"]
    return _refusal(status, f"There is nothing at {request.url.path}.", known=known)


async def _data_file_error(_request: Request, exc: Exception) -> Response:
    # Mostly a file that another process keeps locked: nothing was made, so trying again is right.
    return _refusal(HTTPStatus.SERVICE_UNAVAILABLE, f"The sandbox cannot use its data file: {exc}")


def create_app(state: State, faults: FaultPlan) -> FastAPI:
    """Return the application.

    :param state: what is remembered.
    :param faults: what the endpoints under `/sandbox/faults` change; the application itself plays none.
    """
    # No interactive documentation: its pages fetch scripts from elsewhere.
    app = FastAPI(title="BzCtrl sandbox", openapi_url=None, redirect_slashes=False)
    app.add_exception_handler(HTTPException, _http_error)
    app.add_exception_handler(sqlite3.Error, _data_file_error)
    api = BzCtrlApi(state)
    app.add_api_route(TOKEN_PATH, api.token, methods=["POST"])
    app.add_api_route(CREATE_PATH, api.create, methods=["POST", "PUT"])
    Pages(state.todos).register(app)
    Control(state, faults, answer=json_response).register(app)
    return app
