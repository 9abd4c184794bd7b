"""The pytest fixture `bzctrl_sandbox`, there as soon as the provider is installed.

pytest imports this module in every run, so it imports next to nothing until the fixture is asked for.
"""

from __future__ import annotations

import os
from typing import TYPE_CHECKING
from uuid import uuid4

import pytest

if TYPE_CHECKING:
    from collections.abc import Iterator

    from bzctrl_provider.sandbox import Sandbox


@pytest.fixture(scope="session")
def _bzctrl_sandbox_server() -> Iterator[Sandbox]:
    """One server for the whole session, at a port of its own: parallel sessions do not meet."""
    # Not above: only the sessions that use it pay for it.
    from bzctrl_provider.sandbox import Sandbox

    with Sandbox() as sandbox:
        yield sandbox


@pytest.fixture
def bzctrl_sandbox(_bzctrl_sandbox_server: Sandbox, monkeypatch: pytest.MonkeyPatch) -> Sandbox:
    """Give an empty stand-in BzCtrl, and point the Airflow connection `bzctrl_default` at it.

    Every test gets it without todos, requests, tokens and faults. The connection lies in the environment variable
    `AIRFLOW_CONN_BZCTRL_DEFAULT` for the time of the test. A proxy of the environment is told to leave it alone.
    """
    from bzctrl_provider.sandbox.connection import CONNECTION_VARIABLE, PASSWORD, connection_json

    _bzctrl_sandbox_server.reset()
    # A password of its own, so that each test begins with a token request: the hook keeps tokens for the process.
    password = f"{PASSWORD}-{uuid4()}"
    monkeypatch.setenv(CONNECTION_VARIABLE, connection_json(_bzctrl_sandbox_server.url, password=password))
    for variable in ("no_proxy", "NO_PROXY"):
        already = os.environ.get(variable)
        monkeypatch.setenv(variable, f"{already},127.0.0.1" if already else "127.0.0.1")
    return _bzctrl_sandbox_server
