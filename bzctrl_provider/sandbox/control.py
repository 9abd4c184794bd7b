"""The sandbox's own endpoints, for those who steer it from another process."""

# No `from __future__ import annotations` here: FastAPI reads the endpoints' annotations while they are registered.

import asyncio
import inspect
from collections.abc import Callable
from http import HTTPStatus
from typing import Any, Final

from fastapi import FastAPI, Request, Response

from bzctrl_provider.sandbox.contract import UnreadableBodyError, is_media_type, read_json
from bzctrl_provider.sandbox.faults import FaultPlan
from bzctrl_provider.sandbox.state import State
from bzctrl_provider.sandbox.steering import Steering

CONTROL_ROUTES: Final[dict[str, tuple[str, ...]]] = {
    "/sandbox/health": ("GET",),
    "/sandbox/todos": ("GET",),
    "/sandbox/requests": ("GET",),
    "/sandbox/faults": ("POST", "DELETE"),
    "/sandbox/faults/random": ("POST",),
    "/sandbox/tokens": ("DELETE",),
    "/sandbox/reset": ("POST",),
}


class Control:
    """What a test can ask of a `Sandbox` object, over HTTP and under the same names.

    :param state: what is remembered.
    :param faults: what is to go wrong.
    :param answer: makes a JSON response, with `status` as its keyword.
    """

    def __init__(self, state: State, faults: FaultPlan, *, answer: Callable[..., Response]) -> None:
        self._state = state
        self._steering = Steering(state, faults)
        self._answer = answer

    def register(self, app: FastAPI) -> None:
        """Add the endpoints.

        :param app: what they are added to.
        """
        app.add_api_route("/sandbox/health", self.health, methods=["GET"])
        app.add_api_route("/sandbox/todos", self.todos, methods=["GET"])
        app.add_api_route("/sandbox/requests", self.requests, methods=["GET"])
        app.add_api_route("/sandbox/faults", self.fail_next, methods=["POST"])
        app.add_api_route("/sandbox/faults", self.clear_faults, methods=["DELETE"])
        app.add_api_route("/sandbox/faults/random", self.fail_randomly, methods=["POST"])
        app.add_api_route("/sandbox/tokens", self.expire_tokens, methods=["DELETE"])
        app.add_api_route("/sandbox/reset", self.reset, methods=["POST"])

    async def health(self) -> Response:
        """Say that the sandbox is up, and how many todos it has."""
        _, count = await asyncio.to_thread(self._state.todos.newest, 1)
        return self._answer({"status": "ok", "todos": count})

    async def todos(self) -> Response:
        """Return every todo, in order of creation."""
        return self._answer(await asyncio.to_thread(self._state.todos.all))

    async def requests(self) -> Response:
        """Return the recorded requests, the oldest first."""
        return self._answer([record.as_dict() for record in self._state.requests.all()])

    async def fail_next(self, request: Request) -> Response:
        """Let the next requests fail; the body has the arguments of `Sandbox.fail_next`."""
        return await self._called(request, self._steering.fail_next, first="fault")

    async def fail_randomly(self, request: Request) -> Response:
        """Let requests fail by chance; the body has the arguments of `Sandbox.fail_randomly`."""
        return await self._called(request, self._steering.fail_randomly, first="rate")

    async def clear_faults(self) -> Response:
        """Let nothing go wrong any more."""
        self._steering.clear_faults()
        return self._answer({"status": "ok"})

    async def expire_tokens(self) -> Response:
        """Make every token worthless."""
        self._steering.expire_tokens()
        return self._answer({"status": "ok"})

    async def reset(self) -> Response:
        """Forget todos, tokens, requests and faults."""
        await asyncio.to_thread(self._steering.reset)
        return self._answer({"status": "ok"})

    async def _called(self, request: Request, method: Callable[..., None], *, first: str) -> Response:
        try:
            arguments = _arguments(
                await request.body(),
                content_type=request.headers.get("content-type", ""),
                known=list(inspect.signature(method).parameters),
                first=first,
            )
            method(arguments.pop(first), **arguments)
        except ValueError as exc:
            content = {"error": HTTPStatus.BAD_REQUEST.phrase, "error_description": str(exc)}
            return self._answer(content, status=HTTPStatus.BAD_REQUEST)
        return self._answer({"status": "ok"})


def _arguments(raw: bytes, *, content_type: str, known: list[str], first: str) -> dict[str, Any]:
    if not is_media_type(content_type, "application/json"):
        msg = "the Content-Type must be application/json"
        raise ValueError(msg)
    try:
        body = read_json(raw)
    except UnreadableBodyError as exc:
        msg = f"the body {exc}"
        raise ValueError(msg) from exc
    if not isinstance(body, dict):
        msg = f"the body must be a JSON object with {first}"
        raise ValueError(msg)  # noqa: TRY004 - the caller answers 400 to every ValueError
    problems = [f"{first} is missing"] if first not in body else []
    problems += [f"{key!r} is not known; known are {', '.join(known)}" for key in body if key not in known]
    if problems:
        raise ValueError("; ".join(problems))
    return body
