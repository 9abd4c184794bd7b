"""What BzCtrl accepts: pure checks of a request, written from BzCtrl's documents alone.

Two messages create a todo. `ADD_TASK` is the shape of "External System Integration - Incidents & Tasks" (`POST`);
`PREDEFINED` is the older, shorter one of "api auth" (`PUT`). Every check returns all the faults it finds.
"""

from __future__ import annotations

import json
import re
from dataclasses import dataclass
from datetime import date
from difflib import get_close_matches
from typing import TYPE_CHECKING, Any, Final, NoReturn, TypeAlias
from urllib.parse import parse_qsl

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

TOKEN_PATH: Final = "/bzctrl-core-api/oauth/token"  # noqa: S105 - a path, not a password
CREATE_PATH: Final = "/bzctrl-core-api/api/v1/task/add-task"

TODO_TYPES: Final = ("INCIDENT", "TASK")
LEVELS: Final = ("HIGH", "MEDIUM", "LOW")
# The documents write `IN PROGRESS`; another published field list of the vendor writes `INPROGRESS`.
STATUSES: Final = ("IN PROGRESS", "INPROGRESS", "TODO", "DONE", "EXPIRED")

WHOLE_BODY: Final = "(body)"

_AMOUNT = re.compile(r"[0-9]+(\.[0-9]+)?")
_DATE = re.compile(r"[0-9]{4}-[0-9]{2}-[0-9]{2}")
# Not the whole of RFC 5322, but enough to tell one bare address from a name, a list of addresses or a slip.
_EMAIL = re.compile(r"[^\s@<>,;:\"()\[\]\\]+@[^\s@<>,;:\"()\[\]\\.]+(\.[^\s@<>,;:\"()\[\]\\.]+)*")
_EXCERPT_LENGTH = 60

Fault: TypeAlias = dict[str, str]
"""One fault of a request: `{"field": "impact", "fault": "must be one of HIGH, MEDIUM, LOW, not 'urgent'"}`."""


class UnreadableBodyError(ValueError):
    """The body is no JSON, or no form, at all; the text says why."""


def _excerpt(value: object) -> str:
    text = repr(value)
    return text if len(text) <= _EXCERPT_LENGTH else f"{text[: _EXCERPT_LENGTH - 1]}…"


def _json_type(value: object) -> str:
    names = {
        bool: "a boolean",
        int: "a number",
        float: "a number",
        str: "text",
        list: "a list",
        dict: "an object",
    }
    return "null" if value is None else names[type(value)]


def _text(value: object) -> list[str]:
    if not isinstance(value, str):
        return [f"must be text, not {_json_type(value)}"]
    faults: list[str] = []
    if value != value.strip():
        faults.append("must be stripped: it has white space at an end")
    if any("\ud800" <= character <= "\udfff" for character in value):
        faults.append("must be Unicode text: it has half of a surrogate pair")
    return faults


def _one_line(value: object) -> list[str]:
    faults = _text(value)
    if isinstance(value, str) and len(value.splitlines()) > 1:
        faults.append("must be one line")
    return faults


def _texts(value: object) -> list[str]:
    if not isinstance(value, list):
        return [f"must be a list of text, not {_json_type(value)}"]
    faults: list[str] = []
    for position, item in enumerate(value, start=1):
        item_faults = ["must not be empty"] if item == "" else _text(item)
        faults.extend(f"item {position} {fault}" for fault in item_faults)
    return faults


def _one_of(*allowed: str) -> Callable[[object], list[str]]:
    def check(value: object) -> list[str]:
        if value in allowed:
            return []
        return [f"must be one of {', '.join(allowed)}, not {_excerpt(value)}"]

    return check


def _amount(value: object) -> list[str]:
    if isinstance(value, str) and _AMOUNT.fullmatch(value):
        return []
    return [
        f"must be a string of digits with an optional decimal point, like '1234.5', not {_excerpt(value)}"
    ]


