"""Check requests as BzCtrl does: pure functions, written only from BzCtrl's documents.

Two messages create a todo. ``ADD_TASK`` is the shape of "External System Integration - Incidents & Tasks" (``POST``);
``PREDEFINED`` is the older, shorter one of "api auth" (``PUT``). Every check returns all the errors that it finds.
"""

from __future__ import annotations

import contextlib
import json
import re
from dataclasses import dataclass
from datetime import date
from typing import TYPE_CHECKING, Any, Literal, TypeAlias
from urllib.parse import parse_qsl

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

TOKEN_PATH = "/bzctrl-core-api/oauth/token"  # noqa: S105 - a path, not a password
CREATE_PATH = "/bzctrl-core-api/api/v1/task/add-task"
FORM = "application/x-www-form-urlencoded"
JSON = "application/json"

TODO_TYPES = ("INCIDENT", "TASK")
LEVELS = ("HIGH", "MEDIUM", "LOW")

# Not the whole of RFC 5322, but enough to distinguish one bare address from a name, a list of addresses or a typo.
_EMAIL = re.compile(r"[^\s@<>,;:\"()\[\]\\]+@[^\s@<>,;:\"()\[\]\\.]+(\.[^\s@<>,;:\"()\[\]\\.]+)*")


WireError: TypeAlias = dict[Literal["field", "fault"], str]
"""One error of a request: ``{"field": "impact", "fault": "must be one of HIGH, MEDIUM, LOW, not 'urgent'"}``."""


def _text(value: object) -> list[str]:
    if not isinstance(value, str):
        return [f"must be text, not {value!r:.60}"]
    return [] if value == value.strip() else ["must be stripped: it has white space at an end"]


def _one_line(value: object) -> list[str]:
    faults = _text(value)
    if isinstance(value, str) and len(value.splitlines()) > 1:
        faults.append("must be one line")
    return faults


def _texts(value: object) -> list[str]:
    if not isinstance(value, list):
        return [f"must be a list of text, not {value!r:.60}"]
    return [
        f"item {position} {fault}"
        for position, item in enumerate(value, start=1)
        for fault in (["must not be empty"] if item == "" else _text(item))
    ]


def _one_of(*allowed: str) -> Callable[[object], list[str]]:
    def check(value: object) -> list[str]:
        return [] if value in allowed else [f"must be one of {', '.join(allowed)}, not {value!r:.60}"]

    return check


def _amount(value: object) -> list[str]:
    if isinstance(value, str) and re.fullmatch(r"[0-9]+(\.[0-9]+)?", value):
        return []
    return [f"must be a string of digits with an optional decimal point, like '1234.5', not {value!r:.60}"]


def _date(value: object) -> list[str]:
    with contextlib.suppress(ValueError):
        # Python reads other forms as well, such as 20260203.
        if isinstance(value, str) and date.fromisoformat(value).isoformat() == value:
            return []
    return [f"must be a day of the calendar as YYYY-MM-DD, not {value!r:.60}"]


def _email(value: object) -> list[str]:
    if isinstance(value, str) and _EMAIL.fullmatch(value):
        return _text(value)
    return [f"must be one e-mail address, not {value!r:.60}"]


def _grant(value: object) -> list[str]:
    # Not quoted: it could be a password in the wrong place.
    return [] if value == "password" else ["must be 'password', the only grant that the documents describe"]


def _anything(_: object) -> list[str]:
    return []


@dataclass(frozen=True)
class WireField:
    """One key of a message: the check of its value, whether it is mandatory, the only type of todo that has it."""

    check: Callable[[object], list[str]]
    must: bool = False
    only: str | None = None


Message: TypeAlias = "Mapping[str, WireField]"
"""The keys of a message."""

_COMMON: Message = {
    "todoType": WireField(_one_of(*TODO_TYPES), must=True),
    "title": WireField(_one_line, must=True),
    "description": WireField(_text, must=True),
    "result": WireField(_text, only="TASK"),
    "financialImpact": WireField(_amount, only="INCIDENT"),
    "impact": WireField(_one_of(*LEVELS), only="INCIDENT"),
    "likelihood": WireField(_one_of(*LEVELS), only="INCIDENT"),
    # The documents write `IN PROGRESS`; another published field list of the vendor writes `INPROGRESS`.
    "status": WireField(_one_of("IN PROGRESS", "INPROGRESS", "TODO", "DONE", "EXPIRED"), must=True),
    "priority": WireField(_one_of(*LEVELS)),
    "assignee": WireField(_email, must=True),
    "reporter": WireField(_email, must=True),
    "orderID": WireField(_text, must=True),
    "reminderDate": WireField(_date),
}

