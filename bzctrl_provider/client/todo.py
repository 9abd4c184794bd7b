"""What a todo is, and how it looks on the wire.

The fields, their spellings and the two message formats come from the two BzCtrl documents; ``docs/contract.md``
reconciles them statement by statement.
"""

from __future__ import annotations

import difflib
import json
import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import InitVar, asdict, dataclass, field, fields
from datetime import date, datetime
from decimal import Decimal, InvalidOperation
from enum import StrEnum
from numbers import Integral, Number
from typing import TYPE_CHECKING, Any, Literal, TypeVar

from bzctrl_provider.exceptions import BzCtrlValidationError
from bzctrl_provider.text import one_line, safe_repr

if TYPE_CHECKING:
    from bzctrl_provider.fields import Text

MessageFormat = Literal["add-task", "predefined"]
InProgressSpelling = Literal["IN PROGRESS", "INPROGRESS"]

_UNKNOWN_SHOWN = 20

_DIGITS_MAX = 400
"""Every float can be written out with fewer; ``1e999999999`` would fill the memory."""


class TodoType(StrEnum):
    """What is created."""

    INCIDENT = "INCIDENT"
    TASK = "TASK"


class Level(StrEnum):
    """How much, of impact, likelihood or priority."""

    HIGH = "HIGH"
    MEDIUM = "MEDIUM"
    LOW = "LOW"


class Status(StrEnum):
    """Where a todo stands. BzCtrl sets the due date by itself when it is DONE."""

    IN_PROGRESS = "IN PROGRESS"
    TODO = "TODO"
    DONE = "DONE"
    EXPIRED = "EXPIRED"


class _WrongValueError(ValueError):
    """What is allowed in a field, and what was found in it."""

    def __init__(self, allowed: str, value: object) -> None:
        super().__init__(f"must be {allowed}, not {safe_repr(value)}")


def _plain(number: Decimal) -> str:
    """Write a number as people do, without an exponent."""
    if not number.is_finite() or max(len(number.as_tuple().digits), abs(number.adjusted())) > _DIGITS_MAX:
        raise InvalidOperation
    return f"{number:f}"


def _digits(value: Number) -> str:
    # Decimal knows neither numpy's numbers nor fractions; by way of text it takes the former and refuses the latter.
    return str(value) if isinstance(value, Integral) else _plain(Decimal(str(value)))


def _text(value: object) -> str | None:
    """Take any text; a number as its digits, since native rendering turns the text ``725462`` into one."""
    if value is None:
        return None
    if not isinstance(value, str):
        return _text_of_other(value)
    text = str(value).strip()
    try:
        text.encode()
    except UnicodeEncodeError:
        raise _WrongValueError("text that UTF-8 can hold, without half surrogate pairs", value) from None
    return text or None


def _text_of_other(value: object) -> str:
    if isinstance(value, bool):
        raise _WrongValueError("text", value)
    if isinstance(value, Number):
        try:
            return _digits(value)
        except (InvalidOperation, ValueError):
            raise _WrongValueError(f"text, or a number of at most {_DIGITS_MAX} digits", value) from None
    if isinstance(value, date):
        return value.isoformat()
    raise _WrongValueError("text", value)


def _line(value: object) -> str | None:
    text = _text(value)
    return text and " ".join(line.strip() for line in text.splitlines() if line.strip())


def _email(value: object) -> str | None:
    text = _text(value)
    if text and not re.fullmatch(r"[^@\s<>,;]+@[^@\s<>,;]+", text):
        raise _WrongValueError("one e-mail address such as user@example.com", value)
    return text


def _texts(value: object) -> tuple[str, ...]:
    if value is None or isinstance(value, str | Number):
        value = [value]
    if not isinstance(value, Sequence) or isinstance(value, bytes | bytearray):
        raise _WrongValueError("a list of texts", value)
    return tuple(text for text in map(_text, value) if text)


def _euros(value: object) -> str | None:
    allowed = (
        "an amount in EUR of digits with an optional decimal point such as 1234.5, "
        "without sign, currency or separators"
    )
    try:
        # Not `_text` for numbers: its message speaks of text.
        text = _digits(value) if isinstance(value, Number) else _text(value)
        if text is None:
            return None
        # An exponent is accepted, because that is how Jinja renders a large float, and written out.
        if not re.fullmatch(r"(\d+\.?\d*|\.\d+)(e[+-]?\d{1,3})?", text, re.ASCII | re.IGNORECASE):
            raise _WrongValueError(allowed, value)
        plain = _plain(Decimal(text))
    except (InvalidOperation, ValueError):
        raise _WrongValueError(allowed, value) from None
    # 5.0 is how a float writes 5. The zeros of a Decimal or a text were meant.
    return plain.removesuffix(".0") if isinstance(value, float) else plain


