"""From an Airflow connection to a checked configuration."""

from __future__ import annotations

import json
import logging
from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated, Any

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, FilePath, SecretStr, ValidationError

from bzctrl_provider.client.endpoints import Endpoints, Environment
from bzctrl_provider.client.todo import (
    InProgressSpelling,
    MessageFormat,
    Todo,
)
from bzctrl_provider.exceptions import BzCtrlConfigError, BzCtrlValidationError
from bzctrl_provider.text import one_line, safe_repr

if TYPE_CHECKING:
    from airflow.providers.common.compat.sdk import Connection

log = logging.getLogger(__name__)

_NAMES_CHARS = 500
_ID_CHARS = 300


def _no_boolean(value: object) -> object:
    if isinstance(value, bool):
        raise ValueError  # noqa: TRY004 - pydantic collects ValueErrors; what is allowed is in _ALLOWED
    return value


def _upper(value: object) -> object:
    return value.upper() if isinstance(value, str) else value


class _Extras(BaseModel):
    """Hold the extras of a connection, with the values of those that are unset."""

    model_config = ConfigDict(extra="ignore", coerce_numbers_to_str=True, str_strip_whitespace=True)

    environment: Annotated[Environment, BeforeValidator(_upper)] | None = None
    domain_workspace: str | None = None
    reporter: str | None = None
    assignee: str | None = None
    timeout_s: Annotated[float, BeforeValidator(_no_boolean), Field(gt=0, le=600)] = 30.0
    max_attempts: Annotated[int, BeforeValidator(_no_boolean), Field(ge=1, le=10)] = 3
    verify: bool = True
    ca_bundle: FilePath | None = None
    message_format: MessageFormat = "add-task"
    in_progress_spelling: Annotated[InProgressSpelling, BeforeValidator(_upper)] = "IN PROGRESS"
    allow_http: bool = False


_ALLOWED = {
    "environment": "ACC or PROD",
    "timeout_s": "a number of seconds, more than 0 and at most 600",
    "max_attempts": "a whole number from 1 to 10",
    "verify": "true or false",
    "ca_bundle": "the path of a file on the machine that sends the request",
    "message_format": "add-task or predefined",
    "in_progress_spelling": "IN PROGRESS or INPROGRESS",
    "allow_http": "true or false",
}
"""The allowed values of each extra as an error says them; the others are text."""


@dataclass(frozen=True, kw_only=True)
class BzCtrlConfig:
    """Hold all that a client needs, checked.

    :param endpoints: where BzCtrl is.
    :param username: of the API user.
    :param password: of the API user.
    :param timeout_s: seconds for one attempt of one HTTP request.
    :param max_attempts: how often one request is sent at the most.
    :param verify: whether the server's certificate is checked, or the path of a CA file to check it with.
    :param message_format: ``add-task`` or ``predefined``.
    :param in_progress_spelling: ``IN PROGRESS`` or ``INPROGRESS``.
    :param defaults: fields for todos that do not have them.
    """

    endpoints: Endpoints
    username: str
    password: SecretStr
    timeout_s: float
    max_attempts: int
    verify: bool | str
    message_format: MessageFormat
    in_progress_spelling: InProgressSpelling
    defaults: dict[str, str]

    @classmethod
    def from_connection(cls, connection: Connection) -> BzCtrlConfig:
        """Check a connection of type ``bzctrl``.

        :raises BzCtrlConfigError: names every error at once.
        """
        faults: list[tuple[str, str]] = []
        if connection.conn_type not in (None, "", "bzctrl"):
            # Otherwise a mistyped id would send another system's password to that system's host.
            faults.append(
                (
                    "conn_type",
                    f"must be bzctrl, not {safe_repr(connection.conn_type)}: is the id the right one?",
                )
            )
        extras = _extras(connection, faults)
        username = (connection.login or "").strip()
        if not username:
            faults.append(("login", "is missing: give the API username"))
        if not connection.password:
            faults.append(("password", "is missing: give the API password"))
        # Checked here, because the error of the encoder would hold the password.
        faults += [
            (name, "is no text that UTF-8 can hold: it has half surrogate pairs")
            for name in ("login", "password")
            if not _is_utf8(getattr(connection, name) or "")
        ]
        endpoints = _endpoints(connection, extras, faults)
        if extras.ca_bundle and not extras.verify:
            faults.append(("extra.ca_bundle", "contradicts verify, which is false: give one of the two"))
        defaults = {
            name: value
            for name in ("domain_workspace", "reporter", "assignee")
            if (value := getattr(extras, name))
        }
        try:
            Todo(**defaults)
        except BzCtrlValidationError as exc:
            faults += [(f"extra.{name}", problem) for name, problem in exc.faults]
        if "reporter" not in defaults and _is_email(username):
            defaults["reporter"] = username
        if faults or endpoints is None:
            raise BzCtrlConfigError(
                f"The Airflow connection {safe_repr(connection.conn_id, max_chars=_ID_CHARS)} cannot be used. Fix the following:",
                faults,
            )
        return cls(
            endpoints=endpoints,
            username=username,
            password=SecretStr(connection.password or ""),
            timeout_s=extras.timeout_s,
            max_attempts=extras.max_attempts,
            verify=str(extras.ca_bundle) if extras.ca_bundle else extras.verify,
            message_format=extras.message_format,
            in_progress_spelling=extras.in_progress_spelling,
            defaults=defaults,
        )


