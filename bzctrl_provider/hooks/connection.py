"""From an Airflow connection to a checked configuration."""

from __future__ import annotations

import json
import logging
from configparser import ConfigParser
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pydantic import SecretStr

from bzctrl_provider.client.config import ENVIRONMENTS, BzCtrlConfig, Endpoints
from bzctrl_provider.client.todo import Todo
from bzctrl_provider.exceptions import BzCtrlConfigError, BzCtrlValidationError
from bzctrl_provider.text import LINE_CHARS, is_email, is_encodable, one_line, safe_repr

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from airflow.providers.common.compat.sdk import Connection

log = logging.getLogger(__name__)


def _text(value: Any) -> str:
    if isinstance(value, bool) or not isinstance(value, str | int | float):
        raise TypeError
    return str(value).strip()


def _one_of(*choices: str) -> Callable[[Any], str]:
    by_lower_case = {choice.lower(): choice for choice in choices}
    return lambda value: by_lower_case[_text(value).lower()]


def _boolean(value: Any) -> bool:
    return ConfigParser.BOOLEAN_STATES[str(value).strip().lower()]


def _up_to(most: int, kind: type[int | float]) -> Callable[[Any], float]:
    def parse(value: Any) -> float:
        number = kind(_text(value))
        if not 0 < number <= most:  # also not a number
            raise ValueError
        return number

    return parse


def _file(value: Any) -> str:
    path = Path(value.strip())
    if not path.is_file():
        raise ValueError
    return str(path)


EXTRAS: Mapping[str, tuple[Callable[[Any], Any], str]] = {
    "environment": (_one_of(*ENVIRONMENTS), "ACC or PROD"),
    "domain_workspace": (_text, "text"),
    "reporter": (_text, "text"),
    "assignee": (_text, "text"),
    "timeout_s": (_up_to(600, float), "a number of seconds, more than 0 and at most 600"),
    "max_attempts": (_up_to(10, int), "a whole number from 1 to 10"),
    "verify": (_boolean, "true or false"),
    "ca_bundle": (_file, "the path of a file on the machine that sends the request"),
    "message_format": (_one_of("add-task", "predefined"), "add-task or predefined"),
    "in_progress_spelling": (_one_of("IN PROGRESS", "INPROGRESS"), "IN PROGRESS or INPROGRESS"),
    "allow_http": (_boolean, "true or false"),
}
"""Every extra of a connection: its parser, which raises an error if the value is invalid, and the allowed values as an error
says them. A table and no pydantic model, whose definition costs each task 8 ms."""

_OF_THE_CLIENT = ("timeout_s", "max_attempts", "verify", "message_format", "in_progress_spelling")
"""The extras that are settings of a client, which has their defaults."""


def read_connection(connection: Connection) -> BzCtrlConfig:
    """Check a connection of type ``bzctrl``.

    :raises BzCtrlConfigError: names every error at once.
    """
    errors = _type_errors(connection.conn_type)
    extras = _extras(connection, errors)
    username, password = (connection.login or "").strip(), SecretStr(connection.password or "")
    errors += _credential_errors("login", "username", username)
    errors += _credential_errors("password", "password", password.get_secret_value())
    endpoints = _endpoints(connection, extras, errors)
    if "ca_bundle" in extras and extras.get("verify") is False:
        errors.append(("extra.ca_bundle", "contradicts verify, which is false: give one of the two"))
    extras["verify"] = extras.get("ca_bundle") or extras.get("verify", True)
    defaults = _todo_defaults(extras, username, errors)
    conn_id = connection.conn_id
    # Its repr has the password, and some tracebacks show the variables of a frame.
    del connection
    if errors or endpoints is None:
        shown = safe_repr(conn_id, max_chars=LINE_CHARS)
        raise BzCtrlConfigError(f"The Airflow connection {shown} cannot be used. Fix the following:", errors)
    return BzCtrlConfig(
        endpoints=endpoints,
        username=username,
        password=password,
        defaults=defaults,
        connection=f"the connection {conn_id!r}",
        **{name: extras[name] for name in _OF_THE_CLIENT if name in extras},
    )


def _type_errors(conn_type: str | None) -> list[tuple[str, str]]:
    if conn_type in (None, "", "bzctrl"):
        return []
    # Otherwise a mistyped id would send another system's password to that system's host.
    return [("conn_type", f"must be bzctrl, not {safe_repr(conn_type)}: is the id the right one?")]


def _credential_errors(field: str, name: str, text: str) -> list[tuple[str, str]]:
    if not text:
        return [(field, f"is missing: give the API {name}")]
    if not is_encodable(text):
        # Found here, because the error of the encoder would hold the password.
        return [(field, "is no text that UTF-8 can hold: it has half surrogate pairs")]
    return []


def _todo_defaults(extras: dict[str, Any], username: str, errors: list[tuple[str, str]]) -> dict[str, str]:
    """Return the fields of todos that leave them out; a login that is an e-mail address is the reporter."""
    names = ("domain_workspace", "reporter", "assignee")
    defaults: dict[str, Any] = {name: extras[name] for name in names if name in extras}
    try:
        Todo(**defaults)
    except BzCtrlValidationError as exc:
        errors += [(f"extra.{name}", error) for name, error in exc.errors]
    if "reporter" not in defaults and is_email(username):
        defaults["reporter"] = username
    return defaults


def _extras(connection: Connection, errors: list[tuple[str, str]]) -> dict[str, Any]:
    """Return the extras that are set; an invalid one counts as unset, so that the rest can be checked as well."""
    # Not `extra_dejson`, which turns what it cannot read into an empty extra.
    try:
        extra: Any = json.loads(connection.extra or "{}")
    except (ValueError, RecursionError):
        extra = None
    if not isinstance(extra, dict):
        errors.append(("extra", 'must be a JSON object such as {"environment": "ACC"}'))
        return {}
    if unknown := sorted(extra.keys() - EXTRAS.keys()):
        log.warning(
            "The Airflow connection %s has extras that BzCtrl does not know: %s. Known are: %s.",
            safe_repr(connection.conn_id, max_chars=LINE_CHARS),
            one_line(", ".join(unknown), max_chars=LINE_CHARS),
            ", ".join(EXTRAS),
        )
    values = {}
    for name, (parse, allowed) in EXTRAS.items():
        value = extra.get(name)
        if value is None or (isinstance(value, str) and not value.strip()):
            continue
        try:
            values[name] = parse(value)
        except (ValueError, TypeError, KeyError, AttributeError, OSError):
            errors.append((f"extra.{name}", f"must be {allowed}, not {safe_repr(value)}"))
    return values


def _endpoints(
    connection: Connection, extras: dict[str, Any], errors: list[tuple[str, str]]
) -> Endpoints | None:
    host = (connection.host or "").strip()
    if not host:
        if "environment" in extras:
            return ENVIRONMENTS[extras["environment"]]
        # An extra that cannot be read may have one.
        if not dict(errors).keys() & {"extra", "extra.environment"}:
            problem = "is missing: give ACC or PROD, or the Host of another BzCtrl"
            errors.append(("extra.environment", problem))
        return None
    schema, port = (connection.schema or "").strip().lower(), connection.port or None
    try:
        return Endpoints.from_host(host, schema=schema, port=port, allow_http=extras.get("allow_http", False))
    except ValueError as exc:
        errors.append(("host", str(exc)))
        return None