def _day(value: object) -> date | None:
    if isinstance(value, date):  # a datetime is one, too
        return date(value.year, value.month, value.day)
    text = _text(value)
    try:
        return datetime.fromisoformat(text).date() if text else None
    except ValueError:
        raise _WrongValueError("a date as YYYY-MM-DD", value) from None


_Choice = TypeVar("_Choice", bound=StrEnum)


def _one_of(choices: type[_Choice]) -> Callable[[object], _Choice | None]:
    def letters(text: str) -> str:
        return re.sub(r"[\s_-]", "", text).upper()

    by_letters = {letters(choice): choice for choice in choices}
    *others, last = choices

    def check(value: object) -> _Choice | None:
        if value is None:
            return None
        spelled = letters(value) if isinstance(value, str) else None
        if spelled == "":
            return None
        if spelled not in by_letters:
            raise _WrongValueError(f"{', '.join(others)} or {last}", value)
        return by_letters[spelled]

    return check


_RULES: Mapping[str, Callable[[object], Any]] = {
    "todo_type": _one_of(TodoType),
    "domain_workspace": _text,
    "domain": _text,
    "workspace": _text,
    "title": _line,
    "description": _text,
    "result": _text,
    "financial_impact": _euros,
    "impact": _one_of(Level),
    "likelihood": _one_of(Level),
    "status": _one_of(Status),
    "priority": _one_of(Level),
    "assignee": _email,
    "reporter": _email,
    "category": _texts,
    "sub_category": _texts,
    "order_id": _text,
    "lrn": _text,
    "reminder_date": _day,
}

_TYPE_SPECIFIC = {
    "result": TodoType.TASK,
    "financial_impact": TodoType.INCIDENT,
    "impact": TodoType.INCIDENT,
    "likelihood": TodoType.INCIDENT,
}

_GENERATED_TEXT = (
    "text (operators and the notifier write it themselves where something failed, and only there)"
)

_MANDATORY = {
    "todo_type": "INCIDENT or TASK",
    "domain_workspace": "the domain workspace, such as EXA-CON-BUS-WOR, here or in the connection",
    "title": _GENERATED_TEXT,
    "description": _GENERATED_TEXT,
    "reporter": "an e-mail address, here or in the connection",
    "order_id": "text, such as the id of the run",
}
"""What a todo cannot be sent without, and what would do. Status and assignee have defaults."""


@dataclass(frozen=True, kw_only=True)
class Todo:
    """An incident or a task, checked when it is made.

    A field that is None, blank or an empty list is unset. What the connection can supply (``domain_workspace``,
    ``reporter``, ``assignee``) may be left out here; whether a todo is complete is checked when it is sent.

    :param todo_type: ``INCIDENT`` or ``TASK``. This and the other fixed values may be written in any case and
        with a space, ``_`` or ``-`` between the words.
    :param domain_workspace: where it belongs, such as ``EXA-CON-BUS-WOR``.
    :param title: text; line breaks become spaces.
    :param description: text.
    :param result: text; tasks only.
    :param financial_impact: an amount in EUR: a number, or digits with an optional decimal point; incidents only.
    :param impact: ``HIGH``, ``MEDIUM`` or ``LOW``; incidents only.
    :param likelihood: ``HIGH``, ``MEDIUM`` or ``LOW``; incidents only.
    :param status: ``IN PROGRESS`` (default), ``TODO``, ``DONE`` or ``EXPIRED``.
    :param priority: ``HIGH``, ``MEDIUM`` or ``LOW``.
    :param assignee: an e-mail address; default: the connection's assignee, else the reporter.
    :param reporter: an e-mail address; default: the connection's.
    :param category: a list of texts, or one text.
    :param sub_category: a list of texts, or one text.
    :param order_id: text; BzCtrl makes it a tag.
    :param lrn: text, a Local Reference Number; BzCtrl makes it a tag.
    :param reminder_date: a date, a datetime or ISO 8601 text; a time of day is dropped.
    :param domain: with ``workspace``, instead of ``domain_workspace``: the two joined by ``-``, or the domain
        alone where it ends in the workspace already.
    :param workspace: see ``domain``.
    :raises BzCtrlValidationError: names every fault at once.
    """

    todo_type: str | None = None
    domain_workspace: Text = None
    title: Text = None
    description: Text = None
    result: Text = None
    financial_impact: Text = None
    impact: str | None = None
    likelihood: str | None = None
    status: str | None = Status.IN_PROGRESS
    priority: str | None = None
    assignee: str | None = None
    reporter: str | None = None
    category: Sequence[Text] | Text = ()
    sub_category: Sequence[Text] | Text = ()
    order_id: Text = None
    lrn: Text = None
    reminder_date: date | str | None = None
    domain: InitVar[Text] = None
    workspace: InitVar[Text] = None

    def __post_init__(self, domain: Text, workspace: Text) -> None:
        values = {own.name: getattr(self, own.name) for own in fields(self)}
        checked, faults = _checked(values | {"domain": domain, "workspace": workspace})
        if faults:
            raise _invalid(faults)
        for name, value in checked.items():
            object.__setattr__(self, name, value)