ADD_TASK: Message = {
    **_COMMON,
    "domainWorkSpace": WireField(_text, must=True),
    "category": WireField(_texts),
    "subCategory": WireField(_texts),
    "lrn": WireField(_text),
}

PREDEFINED: Message = {
    **_COMMON,
    "domain": WireField(_text, must=True),
    "workspace": WireField(_text, must=True),
    "category": WireField(_text),
    "LRN": WireField(_text),
}

TOKEN_FORM: Message = {
    "grant_type": WireField(_grant, must=True),
    "username": WireField(_anything, must=True),
    "password": WireField(_anything, must=True),
}

MESSAGES: Mapping[str, Message] = {"POST": ADD_TASK, "PUT": PREDEFINED}


def _check_value(key: str, value: object, message: Message, todo_type: object) -> list[str]:
    field = message.get(key)
    if field is None:
        return [f"is not a key of this message; known are {', '.join(sorted(message))}"]
    if value is None or value in ("", []):
        remedy = "it is mandatory" if field.must else "leave the key out"
        return [f"has no value ({json.dumps(value)}): {remedy}"]
    faults = field.check(value)
    if field.only is not None and todo_type in TODO_TYPES and todo_type != field.only:
        faults.append(f"belongs only to a todo of type {field.only}, not {todo_type}")
    return faults


def check_message(body: object, message: Message) -> list[WireError]:
    """Return every error in the body of a request.

    :param body: the value of the JSON, or the form.
    :param message: ``TOKEN_FORM``, ``ADD_TASK`` or ``PREDEFINED``.
    :return: all the errors: missing keys, then those of the other keys; empty for a body that BzCtrl accepts.
    """
    if not isinstance(body, dict):
        return [{"field": "(body)", "fault": f"must be a JSON object, not {body!r:.60}"}]
    missing = [key for key, field in message.items() if field.must and key not in body]
    errors: list[WireError] = [{"field": key, "fault": "is mandatory and missing"} for key in missing]
    for key, value in body.items():
        faults = _check_value(key, value, message, body.get("todoType"))
        errors.extend({"field": key, "fault": fault} for fault in faults)
    return errors


def read_json(raw: bytes) -> Any:
    """Return the value of a JSON body.

    :param raw: the body as it was received.
    :raises ValueError: if it is not JSON in UTF-8.
    """
    try:
        return json.loads(raw.decode("utf-8"))
    except (ValueError, RecursionError) as exc:
        raise ValueError(f"is not JSON in UTF-8: {exc}") from exc


def read_form(raw: bytes) -> dict[str, str]:
    """Return a form-urlencoded body.

    :param raw: the body as it was received.
    :raises ValueError: if it is not ``key=value&key=value``, percent-encoded UTF-8, with each key once.
    """
    try:
        pairs = parse_qsl(
            raw.decode("ascii"), keep_blank_values=True, strict_parsing=bool(raw), errors="strict"
        )
    except ValueError:
        # Neither chained nor quoted: the body most likely holds a password.
        raise ValueError("is not key=value&key=value, percent-encoded UTF-8") from None
    form = dict(pairs)
    if len(form) < len(pairs):
        raise ValueError("has a key more than once")
    return form


READERS: Mapping[str, Callable[[bytes], Any]] = {JSON: read_json, FORM: read_form}


def read_message(raw: bytes, media_type: str, message: Message) -> tuple[Any, list[WireError]]:
    """Return the body of a request, and every error in it.

    :param raw: the body as it was received.
    :param media_type: ``JSON`` or ``FORM``.
    :param message: ``TOKEN_FORM``, ``ADD_TASK`` or ``PREDEFINED``.
    """
    try:
        body = READERS[media_type](raw)
    except ValueError as exc:
        return None, [{"field": "(body)", "fault": str(exc)}]
    return body, check_message(body, message)


def get_workspace(todo: Mapping[str, Any]) -> str:
    """Return the domain workspace of a checked todo, from either message.

    The older document has the domain ``IMP-NLD-EXA-SWA`` with the workspace ``SWA``: such a domain is the domain
    workspace already.

    :param todo: the checked body of the request.
    """
    if "domainWorkSpace" in todo:
        return str(todo["domainWorkSpace"])
    domain, workspace = todo["domain"], todo["workspace"]
    return str(domain) if domain.endswith(f"-{workspace}") else f"{domain}-{workspace}"


def make_tags(todo: Mapping[str, Any]) -> list[str]:
    """Return the tags that BzCtrl gives a checked todo: its order id, then its local reference number.

    :param todo: the checked body of the request.
    """
    return [todo[key] for key in ("orderID", "lrn", "LRN") if key in todo]
