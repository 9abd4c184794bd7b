"""Serve the sandbox's own endpoints, which control it from another process."""

from __future__ import annotations

import inspect
from http import HTTPStatus
from typing import TYPE_CHECKING, Any

from bzctrl_provider.sandbox.contract import UnreadableBodyError, is_media_type, read_json
from bzctrl_provider.sandbox.controls import SandboxControls
from bzctrl_provider.sandbox.response import Response, make_error_response, make_json_response

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from bzctrl_provider.sandbox.faults import FaultPlan
    from bzctrl_provider.sandbox.request import Request
    from bzctrl_provider.sandbox.state import State


class ControlApi:
    """Serve the methods of a ``Sandbox`` object over HTTP, under the same names.

    :param state: the todos and requests that the endpoints show and reset.
    :param faults: the faults that they add to and remove.
    """

    def __init__(self, state: State, faults: FaultPlan) -> None:
        self._state = state
        self._controls = SandboxControls(state, faults)

    def routes(self) -> Mapping[str, Mapping[str, Callable[[Request], Response]]]:
        """Return the endpoint of each path and method."""
        return {
            "/sandbox/health": {"GET": self.health},
            "/sandbox/todos": {"GET": self.todos},
            "/sandbox/requests": {"GET": self.requests},
            "/sandbox/faults": {"POST": self.fail_next, "DELETE": self.clear_faults},
            "/sandbox/faults/random": {"POST": self.fail_randomly},
            "/sandbox/tokens": {"DELETE": self.expire_tokens},
            "/sandbox/reset": {"POST": self.reset},
        }

    def health(self, _request: Request) -> Response:
        """Return that the sandbox runs, and how many todos it has."""
        _, count = self._state.todos.newest(1)
        return make_json_response({"status": "ok", "todos": count})

    def todos(self, _request: Request) -> Response:
        """Return every todo, in order of creation."""
        return make_json_response(self._state.todos.all())

    def requests(self, _request: Request) -> Response:
        """Return the recorded requests, the oldest first."""
        return make_json_response([record.as_dict() for record in self._state.requests.all()])

    def fail_next(self, request: Request) -> Response:
        """Let the next requests fail; the body has the arguments of ``Sandbox.fail_next``."""
        return _call(request, self._controls.fail_next, first="fault")

    def fail_randomly(self, request: Request) -> Response:
        """Let requests fail at random; the body has the arguments of ``Sandbox.fail_randomly``."""
        return _call(request, self._controls.fail_randomly, first="rate")

    def clear_faults(self, _request: Request) -> Response:
        """Remove every fault."""
        self._controls.clear_faults()
        return make_json_response({"status": "ok"})

    def expire_tokens(self, _request: Request) -> Response:
        """Revoke every token."""
        self._controls.expire_tokens()
        return make_json_response({"status": "ok"})

    def reset(self, _request: Request) -> Response:
        """Remove todos, tokens, requests and faults."""
        self._controls.reset()
        return make_json_response({"status": "ok"})


def _call(request: Request, method: Callable[..., None], *, first: str) -> Response:
    try:
        arguments = _read_arguments(request, known=list(inspect.signature(method).parameters), first=first)
        method(arguments.pop(first), **arguments)
    except ValueError as exc:
        return make_error_response(HTTPStatus.BAD_REQUEST, str(exc))
    return make_json_response({"status": "ok"})


def _read_arguments(request: Request, *, known: list[str], first: str) -> dict[str, Any]:
    if not is_media_type(request.content_type, "application/json"):
        raise ValueError("the Content-Type must be application/json")
    try:
        body = read_json(request.body)
    except UnreadableBodyError as exc:
        raise ValueError(f"the body {exc}") from exc
    if not isinstance(body, dict):
        raise ValueError(f"the body must be a JSON object with {first}")  # noqa: TRY004 - the caller turns every ValueError into a 400
    problems = [f"{first} is missing"] if first not in body else []
    unknown = [key for key in body if key not in known]
    if unknown:
        named = ", ".join(f"{key[:40]!r}" for key in unknown[:10])
        more = f" and {len(unknown) - 10} more" if len(unknown) > 10 else ""  # noqa: PLR2004 - as many as are named
        problems.append(f"unknown: {named}{more}; known are {', '.join(known)}")
    if problems:
        raise ValueError("; ".join(problems))
    return body
