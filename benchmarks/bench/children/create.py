"""One todo after another, by each contestant in turn: this provider, a bare session, two calls of the HttpHook.

The bare session posts the finished body: it checks no field, asks for no token, has no timeout and looks at no answer.
"""

from __future__ import annotations

import json
import sys
from typing import TYPE_CHECKING
from urllib.parse import urlencode

import requests
from airflow.providers.http.hooks.http import HttpHook

from bench.children.worker import BLOCK, log_at_info, timed
from bench.todo import FIELDS
from bzctrl_provider.client.todo import build_message, complete_todo
from bzctrl_provider.hooks.bzctrl import BzCtrlHook

if TYPE_CHECKING:
    from collections.abc import Callable

CREATE = "/bzctrl-core-api/api/v1/task/add-task"
TOKEN = "/bzctrl-core-api/oauth/token"  # noqa: S105 - a path


def contestants(url: str) -> dict[str, Callable[[], object]]:
    """Return what creates one todo, by the name of the contestant."""
    message = build_message(complete_todo(FIELDS, defaults={}))
    body = json.dumps(message, ensure_ascii=False).encode()
    session = requests.Session()
    headers = {"Authorization": "Bearer 0123456789abcdef", "Content-Type": "application/json"}
    hook = BzCtrlHook()
    grant = urlencode({"grant_type": "password", "username": "user@example.com", "password": "a password"})
    path = url.partition("//")[2].partition("/")[2]

    def http_hook() -> None:
        http = HttpHook(method="POST")
        form = {"Content-Type": "application/x-www-form-urlencoded"}
        token = http.run(f"{path}{TOKEN}", data=grant, headers=form).json()["access_token"]
        http.run(f"{path}{CREATE}", json=message, headers={"Authorization": f"Bearer {token}"}).json()

    return {
        "ours": lambda: hook.create_todo(FIELDS),
        "session": lambda: session.post(f"{url}{CREATE}", data=body, headers=headers),
        "http_hook": http_hook,
    }


def main(url: str, rounds: int) -> dict[str, list[tuple[float, float]]]:
    """Measure each contestant once a round."""
    log_at_info()
    create = contestants(url)
    for of in create.values():
        timed(of, 5 * BLOCK)
    measured: dict[str, list[tuple[float, float]]] = {name: [] for name in create}
    for _ in range(rounds):
        for name, of in create.items():
            measured[name].append(timed(of, BLOCK))
    return measured


if __name__ == "__main__":
    print(json.dumps(main(sys.argv[1], int(sys.argv[2]))))
