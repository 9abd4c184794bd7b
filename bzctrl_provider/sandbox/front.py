"""What stands between the network and the honest application: it records every request and plays the faults.

The application behind it knows nothing of faults. Its answer is taken whole, and only then sent, delayed, cut
short or thrown away.
"""

from __future__ import annotations

import asyncio
from datetime import timedelta
from email.utils import format_datetime
from http import HTTPStatus
from typing import TYPE_CHECKING, Any, Final, Protocol, TypeAlias

from bzctrl_provider.sandbox.answer import Answer, as_json, whole
from bzctrl_provider.sandbox.contract import (
    CREATE_PATH,
    TOKEN_PATH,
    UnreadableBodyError,
    is_media_type,
    read_form,
    read_json,
)
from bzctrl_provider.sandbox.state import RecordedRequest, utc_now

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, MutableMapping
    from datetime import datetime

    from bzctrl_provider.sandbox.faults import Fault, FaultPlan, RequestKind
    from bzctrl_provider.sandbox.state import RequestLog

    Message: TypeAlias = MutableMapping[str, Any]
    Scope: TypeAlias = MutableMapping[str, Any]
    Receive: TypeAlias = Callable[[], Awaitable[Message]]
    Send: TypeAlias = Callable[[Message], Awaitable[None]]
    Application: TypeAlias = Callable[[Scope, Receive, Send], Awaitable[None]]

CONNECTION_EXTENSION: Final = "bzctrl.sandbox.connection"
CONTROL_PREFIX: Final = "/sandbox/"
BLOT: Final = "***"

_SECRET_HEADERS: Final = ("authorization", "proxy-authorization", "cookie")
_SECRET_KEYS: Final = ("password", "access_token", "refresh_token", "client_secret")
_HTML: Final = b"<!DOCTYPE html><html><head><title>Sign in</title></head><body>Please sign in.</body></html>"
_NO_BODY: Final = (HTTPStatus.NOT_MODIFIED,)


class Connection(Protocol):
    """What the server lets the front do to a connection, found in the scope's extensions."""

    def reset(self) -> None:
        """Drop the connection at once with a TCP reset."""

    def close(self) -> None:
        """Send what is still to be sent, then close the connection."""


def request_kind(method: str, path: str) -> RequestKind | None:
    """Return which faults a request is open to; None where it is open to none.

    :param method: the HTTP method.
    :param path: the path, without the query.
    """
    if (method, path) == ("POST", TOKEN_PATH):
        return "token"
    if method in ("POST", "PUT") and path == CREATE_PATH:
        return "create"
    return None


def recorded_headers(raw: list[tuple[bytes, bytes]]) -> dict[str, str]:
    """Return headers as they may be shown: lower-case names, secrets blotted out.

    :param raw: as ASGI gives them.
    """
    headers: dict[str, str] = {}
    for raw_name, raw_value in raw:
        name, value = raw_name.decode("latin-1").lower(), raw_value.decode("latin-1")
        if name in _SECRET_HEADERS:
            scheme = value.split(" ", 1)[0]
            value = f"{scheme} {BLOT}" if scheme in ("Bearer", "Basic") else BLOT
        headers[name] = f"{headers[name]}, {value}" if name in headers else value
    return headers


def recorded_body(raw: bytes, *, path: str, content_type: str) -> Any:
    """Return a body as it may be shown: parsed where it can be, secrets blotted out.

    :param raw: the body as it came.
    :param path: where it came to; a body at the token's address that cannot be read is blotted out whole.
    :param content_type: the header's value.
    """
    if not raw:
        return None
    try:
        if is_media_type(content_type, "application/json"):
            return _blotted(read_json(raw))
        if is_media_type(content_type, "application/x-www-form-urlencoded"):
            return _blotted(dict(read_form(raw)))
    except UnreadableBodyError:
        pass
    return BLOT if path == TOKEN_PATH else raw.decode("utf-8", errors="replace")


def _blotted(body: Any) -> Any:
    if isinstance(body, dict):
        return {key: BLOT if key in _SECRET_KEYS else value for key, value in body.items()}
    return body


def fault_answer(fault: Fault, *, base_url: str, now: datetime) -> Answer:
    """Return what a fault answers where it has an answer of its own.

    :param fault: a status, `html` or `empty`.
    :param base_url: the sandbox's address; a redirect leads to its page where no location was named.
    :param now: this moment, for a Retry-After that is a date.
    """
    if isinstance(fault.kind, str):
        return (
            whole(200, "text/html; charset=utf-8", _HTML)
            if fault.kind == "html"
            else whole(200, "application/json", b"")
        )
    headers = {}
    if fault.retry_after_s is not None:
        headers["retry_after"] = str(fault.retry_after_s)
        if fault.retry_after_as_date:
            headers["retry_after"] = format_datetime(
                now + timedelta(seconds=fault.retry_after_s), usegmt=True
            )
    status = fault.kind
    if HTTPStatus.MULTIPLE_CHOICES <= status < HTTPStatus.BAD_REQUEST:
        headers["location"] = fault.location or f"{base_url}/app/"
    if status in _NO_BODY:
        return whole(status, "application/json", b"", **headers)
    content = {"error": f"{status}", "error_description": "A fault that was asked for in the sandbox."}
    return whole(status, "application/json", as_json(content), **headers)


