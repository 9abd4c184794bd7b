"""Which requests can get a fault, and the responses of faults."""

from __future__ import annotations

from datetime import UTC, datetime

import pytest

from bzctrl_provider.sandbox.fault_injector import get_request_kind, make_fault_response
from bzctrl_provider.sandbox.faults import Fault

TOKEN = "/bzctrl-core-api/oauth/token"
CREATE = "/bzctrl-core-api/api/v1/task/add-task"


@pytest.mark.parametrize(
    ("method", "path", "kind"),
    [
        ("POST", TOKEN, "token"),
        ("POST", CREATE, "create"),
        ("PUT", CREATE, "create"),
        ("GET", CREATE, None),
        ("POST", "/", None),
    ],
)
def test_get_request_kind_of_each_endpoint_is_its_target(method: str, path: str, kind: str | None) -> None:
    """Only requests that would have an effect can get a fault."""
    assert get_request_kind(method, path) == kind


def test_make_fault_response_with_a_date_has_it_in_retry_after() -> None:
    """Retry-After can be an HTTP date that many seconds ahead."""
    fault = Fault(429, retry_after_s=90, retry_after_as_date=True)
    response = make_fault_response(fault, base_url="http://x", now=datetime(2026, 1, 31, 23, 59, tzinfo=UTC))
    assert response.headers["Retry-After"] == "Sun, 01 Feb 2026 00:00:30 GMT"


def test_make_fault_response_of_304_has_no_body() -> None:
    """A 304 has none by the rules of HTTP."""
    assert make_fault_response(Fault(304), base_url="http://x", now=datetime.now(UTC)).body == b""
