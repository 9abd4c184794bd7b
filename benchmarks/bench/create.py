"""One todo after another, by each contestant in turn: this provider, a bare session, two calls of the HttpHook.

The bare session posts the finished body: it checks no field, asks for no token, has no timeout and reads no field of the
response.
"""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

import requests
from airflow.providers.http.hooks.http import HttpHook
from airflow.sdk import BaseHook

from bench.figures import ratios
from bench.todo import CREATE, FIELDS, FORM, GRANT, MESSAGE, TOKEN, authorized_by_session
from bench.worker import log_at_info, run, timed
from bzctrl_provider.hooks.bzctrl import BzCtrlHook

if TYPE_CHECKING:
    from collections.abc import Callable

_BLOCK = 10
"""Todos of one contestant before it is the next one's turn: some 5 ms."""


def _http_hook() -> None:
    http = HttpHook(method="POST")
    token = http.run(TOKEN, data=GRANT, headers=FORM).json()["access_token"]
    http.run(CREATE, json=MESSAGE, headers={"Authorization": f"Bearer {token}"}).json()


def _contestants() -> dict[str, Callable[[], object]]:
    host = BaseHook.get_connection("bzctrl_default").host
    session = requests.Session()
    body = json.dumps(MESSAGE).encode()
    headers = {**authorized_by_session(session, host), "Content-Type": "application/json"}
    hook = BzCtrlHook()
    return {
        "ours": lambda: hook.create_todo(FIELDS),
        "session": lambda: session.post(f"{host}{CREATE}", data=body, headers=headers),
        "http_hook": _http_hook,
    }


def main(rounds: int) -> dict[str, list[float]]:
    """Return the ratios of time and of CPU."""
    contestants = _contestants()
    log_at_info()
    for create in contestants.values():
        timed(create, 5 * _BLOCK)
    measured: dict[str, list[tuple[float, float]]] = {name: [] for name in contestants}
    for _ in range(rounds):
        for name, create in contestants.items():
            measured[name].append(timed(create, _BLOCK))
    times = {name: [time for time, _ in of] for name, of in measured.items()}
    cpu = {name: [cpu for _, cpu in of] for name, of in measured.items()}
    return {
        "create.time": ratios(times["ours"], times["session"]),
        "create.cpu": ratios(cpu["ours"], cpu["session"]),
        "create.time_http_hook": ratios(times["ours"], times["http_hook"]),
        "create.cpu_http_hook": ratios(cpu["ours"], cpu["http_hook"]),
        "create.ours": [seconds * 1e6 for seconds in cpu["ours"]],
    }


if __name__ == "__main__":
    run(main)
