"""Provide the pytest fixture ``bzctrl_sandbox`` wherever the provider is installed.

pytest imports this module in every run, so it imports very little until the fixture is used.
"""

from __future__ import annotations

from typing import TYPE_CHECKING
from uuid import uuid4

import pytest

if TYPE_CHECKING:
    from collections.abc import Iterator

    from bzctrl_provider.sandbox import Sandbox


@pytest.fixture
def bzctrl_sandbox(
    monkeypatch: pytest.MonkeyPatch, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Sandbox]:
    """Return an empty stand-in BzCtrl, with the Airflow connection ``bzctrl_default`` pointed at it.

    Every test gets one of its own, at a port of its own. The environment variable
    ``AIRFLOW_CONN_BZCTRL_DEFAULT`` holds the connection during the test, and ``NO_PROXY`` excludes its address.
    Callbacks send from ``dag.test()``, and wait for it. The store of the provider is empty at the beginning of each test.
    """
    # Not above: only a session that uses it pays for it.
    from bzctrl_provider.sandbox import Sandbox
    from bzctrl_provider.sandbox.app import CONNECTION_VARIABLE, PASSWORD, make_connection_json

    for variable in ("no_proxy", "NO_PROXY"):
        monkeypatch.setenv(variable, "127.0.0.1", prepend=",")
    monkeypatch.setenv("AIRFLOW__BZCTRL__IN_TEST_RUNS", "True")
    database = tmp_path_factory.mktemp("bzctrl") / "bzctrl.db"
    monkeypatch.setenv("AIRFLOW__BZCTRL__DATABASE", f"sqlite:///{database}")
    # An incident is in the sandbox when the callback returns, not a moment later.
    monkeypatch.setattr("bzctrl_provider.notifications.callback.may_wait", lambda *_: True)
    _forget_process()
    with Sandbox() as sandbox:
        # A password of its own, so that each test begins with a token request: the hook keeps tokens for the process.
        connection = make_connection_json(sandbox.url, password=f"{PASSWORD}-{uuid4()}")
        monkeypatch.setenv(CONNECTION_VARIABLE, connection)
        yield sandbox
    # The environment is restored after this.
    _forget_process()


def _forget_process() -> None:
    """Forget what the provider keeps for a process: its options, and the time that callbacks have waited."""
    from bzctrl_provider.notifications import callback
    from bzctrl_provider.outbox import runner
    from bzctrl_provider.settings import settings

    settings.cache_clear()
    callback.budget = callback.WaitingTime()
    runner.budget = runner.Budget()