def _date(value: object) -> list[str]:
    if isinstance(value, str) and _DATE.fullmatch(value):
        try:
            date.fromisoformat(value)
        except ValueError:
            return [f"must be a day of the calendar, not {_excerpt(value)}"]
        return []
    return [f"must be a date as YYYY-MM-DD, not {_excerpt(value)}"]


def _email(value: object) -> list[str]:
    if isinstance(value, str) and _EMAIL.fullmatch(value):
        return _text(value)
    return [f"must be one e-mail address, not {_excerpt(value)}"]


@dataclass(frozen=True)
class WireField:
    """One key of a message: how its value is checked, whether it must be there, which type of todo has it."""

    check: Callable[[object], list[str]]
    must: bool = False
    only: str | None = None


_COMMON: Final[Mapping[str, WireField]] = {
    "todoType": WireField(_one_of(*TODO_TYPES), must=True),
    "title": WireField(_one_line, must=True),
    "description": WireField(_text, must=True),
    "result": WireField(_text, only="TASK"),
    "financialImpact": WireField(_amount, only="INCIDENT"),
    "impact": WireField(_one_of(*LEVELS), only="INCIDENT"),
    "likelihood": WireField(_one_of(*LEVELS), only="INCIDENT"),
    "status": WireField(_one_of(*STATUSES), must=True),
    "priority": WireField(_one_of(*LEVELS)),
    "assignee": WireField(_email, must=True),
    "reporter": WireField(_email, must=True),
    "orderID": WireField(_text, must=True),
    "reminderDate": WireField(_date),
}

ADD_TASK: Final[Mapping[str, WireField]] = {
    **_COMMON,
    "domainWorkSpace": WireField(_text, must=True),
    "category": WireField(_texts),
    "subCategory": WireField(_texts),
    "lrn": WireField(_text),
}

PREDEFINED: Final[Mapping[str, WireField]] = {
    **_COMMON,
    "domain": WireField(_text, must=True),
    "workspace": WireField(_text, must=True),
    "category": WireField(_text),
    "LRN": WireField(_text),
}

MESSAGES: Final[Mapping[str, Mapping[str, WireField]]] = {"POST": ADD_TASK, "PUT": PREDEFINED}


def _unknown_key(key: str, message: Mapping[str, WireField]) -> str:
    for method, other in MESSAGES.items():
        if key in other:
            return f"is not a key of this message, but of the one that is sent with {method}"
    by_lower_case = {known.lower(): known for known in message}
    near = get_close_matches(key.lower(), by_lower_case, n=1)
    hint = (
        f"; did you mean {by_lower_case[near[0]]}?" if near else f"; known are {', '.join(sorted(message))}"
    )
    return f"is not a key of this message{hint}"


def _value_faults(key: str, value: object, message: Mapping[str, WireField], todo_type: object) -> list[str]:
    field = message.get(key)
    if field is None:
        return [_unknown_key(key, message)]
    if value is None or value in ("", []):
        return [
            f"has no value ({json.dumps(value)}): "
            + ("it is mandatory" if field.must else "leave the key out")
        ]
    faults = field.check(value)
    if field.only is not None and todo_type in TODO_TYPES and todo_type != field.only:
        faults.append(f"belongs to a todo of type {field.only} alone, not {todo_type}")
    return faults


def todo_faults(body: object, message: Mapping[str, WireField]) -> list[Fault]:
    """Return everything that is wrong with the body of a create request.

    :param body: what the JSON held.
    :param message: `ADD_TASK` or `PREDEFINED`.
    :return: all the faults, the missing keys first; empty for a body BzCtrl takes.
    """
    if not isinstance(body, dict):
        return [{"field": WHOLE_BODY, "fault": f"must be a JSON object, not {_json_type(body)}"}]
    faults = [
        {"field": key, "fault": "is mandatory and missing"}
        for key, field in message.items()
        if field.must and key not in body
    ]
    for key, value in body.items():
        found = _value_faults(key, value, message, body.get("todoType"))
        faults.extend({"field": key, "fault": fault} for fault in found)
    return faults