class Front:
    """The ASGI application the server runs.

    :param application: the honest BzCtrl behind it.
    :param faults: what is to go wrong.
    :param requests: where requests are recorded.
    :param clock: what tells the time.
    """

    def __init__(
        self,
        application: Application,
        *,
        faults: FaultPlan,
        requests: RequestLog,
        clock: Callable[[], datetime] = utc_now,
    ) -> None:
        self._application = application
        self._faults = faults
        self._requests = requests
        self._clock = clock
        self._stopping = asyncio.Event()

    def stop_waiting(self) -> None:
        """Reset the connections of all slow answers, because the server stops. Call it in the server's loop."""
        self._stopping.set()

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer one request."""
        body = await _whole_body(receive)
        if body is None:
            return
        if scope["path"].startswith(CONTROL_PREFIX):
            await _send_whole(send, await self._ask(scope, body))
            return
        fault, answer = await self._decide(scope, body)
        resets = fault is not None and fault.kind in ("reset_before", "reset_after")
        # Recorded before the first byte leaves: a client that has its answer finds the record there.
        self._record(scope, body, status=None if resets else answer.status, fault=fault)
        connection: Connection = scope["extensions"][CONNECTION_EXTENSION]
        if (fault is not None and await self._stopped_within(fault.delay_s)) or resets:
            connection.reset()
        elif fault is not None and fault.kind == "cut":
            await _send_half(send, answer)
            connection.close()
        else:
            await _send_whole(send, answer)
            return
        # The server must have seen the connection end before it looks whether the answer is complete.
        while (await receive())["type"] != "http.disconnect":
            pass

    async def _decide(self, scope: Scope, body: bytes) -> tuple[Fault | None, Answer]:
        kind = request_kind(scope["method"], scope["path"])
        fault = None if kind is None else self._faults.take(kind)
        if fault is None:
            return None, await self._ask(scope, body)
        honest = Answer(HTTPStatus.OK)
        if fault.takes_effect:
            honest = await self._ask(scope, body)
            if honest.status != HTTPStatus.OK:
                # Refused, so nothing was made: "after it was made" waits for a request that does make something.
                self._faults.give_back(fault)
                return None, honest
        if fault.kind in ("reset_before", "reset_after", "cut", "slow"):
            return fault, honest
        return fault, fault_answer(fault, base_url=base_url(scope), now=self._clock())

    async def _ask(self, scope: Scope, body: bytes) -> Answer:
        """Let the honest application answer, and keep its answer."""
        told = iter([{"type": "http.request", "body": body, "more_body": False}])
        status, headers, parts = 0, [], []

        async def receive() -> Message:
            return next(told, {"type": "http.disconnect"})

        async def send(message: Message) -> None:
            nonlocal status, headers
            if message["type"] == "http.response.start":
                status, headers = int(message["status"]), list(message["headers"])
            else:
                parts.append(message.get("body", b""))

        await self._application(scope, receive, send)
        return Answer(status, headers, b"".join(parts))

    def _record(self, scope: Scope, body: bytes, *, status: int | None, fault: Fault | None) -> None:
        headers = recorded_headers(scope["headers"])
        self._requests.add(
            RecordedRequest(
                method=scope["method"],
                path=scope["path"],
                headers=headers,
                body=recorded_body(body, path=scope["path"], content_type=headers.get("content-type", "")),
                status=status,
                fault=None if fault is None else fault.name,
            ),
        )

    async def _stopped_within(self, delay_s: float | None) -> bool:
        """Wait, and say whether the server began to stop meanwhile."""
        if not delay_s:
            return False
        try:
            await asyncio.wait_for(self._stopping.wait(), timeout=delay_s)
        except TimeoutError:
            return False
        return True


def base_url(scope: Scope) -> str:
    """Return the address the client used, such as `http://127.0.0.1:8137`.

    :param scope: of the request.
    """
    host = dict(scope["headers"]).get(b"host", b"").decode("latin-1")
    if not host:
        name, port = scope["server"]
        host = f"[{name}]:{port}" if ":" in name else f"{name}:{port}"
    return f"{scope['scheme']}://{host}"


async def _whole_body(receive: Receive) -> bytes | None:
    """Return the whole body, or None where the client left before it had sent it."""
    parts = []
    while True:
        message = await receive()
        if message["type"] == "http.disconnect":
            return None
        parts.append(message.get("body", b""))
        if not message.get("more_body", False):
            return b"".join(parts)


async def _send_whole(send: Send, answer: Answer) -> None:
    await send({"type": "http.response.start", "status": answer.status, "headers": answer.headers})
    await send({"type": "http.response.body", "body": answer.body})


async def _send_half(send: Send, answer: Answer) -> None:
    await send({"type": "http.response.start", "status": answer.status, "headers": answer.headers})
    half = answer.body[: len(answer.body) // 2]
    await send({"type": "http.response.body", "body": half, "more_body": True})