_UNSET: dict[str, Any] = {own.name: own.default for own in fields(Todo)}


def _of_checked(values: dict[str, Any]) -> Todo:
    todo = object.__new__(Todo)
    # Not by its constructor, which would check each of them again.
    vars(todo).update(_UNSET | values)
    return todo


def complete_todo(
    todo: Todo | Mapping[str, Any],
    /,
    *,
    defaults: Mapping[str, Any],
    message_format: MessageFormat = "add-task",
) -> Todo:
    """Fill what is unset with the connection's defaults, and make sure that the todo can be sent.

    :param todo: a ``Todo``, or a mapping of its fields.
    :param defaults: values for unset fields; None and blank ones are ignored.
    :param message_format: ``predefined`` has no ``sub_category``.
    :raises BzCtrlValidationError: names every fault at once: of the values, between the fields, fields that do
        not exist, and those that are missing.
    """
    if not isinstance(todo, Todo | Mapping):
        raise _invalid([("todo", f"must be a Todo or a mapping of its fields, not {safe_repr(todo)}")])
    unknown: list[tuple[str, str]] = []
    faults: list[tuple[str, str]] = []
    if isinstance(todo, Todo):
        values = dict(vars(todo))  # checked when it was made
    else:
        try:
            values = dict(todo)
        except Exception as exc:  # noqa: BLE001 - see _checked
            raise _invalid([("todo", _unreadable(exc))]) from None
        unknown = _unknown_fields([name for name in values if name not in _RULES])
        values, faults = _checked({name: value for name, value in values.items() if name in _RULES})
    faulty = {name for name, _ in faults}
    unset = {name: value for name, value in defaults.items() if not values.get(name) and name not in faulty}
    values |= _checked(unset)[0]
    values["status"] = values.get("status") or Status.IN_PROGRESS
    values["assignee"] = values.get("assignee") or values.get("reporter")
    if faulty & {"domain", "workspace"}:
        faulty.add("domain_workspace")
    missing = [
        (name, f"is mandatory: give {what}")
        for name, what in _MANDATORY.items()
        if not values.get(name) and name not in faulty
    ]
    if message_format == "predefined" and values.get("sub_category"):
        faults.append(
            ("sub_category", "does not exist in the message format 'predefined' of this connection")
        )
    if faults or unknown or missing:
        raise _invalid([*faults, *unknown, *missing])
    return _of_checked(values)


def _invalid(faults: Iterable[tuple[str, str]]) -> BzCtrlValidationError:
    return BzCtrlValidationError("The todo was not sent. Please mend:", faults)


def _checked(values: Mapping[str, Any]) -> tuple[dict[str, Any], list[tuple[str, str]]]:
    """Check each field and then what stands between them; return the values and all faults."""
    checked: dict[str, Any] = {}
    faults: list[tuple[str, str]] = []
    for name, value in values.items():
        try:
            checked[name] = _RULES[name](value)
        except _WrongValueError as exc:
            faults.append((name, str(exc)))
        except Exception as exc:  # noqa: BLE001 - an object of the user's own may raise anything when it is read
            faults.append((name, _unreadable(exc)))
    domain, workspace = checked.pop("domain", None), checked.pop("workspace", None)
    if domain and workspace:
        joined = domain if domain.endswith(f"-{workspace}") else f"{domain}-{workspace}"
        if checked.get("domain_workspace") not in (None, joined):
            faults.append(("domain_workspace", f"contradicts domain and workspace, which make {joined}"))
        checked["domain_workspace"] = joined
    elif domain or workspace:
        there, absent = ("domain", "workspace") if domain else ("workspace", "domain")
        if absent not in dict(faults):
            faults.append((absent, f"goes together with {there}: give both, or domain_workspace alone"))
    for name, only in _TYPE_SPECIFIC.items():
        if checked.get(name) and checked.get("todo_type") not in (None, only):
            faults.append((name, f"belongs to {only} only, not to {checked['todo_type']}: leave it out"))
    return checked, faults