def _refuse_constant(name: str) -> NoReturn:
    msg = f"{name} is no JSON"
    raise UnreadableBodyError(msg)


def _object_without_doubles(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    # Of two equal keys, parsers keep the first, the last or neither: a sender must not rely on any of them.
    found = dict(pairs)
    if len(found) < len(pairs):
        keys = [key for key, _ in pairs]
        doubled = sorted({_excerpt(key) for key in keys if keys.count(key) > 1})
        msg = f"given more than once: {', '.join(doubled)}"
        raise UnreadableBodyError(msg)
    return found


def read_json(raw: bytes) -> Any:
    """Return what a JSON body holds.

    :param raw: the body as it came.
    :raises UnreadableBodyError: where it is not UTF-8, not JSON, has a key twice, or is nested beyond reason.
    """
    try:
        return json.loads(
            raw.decode("utf-8"),
            parse_constant=_refuse_constant,
            object_pairs_hook=_object_without_doubles,
        )
    except UnreadableBodyError:
        raise
    except (ValueError, RecursionError) as exc:
        msg = f"is no JSON in UTF-8: {exc}"
        raise UnreadableBodyError(msg) from exc


def read_form(raw: bytes) -> list[tuple[str, str]]:
    """Return the pairs of a form-urlencoded body, in order.

    :param raw: the body as it came.
    :raises UnreadableBodyError: where it is not `key=value&key=value`, percent-encoded UTF-8.
    """
    try:
        return parse_qsl(
            raw.decode("ascii"),
            keep_blank_values=True,
            strict_parsing=bool(raw),
            errors="strict",
            max_num_fields=100,
        )
    except ValueError:
        # Not chained and not quoted: the body most likely holds a password.
        msg = "is not key=value&key=value, percent-encoded UTF-8"
        raise UnreadableBodyError(msg) from None


def token_faults(pairs: list[tuple[str, str]]) -> list[Fault]:
    """Return everything that is wrong with the form of a token request, without quoting what it holds.

    :param pairs: the pairs of the form.
    :return: all the faults; empty for `grant_type=password&username=…&password=…`.
    """
    known = ("grant_type", "username", "password")
    given = [key for key, _ in pairs]
    values = dict(pairs)
    faults = [
        {"field": key, "fault": "is missing" if key not in values else "has no value"}
        for key in known
        if not values.get(key)
    ]
    if values.get("grant_type") and values["grant_type"] != "password":
        faults.append(
            {"field": "grant_type", "fault": "must be 'password', the only grant the documents describe"}
        )
    for key in dict.fromkeys(given):
        if key not in known:
            faults.append({"field": key, "fault": f"is not a key of this form; known are {', '.join(known)}"})
        elif given.count(key) > 1:
            faults.append({"field": key, "fault": "is given more than once"})
    return faults


def is_media_type(content_type: str, wanted: str) -> bool:
    """Say whether a Content-Type header names a media type, with no character set or with UTF-8.

    :param content_type: the header's value; empty where there was none.
    :param wanted: such as `application/json`.
    """
    media_type, *parameters = (part.strip().lower() for part in content_type.split(";"))
    charsets = [part.partition("=")[2].strip('"') for part in parameters if part.startswith("charset=")]
    return media_type == wanted and all(charset in ("utf-8", "utf8") for charset in charsets)


def workspace_of(todo: Mapping[str, Any]) -> str:
    """Return the domain workspace a checked todo belongs to, whichever message it came in.

    The older document has the domain `IMP-NLD-EXA-SWA` with the workspace `SWA`: such a domain is the whole already.
    """
    if "domainWorkSpace" in todo:
        return str(todo["domainWorkSpace"])
    domain, workspace = todo["domain"], todo["workspace"]
    return str(domain) if domain.endswith(f"-{workspace}") else f"{domain}-{workspace}"


def tags_of(todo: Mapping[str, Any]) -> list[str]:
    """Return the tags BzCtrl makes of a checked todo: its order id, then its local reference number."""
    return [todo[key] for key in ("orderID", "lrn", "LRN") if key in todo]
