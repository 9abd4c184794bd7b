"""Inject faults between the network and the application, and record every request.

The application knows nothing of faults: its response is taken completely, and only then sent, delayed, cut short or
dropped.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import timedelta
from email.utils import format_datetime
from http import HTTPStatus
from typing import TYPE_CHECKING, Literal

from bzctrl_provider.sandbox.contract import CREATE_PATH, TOKEN_PATH
from bzctrl_provider.sandbox.recorder import record
from bzctrl_provider.sandbox.response import Response, make_json_response
from bzctrl_provider.sandbox.state import utc_now

if TYPE_CHECKING:
    from collections.abc import Callable
    from datetime import datetime

    from bzctrl_provider.sandbox.app import Application
    from bzctrl_provider.sandbox.faults import Fault, FaultPlan, RequestKind
    from bzctrl_provider.sandbox.request import Request
    from bzctrl_provider.sandbox.state import RequestLog

CONTROL_PREFIX = "/sandbox/"

_HTML = b"<!DOCTYPE html><html><head><title>Sign in</title></head><body>Please sign in.</body></html>"


@dataclass(frozen=True)
class Delivery:
    """Hold a response and how the server sends it."""

    response: Response
    delay_s: float = 0
    """Seconds before anything happens on the connection."""
    ending: Literal["complete", "cut", "reset"] = "complete"
    """``complete``: sent completely. ``cut``: half of the body, then the end. ``reset``: a TCP reset, no response."""


def get_request_kind(method: str, path: str) -> RequestKind | None:
    """Return which faults a request may get; None if it gets none.

    :param method: the HTTP method.
    :param path: the path, without the query.
    """
    if (method, path) == ("POST", TOKEN_PATH):
        return "token"
    if method in ("POST", "PUT") and path == CREATE_PATH:
        return "create"
    return None


def make_fault_response(fault: Fault, *, base_url: str, now: datetime) -> Response:
    """Return the response of a fault that has one of its own.

    :param fault: a status, ``html`` or ``empty``.
    :param base_url: the sandbox's address; a redirect without a location leads to its page.
    :param now: the current time, for a Retry-After that is a date.
    """
    if isinstance(fault.kind, str):
        return (
            Response(HTTPStatus.OK, _HTML, {"Content-Type": "text/html; charset=utf-8"})
            if fault.kind == "html"
            else Response(HTTPStatus.OK, b"", {"Content-Type": "application/json"})
        )
    headers = {}
    if fault.retry_after_s is not None:
        headers["Retry-After"] = str(fault.retry_after_s)
        if fault.retry_after_as_date:
            date = now + timedelta(seconds=fault.retry_after_s)
            headers["Retry-After"] = format_datetime(date, usegmt=True)
    status = fault.kind
    if HTTPStatus.MULTIPLE_CHOICES <= status < HTTPStatus.BAD_REQUEST:
        headers["Location"] = fault.location or f"{base_url}/app/"
    if status == HTTPStatus.NOT_MODIFIED:
        return Response(status, b"", headers)
    content = {"error": f"{status}", "error_description": "A fault that was asked for in the sandbox."}
    return make_json_response(content, status=status, headers=headers)


class FaultInjector:
    """Handle each request between the server and the application.

    :param application: responds to requests without any fault.
    :param faults: decides which request gets which fault.
    :param requests: where requests are recorded.
    :param clock: returns the current time.
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

    def handle(self, request: Request) -> Delivery:
        """Return the response to send for a request, and how to send it; the request is recorded before this returns.

        :param request: the received request.
        """
        if request.path.startswith(CONTROL_PREFIX):
            return Delivery(self._application.respond(request))
        fault, response = self._decide(request)
        delivery = Delivery(response) if fault is None else _plan_delivery(fault, response)
        # Recorded before the first byte is sent: a client that has its response finds the record.
        status = None if delivery.ending == "reset" else response.status
        self._requests.add(record(request, status=status, fault=None if fault is None else fault.name))
        return delivery

    def _decide(self, request: Request) -> tuple[Fault | None, Response]:
        kind = get_request_kind(request.method, request.path)
        fault = None if kind is None else self._faults.take(kind)
        if fault is None:
            return None, self._application.respond(request)
        response = Response(HTTPStatus.OK)
        if fault.takes_effect:
            response = self._application.respond(request)
            if response.status != HTTPStatus.OK:
                # Nothing was created: a fault after the creation waits for a request that creates something.
                self._faults.give_back(fault)
                return None, response
        if fault.kind in ("reset_before", "reset_after", "cut", "slow"):
            return fault, response
        return fault, make_fault_response(fault, base_url=request.base_url, now=self._clock())


def _plan_delivery(fault: Fault, response: Response) -> Delivery:
    delay_s = fault.delay_s or 0
    if fault.kind in ("reset_before", "reset_after"):
        return Delivery(response, delay_s, "reset")
    return Delivery(response, delay_s, "cut" if fault.kind == "cut" else "complete")