def _unreadable(exc: Exception) -> str:
    # The type alone: what the error of somebody's object says may be a secret.
    return f"cannot be read: it raised {one_line(type(exc).__name__, max_chars=80)}"


def _unknown_fields(names: Sequence[object]) -> list[tuple[str, str]]:
    faults = [
        (name if isinstance(name, str) and _is_name(name) else safe_repr(name), _unknown(name))
        for name in names[:_UNKNOWN_SHOWN]
    ]
    if len(names) > _UNKNOWN_SHOWN:
        faults.append(("and", f"{len(names) - _UNKNOWN_SHOWN} more fields that do not exist"))
    return faults


def _is_name(text: str) -> bool:
    return len(text) <= 80 and text.isprintable()  # noqa: PLR2004 - what `shown` shows of a value


def _unknown(name: object) -> str:
    snake = re.sub(r"(?<=[a-z])(?=[A-Z])", "_", name[:80]).lower() if isinstance(name, str) else ""
    close = difflib.get_close_matches(snake, _RULES, n=1)
    return "is no field of a todo: " + (
        f"did you mean {close[0]}?" if close else f"there are {', '.join(_RULES)}"
    )


_WIRE_KEYS = {
    "todo_type": "todoType",
    "domain_workspace": "domainWorkSpace",
    "title": "title",
    "description": "description",
    "result": "result",
    "financial_impact": "financialImpact",
    "impact": "impact",
    "likelihood": "likelihood",
    "status": "status",
    "priority": "priority",
    "assignee": "assignee",
    "reporter": "reporter",
    "category": "category",
    "sub_category": "subCategory",
    "order_id": "orderID",
    "lrn": "lrn",
    "reminder_date": "reminderDate",
}


def build_message(
    todo: Todo,
    /,
    *,
    message_format: MessageFormat = "add-task",
    in_progress_spelling: InProgressSpelling = "IN PROGRESS",
) -> dict[str, str | list[str]]:
    """Write a complete todo as the JSON object that goes over the wire; unset fields are left out.

    :param message_format: ``add-task``, of the later of the two documents, or ``predefined``, of the earlier one.
    :param in_progress_spelling: how the status is spelled, on which the vendor's documents differ.
    :return: for example ``{"todoType": "INCIDENT", "domainWorkSpace": "EXA-CON-BUS-WOR", …}``.
    """
    message: dict[str, str | list[str]] = {}
    for name, key in _WIRE_KEYS.items():
        value = getattr(todo, name)
        if isinstance(value, tuple):
            value = list(value)
        elif isinstance(value, date):
            value = value.isoformat()
        elif value is Status.IN_PROGRESS:
            value = in_progress_spelling
        if value:
            message[key] = value if isinstance(value, list) else str(value)
    return _predefined(message) if message_format == "predefined" else message


def too_large(message: Mapping[str, str | list[str]], *, max_bytes: int) -> BzCtrlValidationError:
    """Say which field makes a message too large to be sent."""
    sizes = {key: len(json.dumps(value, ensure_ascii=False).encode()) for key, value in message.items()}
    largest = max(sizes, key=sizes.__getitem__)
    name = next((name for name, key in _WIRE_KEYS.items() if key == largest), largest.lower())
    problem = f"has {sizes[largest]:,} bytes, and a whole todo may have {max_bytes:,}: shorten it"
    return _invalid([(name, problem)])


def _predefined(message: Mapping[str, str | list[str]]) -> dict[str, str | list[str]]:
    """Put the message into the earlier document's shape, whose sample repeats the workspace in the domain."""
    changed: dict[str, str | list[str]] = {}
    for key, value in message.items():
        if key == "domainWorkSpace":
            changed |= {"domain": value, "workspace": str(value).rpartition("-")[2]}
        elif key == "category":
            changed[key] = ", ".join(value)
        else:
            changed["LRN" if key == "lrn" else key] = value
    return changed


@dataclass(frozen=True, kw_only=True)
class CreatedTodo:
    """What BzCtrl created.

    :param key: the todo's key, such as ``EXA-CON-BUS-WOR-03``; None where the answer had no usable link.
    :param link: the address of its page; None where the answer had no usable link.
    :param title: its title, as BzCtrl answered it.
    :param todo_type: ``INCIDENT`` or ``TASK``.
    :param description: its description, as BzCtrl answered it.
    :param tags: its tags: the order id, and the LRN where there is one.
    """

    key: str | None
    link: str | None
    title: str
    todo_type: str
    description: str
    tags: list[str] = field(default_factory=list)

    def as_dict(self) -> dict[str, Any]:
        """Return all of it as plain JSON, as it goes into an XCom."""
        return asdict(self)