def _is_utf8(text: str) -> bool:
    try:
        text.encode()
    except UnicodeEncodeError:
        return False
    return True


def _is_email(text: str) -> bool:
    try:
        Todo(reporter=text)
    except BzCtrlValidationError:
        return False
    return True


def _extras(connection: Connection, faults: list[tuple[str, str]]) -> _Extras:
    """Check the extra; a faulty value counts as unset after that, so that the rest can be checked as well."""
    # Not `extra_dejson`, which turns what it cannot read into an empty extra.
    try:
        extra: Any = json.loads(connection.extra or "{}")
    except (ValueError, RecursionError):
        extra = None
    if not isinstance(extra, dict):
        faults.append(("extra", 'must be a JSON object such as {"environment": "ACC"}'))
        return _Extras()
    unknown = sorted(extra.keys() - _Extras.model_fields.keys())
    if unknown:
        log.warning(
            "The Airflow connection %s has extras that BzCtrl does not know: %s. Known are: %s.",
            safe_repr(connection.conn_id, max_chars=_ID_CHARS),
            one_line(", ".join(unknown), max_chars=_NAMES_CHARS),
            ", ".join(_Extras.model_fields),
        )
    values = {
        name: value
        for name, value in extra.items()
        if value is not None and not (isinstance(value, str) and not value.strip())
    }
    try:
        return _Extras(**values)
    except ValidationError as exc:
        faulty = list(dict.fromkeys(str(error["loc"][0]) for error in exc.errors(include_url=False)))
    faults += [
        (f"extra.{name}", f"must be {_ALLOWED.get(name, 'text')}, not {safe_repr(values[name])}")
        for name in faulty
    ]
    return _Extras(**{name: value for name, value in values.items() if name not in faulty})


def _endpoints(connection: Connection, extras: _Extras, faults: list[tuple[str, str]]) -> Endpoints | None:
    host = (connection.host or "").strip()
    if not host:
        if extras.environment:
            return Endpoints.from_environment(extras.environment)
        # An extra that cannot be read may have one.
        if not dict(faults).keys() & {"extra", "extra.environment"}:
            faults.append(
                ("extra.environment", "is missing: give ACC or PROD, or the Host of another BzCtrl")
            )
        return None
    try:
        return Endpoints.from_host(
            host,
            schema=(connection.schema or "").strip() or None,
            port=connection.port or None,
            allow_http=extras.allow_http,
        )
    except ValueError as exc:
        faults.append(("host", str(exc)))
        return None
