"""A running sandbox, and a client that is nothing but `requests`."""

from __future__ import annotations

import contextlib
import time

import pytest
import requests

# The fixture users get, also where the provider is not installed and its entry point is unknown.
from bzctrl_provider.sandbox.pytest_plugin import bzctrl_sandbox  # noqa: F401

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

    def __init__(self, url):
        self.url = url
        self.session = requests.Session()
        # A proxy of the environment has no business between a test and this machine.
        self.session.trust_env = False

    def send(self, method, path, **more):
        options = {"timeout": 10, "allow_redirects": False}
        return self.session.request(method, self.url + path, **(options | more))

    def token(self, **more):
        form = {"grant_type": "password", "username": "jane", "password": "Ex@mpl3!"}
        return self.send("POST", "/bzctrl-core-api/oauth/token", data=form, **more)

    def log_in(self):
        self.session.headers["Authorization"] = f"Bearer {self.token().json()['access_token']}"
        return self

    def create(self, todo=None, *, method="POST", **more):
        options = {} if "data" in more else {"json": TODO if todo is None else todo}
        return self.send(method, "/bzctrl-core-api/api/v1/task/add-task", **(options | more))


@pytest.fixture
def todo():
    return dict(TODO)


@pytest.fixture
def sandbox(bzctrl_sandbox):  # noqa: F811 - pytest hands the fixture in by this name
    return bzctrl_sandbox


@pytest.fixture
def make_caller():
    made = []

    def make(url):
        made.append(Caller(url))
        return made[-1]

    yield make
    for caller in made:
        caller.session.close()


@pytest.fixture
def stranger(sandbox, make_caller):
    """A caller without a token."""
    return make_caller(sandbox.url)


@pytest.fixture
def caller(sandbox, make_caller):
    """A caller with a token; asking for it left no record."""
    logged_in = make_caller(sandbox.url).log_in()
    sandbox._state.requests.clear()
    return logged_in


@pytest.fixture
def within():
    """Return a context manager that fails if its block takes longer."""

    @contextlib.contextmanager
    def check(*, seconds):
        began = time.monotonic()
        yield
        assert time.monotonic() - began < seconds

    return check
