"""The gain of each optimization: a todo without it beside one with all of them, in turn."""

from __future__ import annotations

import json
import sys
from typing import TYPE_CHECKING, Any
from unittest import mock

import requests
from requests.adapters import HTTPAdapter

from bench.children.worker import BLOCK, log_at_info, timed
from bench.todo import FIELDS
from bzctrl_provider.client import requester, todo, transport
from bzctrl_provider.hooks.bzctrl import BzCtrlHook

if TYPE_CHECKING:
    from contextlib import AbstractContextManager

    from requests.auth import AuthBase


def _prepared_again(
    template: requests.PreparedRequest, body: bytes, auth: AuthBase
) -> requests.PreparedRequest:
    request = requests.Request(template.method, template.url, headers=template.headers, data=body, auth=auth)
    return requests.Session().prepare_request(request)


def _sent_with_merged_settings(session: requests.Session, request: Any, **settings: Any) -> requests.Response:
    session.merge_environment_settings(request.url, {}, stream=False, verify=True, cert=None)
    return requests.Session.send(session, request, **settings)


def _without() -> dict[str, AbstractContextManager[Any]]:
    patch = mock.patch.object
    return {
        "the connection pool found once": patch(
            transport.BzCtrlAdapter,
            "get_connection_with_tls_context",
            HTTPAdapter.get_connection_with_tls_context,
        ),
        "a prepared request as template": patch(requester, "_filled", _prepared_again),
        "proxies and CA settings merged once": patch(
            requester._Session,  # noqa: SLF001 - the saving is there
            "send",
            _sent_with_merged_settings,
            create=True,
        ),
        "a todo's fields checked once": patch(todo, "_from_checked", lambda values: todo.Todo(**values)),
    }


def main(rounds: int) -> dict[str, list[tuple[float, float]]]:
    """Return, for each saving, the microseconds of time and of CPU that it saves a todo, round by round."""
    log_at_info()
    hook = BzCtrlHook()
    savings = _without()

    def create() -> object:
        return hook.create_todo(FIELDS)

    timed(create, 100)
    saved: dict[str, list[tuple[float, float]]] = {name: [] for name in savings}
    for _ in range(rounds):
        for name, without in savings.items():
            with without:
                without_it = timed(create, BLOCK)
            with_it = timed(create, BLOCK)
            saved[name].append(((without_it[0] - with_it[0]) * 1e6, (without_it[1] - with_it[1]) * 1e6))
    return saved


if __name__ == "__main__":
    print(json.dumps(main(int(sys.argv[1]))))
