"""A running sandbox, and a client that is nothing but `requests`."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest
import requests

# The fixture users get, also where the provider is not installed and its entry point is unknown.
from bzctrl_provider.sandbox.pytest_plugin import _bzctrl_sandbox_server, bzctrl_sandbox  # noqa: F401

if TYPE_CHECKING:
    from collections.abc import Iterator

    from bzctrl_provider.sandbox import Sandbox

TODO = {
    "todoType": "INCIDENT",
    "domainWorkSpace": "EXA-CON-BUS-WOR",
    "title": "Totals differ",
    "description": "Expected 3, found 2",
    "status": "IN PROGRESS",
    "assignee": "jane@example.com",
    "reporter": "airflow@example.com",
    "orderID": "run-1",
}


class Caller:
    """Speaks to a sandbox like somebody who has read BzCtrl's documents."""

    def __init__(self, url: str) -> None:
        self.url = url
        self.session = requests.Session()
        # A proxy of the environment has no business between a test and this machine.
        self.session.trust_env = False

    def send(self, method: str, path: str, **more: Any) -> requests.Response:
        options: dict[str, Any] = {"timeout": 10, "allow_redirects": False}
        return self.session.request(method, self.url + path, **(options | more))

    def token(self, **more: Any) -> requests.Response:
        form = {"grant_type": "password", "username": "jane", "password": "Ex@mpl3!"}
        return self.send("POST", "/bzctrl-core-api/oauth/token", data=form, **more)

    def log_in(self) -> Caller:
        self.session.headers["Authorization"] = f"Bearer {self.token().json()['access_token']}"
        return self

    def create(
        self, todo: dict[str, Any] | None = None, *, method: str = "POST", **more: Any
    ) -> requests.Response:
        options: dict[str, Any] = {} if "data" in more else {"json": TODO if todo is None else todo}
        return self.send(method, "/bzctrl-core-api/api/v1/task/add-task", **(options | more))


@pytest.fixture
def todo() -> dict[str, Any]:
    return dict(TODO)


@pytest.fixture
def sandbox(bzctrl_sandbox: Sandbox) -> Sandbox:  # noqa: F811 - pytest hands the fixture in by this name
    return bzctrl_sandbox


@pytest.fixture
def make_caller() -> Iterator[Any]:
    made: list[Caller] = []

    def make(url: str) -> Caller:
        made.append(Caller(url))
        return made[-1]

    yield make
    for caller in made:
        caller.session.close()


@pytest.fixture
def stranger(sandbox: Sandbox, make_caller: Any) -> Any:
    """A caller without a token."""
    return make_caller(sandbox.url)


@pytest.fixture
def caller(sandbox: Sandbox, make_caller: Any) -> Any:
    """A caller with a token; asking for it left no record."""
    logged_in = make_caller(sandbox.url).log_in()
    sandbox._state.requests.clear()
    return logged_in
