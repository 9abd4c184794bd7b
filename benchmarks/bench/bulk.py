"""How near many todos at a time come to the time that the server's latency takes, beside a bare session.

The time is from the call to its return, in a forked process with an empty hook: it contains the look-up of the connection, the token
and the first connection of each thread. The imports of `requests` and of the client are part of the figures of a fresh task.
"""

from __future__ import annotations

import math
import time
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from importlib import import_module
from typing import TYPE_CHECKING

from airflow.sdk import BaseHook

from bench.processes import LATENCY_MS
from bench.todo import CREATE, FIELDS, MESSAGE, authorized_by_session
from bench.worker import forked_rounds, log_at_info, run
from bzctrl_provider.hooks.bzctrl import BzCtrlHook

if TYPE_CHECKING:
    from collections.abc import Callable

_TODOS = 500


def _bound_s(threads: int) -> float:
    """Return the shortest possible time: the token's response, and the responses that each thread waits for in turn."""
    return (1 + math.ceil(_TODOS / threads)) * LATENCY_MS / 1000


def _by_hook(threads: int) -> None:
    results = BzCtrlHook().create_todos([FIELDS] * _TODOS, max_workers=threads)
    assert all(hasattr(result, "key") for result in results)


def _by_session(threads: int) -> None:
    import requests

    host = BaseHook.get_connection("bzctrl_default").host
    session = requests.Session()
    session.mount("http://", requests.adapters.HTTPAdapter(pool_maxsize=threads))
    headers = authorized_by_session(session, host)

    def create(message: dict[str, str]) -> object:
        return session.post(f"{host}{CREATE}", json=message, headers=headers, timeout=30).json()

    with ThreadPoolExecutor(threads) as pool:
        assert len(list(pool.map(create, [MESSAGE] * _TODOS))) == _TODOS


def _share(create: Callable[[int], None], threads: int) -> float:
    import_module("bzctrl_provider.client.api")
    import_module("bzctrl_provider.client.api")
    began = time.perf_counter()
    create(threads)
    return _bound_s(threads) / (time.perf_counter() - began)


def main(rounds: int) -> dict[str, list[float]]:
    """Return the share of the latency bound in the time."""
    BaseHook.get_connection("bzctrl_default")  # in a task, Airflow's own look-up is loaded
    log_at_info()
    return forked_rounds(
        {
            f"bulk.{name}_{threads}": partial(_share, create, threads)
            for threads in (8, 32)
            for name, create in (("threads", _by_hook), ("session", _by_session))
        },
        rounds,
    )


if __name__ == "__main__":
    run(main)
