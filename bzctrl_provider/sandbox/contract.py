"""Check requests as BzCtrl does: pure functions, written only from BzCtrl's documents.

Two messages create a todo. ``ADD_TASK`` is the shape of "External System Integration - Incidents & Tasks" (``POST``);
``PREDEFINED`` is the older, shorter one of "api auth" (``PUT``). Every check returns all the errors that it finds, in
time that grows no faster than the request.
"""

from __future__ import annotations

import json
import math
import re
from collections import Counter
from dataclasses import dataclass
from datetime import date
from difflib import get_close_matches
from typing import TYPE_CHECKING, Any, NoReturn, TypedDict
from urllib.parse import parse_qsl

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

TOKEN_PATH = "/bzctrl-core-api/oauth/token"  # noqa: S105 - a path, not a password
CREATE_PATH = "/bzctrl-core-api/api/v1/task/add-task"

TODO_TYPES = ("INCIDENT", "TASK")
LEVELS = ("HIGH", "MEDIUM", "LOW")
# The documents write `IN PROGRESS`; another published field list of the vendor writes `INPROGRESS`.
STATUSES = ("IN PROGRESS", "INPROGRESS", "TODO", "DONE", "EXPIRED")

WHOLE_BODY = "(body)"

_AMOUNT = re.compile(r"[0-9]+(\.[0-9]+)?")
_DATE = re.compile(r"[0-9]{4}-[0-9]{2}-[0-9]{2}")
# Not the whole of RFC 5322, but enough to distinguish one bare address from a name, a list of addresses or a typo.
_EMAIL = re.compile(r"[^\s@<>,;:\"()\[\]\\]+@[^\s@<>,;:\"()\[\]\\.]+(\.[^\s@<>,;:\"()\[\]\\.]+)*")
_SURROGATE = re.compile("[\ud800-\udfff]")
_EXCERPT_LENGTH = 60

MAX_NESTING = 100
"""How deep a JSON body may be nested; a deeper one is refused."""

MAX_NUMBER_LENGTH = 100
"""How many characters a JSON number may have: reading thousands of digits takes quadratic time."""

MAX_UNKNOWN_KEYS = 20
"""How many unknown or repeated keys an error names; the others are counted."""

_MAX_ITEM_ERRORS = 20
_MAX_HINT_LENGTH = 64


class FieldError(TypedDict):
    """Hold one error of a request: ``{"field": "impact", "fault": "must be one of HIGH, MEDIUM, LOW, not 'urgent'"}``."""

    field: str
    fault: str


class UnreadableBodyError(ValueError):
    """Say why a body is not JSON, or not a form."""


def _excerpt(value: object) -> str:
    # The repr of a long list costs as much as the list; its type says enough.
    if isinstance(value, list | dict):
        return _json_type(value)
    text = repr(value[:_EXCERPT_LENGTH] if isinstance(value, str) else value)
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
    if _SURROGATE.search(value):
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
        if len(faults) >= _MAX_ITEM_ERRORS:
            return [*faults, "may have more errors in the items that follow"]
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
    """Hold one key of a message: the check of its value, whether it is mandatory, the only type of todo that has it."""

    check: Callable[[object], list[str]]
    must: bool = False
    only: str | None = None


