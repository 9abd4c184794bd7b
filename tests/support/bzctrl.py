"""The BzCtrl of the unit tests: its addresses, the credentials, and the connection with which a task reaches it."""

from __future__ import annotations

import json

from pydantic import SecretStr

from bzctrl_provider.client import auth
from bzctrl_provider.client.api import BzCtrlClient
from bzctrl_provider.client.config import ENVIRONMENTS, BzCtrlConfig
from bzctrl_provider.client.todo import build_message

ACC = ENVIRONMENTS["ACC"]
USERNAME = "user@example.com"
PASSWORD = "Ex@mpl3! & more"
"""With characters that a form, a URL and a shell write in another way."""
TOKEN = "t0ken-that-nobody-may-see"
KEY = "EXA-CON-BUS-WOR-03"
LINK = f"https://www.bzctrl.com/app/#/todo/{KEY}"


def new_client(endpoints=ACC, *, on_new_token=None, **settings):
    """Return a client of a process that has no token, whose settings are the defaults unless they are given."""
    auth._sources.clear()
    given = {"username": USERNAME, "password": PASSWORD, **settings}
    given["password"] = SecretStr(given["password"])
    config = BzCtrlConfig(endpoints, **given)
    return BzCtrlClient(config, on_new_token=on_new_token)


def message_of(todo, **settings):
    """Return the message of a complete todo for a client with these settings."""
    return build_message(todo, BzCtrlConfig(ACC, USERNAME, SecretStr(PASSWORD), **settings))


def set_connection(monkeypatch, conn_id="bzctrl_default", *, extra=None, **changes):
    """Define an Airflow connection in the environment, by default a complete one to ACC.

    :param extra: further extras, or ``None`` values for those that it has by default.
    :param changes: other values of its fields, such as ``password``.
    """
    extras = {"environment": "ACC", "domain_workspace": "EXA", **(extra or {})}
    values = {"conn_type": "bzctrl", "login": USERNAME, "password": PASSWORD, "extra": extras, **changes}
    monkeypatch.setenv(f"AIRFLOW_CONN_{conn_id.upper()}", json.dumps(values))


def register_bzctrl(requests_mock, *, token=None, create=None):
    """Answer token and create requests to ACC, and return the mock.

    :param token: the body of the token response.
    :param create: the body of the create response.
    """
    requests_mock.post(ACC.token_url, json=token or {"access_token": TOKEN, "expires_in": 3600})
    requests_mock.post(ACC.create_url, json=create or {"taskLink": LINK})
    return requests_mock


def requests_to(bzctrl, url):
    """Return the requests that were sent to a URL."""
    return [request for request in bzctrl.request_history if request.url == url]


def sent_todos(bzctrl):
    """Return the bodies of the create requests that were sent to ACC."""
    return [request.json() for request in requests_to(bzctrl, ACC.create_url)]
