"""Make the Airflow connection that points at the sandbox."""

from __future__ import annotations

import json
from typing import Any

CONNECTION_VARIABLE = "AIRFLOW_CONN_BZCTRL_DEFAULT"
LOGIN = "sandbox@example.com"
PASSWORD = "sandbox-password"  # noqa: S105 - made up, and accepted by no other BzCtrl
DOMAIN_WORKSPACE = "EXA-CON-BUS-WOR"


def make_connection_json(
    url: str, *, login: str = LOGIN, password: str = PASSWORD, allow_http: bool = False
) -> str:
    """Return the Airflow connection that points at a sandbox, as JSON for the environment variable.

    :param url: the sandbox's address, such as ``http://127.0.0.1:8137``.
    :param login: the username, which is the reporter as well.
    :param password: the password.
    :param allow_http: whether the connection allows clear text; needed if the address is not a loopback one.
    """
    reporter = login if "@" in login else LOGIN
    extra: dict[str, Any] = {"domain_workspace": DOMAIN_WORKSPACE, "reporter": reporter}
    if allow_http:
        extra["allow_http"] = True
    values = {"conn_type": "bzctrl", "host": url, "login": login, "password": password, "extra": extra}
    return json.dumps(values)