_COMMON: Mapping[str, WireField] = {
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

ADD_TASK: Mapping[str, WireField] = {
    **_COMMON,
    "domainWorkSpace": WireField(_text, must=True),
    "category": WireField(_texts),
    "subCategory": WireField(_texts),
    "lrn": WireField(_text),
}

PREDEFINED: Mapping[str, WireField] = {
    **_COMMON,
    "domain": WireField(_text, must=True),
    "workspace": WireField(_text, must=True),
    "category": WireField(_text),
    "LRN": WireField(_text),
}

MESSAGES: Mapping[str, Mapping[str, WireField]] = {"POST": ADD_TASK, "PUT": PREDEFINED}


def _describe_unknown_key(key: str, message: Mapping[str, WireField]) -> str:
    for method, other in MESSAGES.items():
        if key in other:
            return f"is not a key of this message, but of the one that is sent with {method}"
    by_lower_case = {known.lower(): known for known in message}
    near = get_close_matches(key.lower(), by_lower_case, n=1) if len(key) <= _MAX_HINT_LENGTH else []
    hint = (
        f"; did you mean {by_lower_case[near[0]]}?" if near else f"; known are {', '.join(sorted(message))}"
    )
    return f"is not a key of this message{hint}"


def _check_value(key: str, value: object, field: WireField, todo_type: object) -> list[FieldError]:
    if value is None or value in ("", []):
        remedy = "it is mandatory" if field.must else "leave the key out"
        return [{"field": key, "fault": f"has no value ({json.dumps(value)}): {remedy}"}]
    faults = field.check(value)
    if field.only is not None and todo_type in TODO_TYPES and todo_type != field.only:
        faults.append(f"belongs only to a todo of type {field.only}, not {todo_type}")
    return [{"field": key, "fault": fault} for fault in faults]


def _check_unknown_keys(body: Mapping[str, Any], message: Mapping[str, WireField]) -> list[FieldError]:
    unknown = [key for key in body if key not in message]
    errors: list[FieldError] = [
        {"field": key, "fault": _describe_unknown_key(key, message)} for key in unknown[:MAX_UNKNOWN_KEYS]
    ]
    if more := len(unknown) - len(errors):
        errors.append({"field": WHOLE_BODY, "fault": f"has {more} more keys that are not of this message"})
    return errors


def check_todo(body: object, message: Mapping[str, WireField]) -> list[FieldError]:
    """Return every error in the body of a create request.

    :param body: the value of the JSON.
    :param message: ``ADD_TASK`` or ``PREDEFINED``.
    :return: all the errors: missing keys, then values, then unknown keys; empty for a body that BzCtrl accepts.
    """
    if not isinstance(body, dict):
        return [{"field": WHOLE_BODY, "fault": f"must be a JSON object, not {_json_type(body)}"}]
    errors: list[FieldError] = [
        {"field": key, "fault": "is mandatory and missing"}
        for key, field in message.items()
        if field.must and key not in body
    ]
    for key, value in body.items():
        if key in message:
            errors.extend(_check_value(key, value, message[key], body.get("todoType")))
    return [*errors, *_check_unknown_keys(body, message)]


def _refuse_constant(name: str) -> NoReturn:
    raise UnreadableBodyError(f"is not JSON: {name} is not a JSON value")


def _check_number_length(digits: str) -> None:
    if len(digits) > MAX_NUMBER_LENGTH:
        raise UnreadableBodyError(
            f"has a number of {len(digits)} characters; at most {MAX_NUMBER_LENGTH} are accepted"
        )


def _read_integer(digits: str) -> int:
    _check_number_length(digits)
    return int(digits)


def _read_float(digits: str) -> float:
    _check_number_length(digits)
    number = float(digits)
    if math.isinf(number):
        raise UnreadableBodyError(f"has a number that is too large: {digits}")
    return number


def _read_object(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    # Of two equal keys, parsers keep the first, the last or neither: a sender must not rely on any of them.
    found = dict(pairs)
    if len(found) < len(pairs):
        counts = Counter(key for key, _ in pairs)
        repeated = [key for key, count in counts.items() if count > 1]
        names = ", ".join(_excerpt(key) for key in repeated[:MAX_UNKNOWN_KEYS])
        more = len(repeated) - MAX_UNKNOWN_KEYS
        raise UnreadableBodyError(
            f"has keys more than once: {names}" + (f" and {more} more" if more > 0 else "")
        )
    return found


def _is_too_deep(value: Any) -> bool:
    """Return whether a value is nested deeper than ``MAX_NESTING``, one level at a time instead of recursively."""
    level = [value]
    for _ in range(MAX_NESTING):
        level = [
            child
            for container in level
            if isinstance(container, list | dict)
            for child in (container.values() if isinstance(container, dict) else container)
        ]
        if not level:
            return False
    return any(isinstance(value, list | dict) for value in level)


def read_json(raw: bytes) -> Any:
    """Return the value of a JSON body.

    :param raw: the body as it was received.
    :raises UnreadableBodyError: if it is not UTF-8, not JSON, has a key twice, a number of more than
        ``MAX_NUMBER_LENGTH`` characters or beyond a double's range, or is nested deeper than ``MAX_NESTING``.
    """
    too_deep = f"is nested deeper than {MAX_NESTING} levels"
    try:
        value = json.loads(
            raw.decode("utf-8"),
            parse_int=_read_integer,
            parse_float=_read_float,
            parse_constant=_refuse_constant,
            object_pairs_hook=_read_object,
        )
    except UnreadableBodyError:
        raise
    except RecursionError as exc:
        raise UnreadableBodyError(too_deep) from exc
    except ValueError as exc:
        raise UnreadableBodyError(f"is not JSON in UTF-8: {exc}") from exc
    # Counting brackets is cheap and enough for almost every body.
    if raw.count(b"[") + raw.count(b"{") > MAX_NESTING and _is_too_deep(value):
        raise UnreadableBodyError(too_deep)
    return value


def read_form(raw: bytes) -> list[tuple[str, str]]:
    """Return the pairs of a form-urlencoded body, in order.

    :param raw: the body as it was received.
    :raises UnreadableBodyError: if it is not ``key=value&key=value``, percent-encoded UTF-8, or has over 100 pairs.
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
        # Neither chained nor quoted: the body most likely holds a password.
        raise UnreadableBodyError("is not key=value&key=value, percent-encoded UTF-8") from None


def check_token_form(pairs: list[tuple[str, str]]) -> list[FieldError]:
    """Return every error in the form of a token request, without quoting its values.

    :param pairs: the pairs of the form.
    :return: all the errors; empty for ``grant_type=password&username=…&password=…``.
    """
    known = ("grant_type", "username", "password")
    counts = Counter(key for key, _ in pairs)
    values = dict(pairs)
    errors: list[FieldError] = [
        {"field": key, "fault": "is missing" if key not in values else "has no value"}
        for key in known
        if not values.get(key)
    ]
    if values.get("grant_type") and values["grant_type"] != "password":
        errors.append(
            {"field": "grant_type", "fault": "must be 'password', the only grant that the documents describe"}
        )
    for key, count in counts.items():
        if key not in known:
            errors.append({"field": key, "fault": f"is not a key of this form; known are {', '.join(known)}"})
        elif count > 1:
            errors.append({"field": key, "fault": "is given more than once"})
    return errors


def is_media_type(content_type: str, expected: str) -> bool:
    """Return whether a Content-Type header names a media type, without a character set or with UTF-8.

    :param content_type: the header's value; empty if there is none.
    :param expected: such as ``application/json``.
    """
    media_type, *parameters = (part.strip().lower() for part in content_type.split(";"))
    charsets = [part.partition("=")[2].strip('"') for part in parameters if part.startswith("charset=")]
    return media_type == expected and all(charset in ("utf-8", "utf8") for charset in charsets)


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
