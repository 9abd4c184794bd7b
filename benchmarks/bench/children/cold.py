"""The first todo of a fresh task process: connection, token and create, beside a bare session that does the same.

A task process is forked from one that has Airflow's SDK loaded, and neither `requests` nor this provider.
"""

from __future__ import annotations

import json
import sys
import time
from functools import partial
from typing import TYPE_CHECKING

from airflow.sdk import BaseHook, BaseOperator

from bench.children.forked import forked, settle
from bench.children.worker import log_at_info
from bench.todo import FIELDS

if TYPE_CHECKING:
    from collections.abc import Callable

BASES = (BaseHook, BaseOperator)
"""Airflow loads them when they are first named."""

_CREATE = "/bzctrl-core-api/api/v1/task/add-task"
_TOKEN = "/bzctrl-core-api/oauth/token"  # noqa: S105 - a path


def _by_hook() -> None:
    from bzctrl_provider.hooks.bzctrl import BzCtrlHook

    BzCtrlHook().create_todo(FIELDS)


def _by_session() -> None:
    import requests

    connection = BaseHook.get_connection("bzctrl_default")
    session = requests.Session()
    grant = {"grant_type": "password", "username": connection.login, "password": connection.password}
    token = session.post(f"{connection.host}{_TOKEN}", data=grant, timeout=30).json()["access_token"]
    headers = {"Authorization": f"Bearer {token}"}
    session.post(f"{connection.host}{_CREATE}", json=dict(FIELDS), headers=headers, timeout=30).json()


def _cpu_ms(create: Callable[[], None]) -> dict[str, float]:
    began = time.process_time()
    create()
    return {"cpu_ms": (time.process_time() - began) * 1e3}


def main(rounds: int) -> dict[str, list[float]]:
    """Return the CPU milliseconds of each contestant, round by round, in turn."""
    log_at_info()
    contestants = {"ours": _by_hook, "session": _by_session}
    for create in contestants.values():  # writes the bytecode that an installation has
        forked(partial(_cpu_ms, create))
    settle()
    measured: dict[str, list[float]] = {name: [] for name in contestants}
    for _ in range(rounds):
        for name, create in contestants.items():
            measured[name].append(forked(partial(_cpu_ms, create))["cpu_ms"])
    return measured


if __name__ == "__main__":
    print(json.dumps(main(int(sys.argv[1]))))
