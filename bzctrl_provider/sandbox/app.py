"""Answer requests as BzCtrl does: the two documented endpoints, the pages, and the sandbox's own under ``/sandbox/``.

Nothing here knows of faults or of connections.
"""

from __future__ import annotations

import sqlite3
from http import HTTPStatus
from typing import TYPE_CHECKING, TypeAlias

from bzctrl_provider.sandbox import contract
from bzctrl_provider.sandbox.contract import (
    CREATE_PATH,
    MESSAGES,
    TOKEN_PATH,
    FieldError,
    UnreadableBodyError,
)
from bzctrl_provider.sandbox.control_api import ControlApi
from bzctrl_provider.sandbox.page import Pages
from bzctrl_provider.sandbox.response import Response, make_error_response, make_json_response

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from bzctrl_provider.sandbox.faults import FaultPlan
    from bzctrl_provider.sandbox.request import Request
    from bzctrl_provider.sandbox.state import State

    Endpoint: TypeAlias = Callable[[Request], Response]
    Routes: TypeAlias = Mapping[str, Mapping[str, Endpoint]]


def _refuse(errors: list[FieldError], *, error: str | None = None) -> Response:
    description = "; ".join(f"{found['field']} {found['fault']}" for found in errors)
    return make_error_response(HTTPStatus.BAD_REQUEST, description, error=error, faults=errors)


class BzCtrlApi:
    """Serve the two documented endpoints.

    :param state: where todos and tokens are kept.
    """

    def __init__(self, state: State) -> None:
        self._state = state

    def routes(self) -> Routes:
        """Return the endpoint of each path and method."""
        return {TOKEN_PATH: {"POST": self.token}, CREATE_PATH: {"POST": self.create, "PUT": self.create}}

    def token(self, request: Request) -> Response:
        """Issue a token for a username and a password."""
        expected = "application/x-www-form-urlencoded"
        if not contract.is_media_type(request.content_type, expected):
            return make_error_response(
                HTTPStatus.UNSUPPORTED_MEDIA_TYPE, f"The Content-Type must be {expected}."
            )
        try:
            pairs = contract.read_form(request.body)
        except UnreadableBodyError as exc:
            return _refuse([{"field": contract.WHOLE_BODY, "fault": str(exc)}], error="invalid_request")
        errors = contract.check_token_form(pairs)
        if errors:
            return _refuse(errors, error="invalid_request")
        values = dict(pairs)
        if not self._state.accepts(values["username"], values["password"]):
            return _refuse_credentials("Bad credentials", error="invalid_grant")
        return make_json_response(self._state.tokens.issue())

    def create(self, request: Request) -> Response:
        """Create a todo from a message without errors."""
        scheme, _, token = request.headers.get("authorization", "").partition(" ")
        if scheme != "Bearer" or not self._state.tokens.is_live(token):
            problem = (
                "The Authorization header must be 'Bearer' and a token that this sandbox has issued and that is "
                "neither expired nor revoked."
            )
            return _refuse_credentials(problem, error="invalid_token")
        if not contract.is_media_type(request.content_type, "application/json"):
            return make_error_response(
                HTTPStatus.UNSUPPORTED_MEDIA_TYPE, "The Content-Type must be application/json."
            )
        try:
            body = contract.read_json(request.body)
        except UnreadableBodyError as exc:
            return _refuse([{"field": contract.WHOLE_BODY, "fault": str(exc)}])
        errors = contract.check_todo(body, MESSAGES[request.method])
        if errors:
            return _refuse(errors)
        todo = self._state.todos.create(body, base_url=request.base_url)
        return make_json_response(
            {
                "title": todo["title"],
                "taskType": todo["todoType"],
                "description": todo["description"],
                "taskLink": todo["taskLink"],
                "tags": todo["tags"],
            },
        )


def _refuse_credentials(description: str, *, error: str) -> Response:
    return make_error_response(
        HTTPStatus.UNAUTHORIZED, description, error=error, headers={"WWW-Authenticate": "Bearer"}
    )


class Application:
    """Serve every endpoint of the sandbox.

    :param state: the state that the endpoints share.
    :param faults: the faults that the endpoints under ``/sandbox/faults`` change; the application itself injects no fault.
    """

    def __init__(self, state: State, faults: FaultPlan) -> None:
        self._routes: Routes = {
            **BzCtrlApi(state).routes(),
            **Pages(state.todos).routes(),
            **ControlApi(state, faults).routes(),
        }

    def respond(self, request: Request) -> Response:
        """Return the response to one request.

        :param request: the received request.
        """
        methods = self._find(request.path)
        if methods is None:
            known = [
                f"{method} {path}"
                for path, allowed in self._routes.items()
                for method in allowed
                if method != "HEAD"
            ]
            return make_error_response(
                HTTPStatus.NOT_FOUND, f"There is nothing at {request.path}.", known=known
            )
        endpoint = methods.get(request.method)
        if endpoint is None:
            allowed = ", ".join(methods)
            return make_error_response(
                HTTPStatus.METHOD_NOT_ALLOWED,
                f"{request.path} allows {allowed}, not {request.method}.",
                headers={"Allow": allowed},
            )
        try:
            return endpoint(request)
        except sqlite3.Error as exc:
            # Mostly a file that another process keeps locked: nothing was created, so a retry is right.
            return make_error_response(
                HTTPStatus.SERVICE_UNAVAILABLE, f"The sandbox cannot use its data file: {exc}"
            )

    def _find(self, path: str) -> Mapping[str, Endpoint] | None:
        """Return the methods of a path; a route such as ``/app/todo/<key>`` fits every path below ``/app/todo/``."""
        if path in self._routes:
            return self._routes[path]
        for route, methods in self._routes.items():
            if route.endswith(">") and path.startswith(route.partition("<")[0]):
                return methods
        return None
