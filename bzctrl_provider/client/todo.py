"""Check the fields of a todo, and write its message.

The fields, their spellings and the two message formats come from the two BzCtrl documents; ``docs/contract.md``
reconciles them statement by statement.
"""

# ruff: noqa: RUF009 - `_row` makes a field of a dataclass, not a default that all todos share

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import InitVar, dataclass, field, fields
from datetime import date, datetime
from decimal import Decimal, InvalidOperation
from numbers import Number
from typing import TYPE_CHECKING, Any, NamedTuple

from bzctrl_provider.exceptions import BzCtrlValidationError
from bzctrl_provider.fields import LEVELS, is_missing
from bzctrl_provider.text import (
    DIGITS_MAX,
    LIST_ITEMS,
    NAME_CHARS,
    is_email,
    is_encodable,
    one_line,
    safe_repr,
    suggest,
)

if TYPE_CHECKING:
    from bzctrl_provider.client.config import BzCtrlConfig, MessageFormat
    from bzctrl_provider.fields import Text

Message = dict[str, str | list[str]]
Errors = list[tuple[str, str]]

TODO_TYPES = ("INCIDENT", "TASK")
STATES = ("IN PROGRESS", "TODO", "DONE", "EXPIRED")
"""The values of ``status``, the default first. BzCtrl sets the due date by itself when a todo is DONE."""


class _WrongValueError(ValueError):
    """An invalid value, with what is allowed."""

    def __init__(self, allowed: str, value: object) -> None:
        super().__init__(f"must be {allowed}, not {safe_repr(value)}")


def _digits(number: object) -> str:
    """Write a number, or the text of one, as people do: without an exponent."""
    # By way of text, because Decimal does not know numpy's numbers; it refuses the text of a fraction.
    plain = Decimal(str(number))
    if not plain.is_finite() or abs(plain.adjusted()) >= DIGITS_MAX:
        raise InvalidOperation
    return f"{plain:f}"


def _text(value: object) -> str | None:
    """Take any text; a number as its digits, such as 725462 or, in a column with gaps, 725462.0."""
    if is_missing(value):
        return None
    if isinstance(value, date):
        return value.isoformat()
    if isinstance(value, bool) or not isinstance(value, str | Number):
        raise _WrongValueError("text", value)
    text = value.strip() if isinstance(value, str) else _number(value)
    if not is_encodable(text):
        raise _WrongValueError("text that UTF-8 can hold, without half surrogate pairs", value)
    return text or None


def _number(value: Number) -> str:
    try:
        digits = _digits(value)
    except (InvalidOperation, ValueError):
        raise _WrongValueError(f"text, or a number of at most {DIGITS_MAX} digits", value) from None
    # 5.0 is how a float writes 5. The zeros of a Decimal are the user's own.
    return digits if isinstance(value, Decimal) else digits.removesuffix(".0")


def _line(value: object) -> str | None:
    text = _text(value)
    return text and " ".join(line.strip() for line in text.splitlines() if line.strip())


def _email(value: object) -> str | None:
    text = _text(value)
    if text and not is_email(text):
        raise _WrongValueError("one e-mail address such as user@example.com", value)
    return text


def _texts(value: object) -> tuple[str, ...]:
    if is_missing(value) or isinstance(value, str | Number):
        value = [value]
    if not isinstance(value, Sequence) or isinstance(value, bytes | bytearray):
        raise _WrongValueError("a list of texts", value)
    return tuple(text for text in map(_text, value) if text)


def _euros(value: object) -> str | None:
    with suppress(InvalidOperation, ValueError):
        text = _text(value)
        if text is None:
            return None
        text = re.sub(r"^-(?=[0.]+$)", "", text)  # -0.0 is what a sum or a rounding of floats makes of 0
        # An exponent is accepted, because that is how Jinja renders a large float, and written out.
        if re.fullmatch(r"(\d+\.?\d*|\.\d+)(e[+-]?\d{1,3})?", text, re.ASCII | re.IGNORECASE):
            return _digits(text)
    allowed = "an amount in EUR of digits with an optional decimal point such as 1234.5, without sign, currency or separators"
    raise _WrongValueError(allowed, value)


def _day(value: object) -> date | None:
    # A datetime is a date, and so is NaT.
    if isinstance(value, date) and not is_missing(value):
        return date(value.year, value.month, value.day)
    text = _text(value)
    try:
        return datetime.fromisoformat(text).date() if text else None
    except ValueError:
        raise _WrongValueError("a date as YYYY-MM-DD", value) from None


def _one_of(choices: Sequence[str]) -> Callable[[object], str | None]:
    def letters(text: str) -> str:
        return "".join(text.split()).replace("_", "").replace("-", "").upper()

    by_letters = {"": None, **{letters(choice): choice for choice in choices}}
    *others, last = choices

    def check(value: object) -> str | None:
        if is_missing(value):
            return None
        spelled = letters(value) if isinstance(value, str) else None
        if spelled not in by_letters:
            raise _WrongValueError(f"{', '.join(others)} or {last}", value)
        return by_letters[spelled]

    return check


class Field(NamedTuple):
    """A field of a todo.

    :param rule: checks a value and returns it as it is kept.
    :param wire_key: its key in the message format ``add-task``; None if it is part of another field.
    :param predefined_key: its key in the message format ``predefined``; None if that format does not have the field.
        There is no default, so that no field can be forgotten.
    :param only_for: the type of todo that it belongs to; None for both.
    :param mandatory: the value to give, if a todo cannot be sent without it.
    """

    rule: Callable[[object], Any]
    wire_key: str | None
    predefined_key: str | None
    only_for: str | None = None
    mandatory: str | None = None


_TYPE = "INCIDENT or TASK"
_WORKSPACE = "the domain workspace, such as EXA-CON-BUS-WOR, here or in the connection"
_REPORTER = "an e-mail address, here or in the connection"
_GENERATED_TEXT = "text (operators and the notifier write it themselves if something failed, and only then)"


def _row(known: Field, default: object = None) -> Any:
    """Return an attribute of ``Todo`` with all that is known of the field."""
    return field(default=default, metadata={"known": known})


@dataclass(frozen=True, kw_only=True)
class Todo:
    """An incident or a task, checked when it is made.

    A field that is None, blank, an empty list, or a gap in a table (NaN, NaT, NA) is unset. The fields that the connection can
    supply (``domain_workspace``, ``reporter``, ``assignee``) may be left out here; a todo must be complete when it is sent.

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
    :param assignee: an e-mail address; default: the connection's assignee, otherwise the reporter.
    :param reporter: an e-mail address; default: the connection's.
    :param category: a list of texts, or one text.
    :param sub_category: a list of texts, or one text.
    :param order_id: text; BzCtrl makes it a tag.
    :param lrn: text, a Local Reference Number; BzCtrl makes it a tag.
    :param reminder_date: a date, a datetime or ISO 8601 text; a time of day is dropped.
    :param domain: with ``workspace``, instead of ``domain_workspace``: the two joined by ``-``, or only the
        domain if it ends in the workspace already.
    :param workspace: see ``domain``.
    :raises BzCtrlValidationError: names every error at once.
    """

    todo_type: str | None = _row(Field(_one_of(TODO_TYPES), "todoType", "todoType", mandatory=_TYPE))
    domain_workspace: Text = _row(Field(_text, "domainWorkSpace", "domain", mandatory=_WORKSPACE))
    # Together they are domain_workspace.
    domain: InitVar[Text] = _row(Field(_text, None, None))
    workspace: InitVar[Text] = _row(Field(_text, None, None))
    title: Text = _row(Field(_line, "title", "title", mandatory=_GENERATED_TEXT))
    description: Text = _row(Field(_text, "description", "description", mandatory=_GENERATED_TEXT))
    result: Text = _row(Field(_text, "result", "result", "TASK"))
    financial_impact: Text = _row(Field(_euros, "financialImpact", "financialImpact", "INCIDENT"))
    impact: str | None = _row(Field(_one_of(LEVELS), "impact", "impact", "INCIDENT"))
    likelihood: str | None = _row(Field(_one_of(LEVELS), "likelihood", "likelihood", "INCIDENT"))
    # Status and assignee have defaults when a todo is sent.
    status: str | None = _row(Field(_one_of(STATES), "status", "status"), default=STATES[0])
    priority: str | None = _row(Field(_one_of(LEVELS), "priority", "priority"))
    assignee: str | None = _row(Field(_email, "assignee", "assignee"))
    reporter: str | None = _row(Field(_email, "reporter", "reporter", mandatory=_REPORTER))
    category: Sequence[Text] | Text = _row(Field(_texts, "category", "category"), default=())
    sub_category: Sequence[Text] | Text = _row(Field(_texts, "subCategory", None), default=())
    order_id: Text = _row(Field(_text, "orderID", "orderID", mandatory="text, such as the id of the run"))
    lrn: Text = _row(Field(_text, "lrn", "LRN"))
    reminder_date: date | str | None = _row(Field(_day, "reminderDate", "reminderDate"))

    def __post_init__(self, domain: Text, workspace: Text) -> None:
        checked, errors = _checked({**vars(self), "domain": domain, "workspace": workspace})
        if errors:
            raise _invalid(errors)
        for name, value in checked.items():
            object.__setattr__(self, name, value)


FIELDS: Mapping[str, Field] = {name: row.metadata["known"] for name, row in Todo.__dataclass_fields__.items()}
"""Every field of a todo, by the name that users write. Not by ``fields()``, which has no ``InitVar``."""


def complete_todo(
    todo: AnyTodo, /, *, defaults: Mapping[str, Any], message_format: MessageFormat = "add-task"
) -> Todo:
    """Fill what is unset with the connection's defaults, and make sure that the todo can be sent.

    :param todo: a ``Todo``, or a mapping of its fields.
    :param defaults: values for unset fields; None and blank ones are ignored.
    :param message_format: ``predefined`` has no ``sub_category``.
    :raises BzCtrlValidationError: names every error at once: of the values, between the fields, fields that do
        not exist, and those that are missing.
    """
    values, errors = (dict(vars(todo)), []) if isinstance(todo, Todo) else _checked(todo)
    faulty = {name for name, _ in errors}
    unset = {name: value for name, value in defaults.items() if not (values.get(name) or name in faulty)}
    values |= _checked(unset)[0]
    values["status"] = values.get("status") or STATES[0]
    values["assignee"] = values.get("assignee") or values.get("reporter")
    errors += _find_unsendable(values, faulty, message_format)
    if errors:
        raise _invalid(errors)
    complete = object.__new__(Todo)  # not by its constructor, which would check all of it again
    vars(complete).update({own.name: own.default for own in fields(Todo)} | values)
    return complete


def _find_unsendable(
    values: Mapping[str, Any], faulty: set[str], message_format: MessageFormat
) -> Iterator[tuple[str, str]]:
    """Yield the fields that the message format does not have, and the mandatory ones that are missing."""
    # A domain that is invalid is one, so domain_workspace is not missing as well.
    given = {*faulty, "domain_workspace"} if faulty & {"domain", "workspace"} else faulty
    absent = f"does not exist in the message format {message_format!r} of this connection: leave it out"
    for name, known in FIELDS.items():
        if values.get(name) and _wire_key(known, message_format) is None:
            yield name, absent
        if known.mandatory and not values.get(name) and name not in given:
            yield name, f"is mandatory: give {known.mandatory}"


def _wire_key(known: Field, message_format: MessageFormat) -> str | None:
    return known.predefined_key if message_format == "predefined" else known.wire_key


def _invalid(errors: Errors) -> BzCtrlValidationError:
    return BzCtrlValidationError("The todo was not sent. Fix the following:", errors)


def _checked(values: object) -> tuple[dict[str, Any], Errors]:
    """Check each field and then the rules between fields; return the values and all errors."""
    if not isinstance(values, Mapping):
        raise _invalid([("todo", f"must be a Todo or a mapping of its fields, not {safe_repr(values)}")])
    checked: dict[str, Any] = {}
    errors: Errors = []
    for name in filter(FIELDS.__contains__, values):
        try:
            checked[name] = FIELDS[name].rule(values[name])
        except _WrongValueError as exc:
            errors.append((name, str(exc)))
        except Exception as exc:  # noqa: BLE001 - an object of the user's own may raise anything when it is read
            # Only the type: the message of somebody's object may hold a secret.
            kind = one_line(type(exc).__name__, max_chars=NAME_CHARS)
            errors.append((name, f"cannot be read: it raised {kind}"))
    errors += _join_domain(checked, {name for name, _ in errors})
    errors += _of_other_type(checked)
    errors += _unknown_fields([name for name in values if name not in FIELDS])
    return checked, errors


def _of_other_type(checked: Mapping[str, Any]) -> Errors:
    todo_type = checked.get("todo_type")
    return [
        (name, f"belongs to {known.only_for} only, not to {todo_type}: leave it out")
        for name, known in FIELDS.items()
        if todo_type and checked.get(name) and known.only_for not in (None, todo_type)
    ]


def _join_domain(checked: dict[str, Any], faulty: set[str]) -> Errors:
    """Replace domain and workspace by domain_workspace; return the errors between the three."""
    domain, workspace = checked.pop("domain", None), checked.pop("workspace", None)
    if domain and workspace:
        joined = domain if domain.endswith(f"-{workspace}") else f"{domain}-{workspace}"
        checked["domain_workspace"] = checked.get("domain_workspace") or joined
        if checked["domain_workspace"] != joined:
            return [("domain_workspace", f"contradicts domain and workspace, which make {safe_repr(joined)}")]
    elif domain or workspace:
        there, absent = ("domain", "workspace") if domain else ("workspace", "domain")
        if absent not in faulty:
            return [(absent, f"goes together with {there}: give both, or only domain_workspace")]
    return []


def _unknown_fields(names: Sequence[object]) -> Iterator[tuple[str, str]]:
    for name in names[:LIST_ITEMS]:
        shown = one_line(name, max_chars=NAME_CHARS) if isinstance(name, str) else safe_repr(name)
        yield shown, f"is no field of a todo: {suggest(shown, FIELDS)}"
    if len(names) > LIST_ITEMS:
        yield "and", f"{len(names) - LIST_ITEMS} more fields that do not exist"


def build_message(todo: Todo, config: BzCtrlConfig) -> Message:
    """Write a complete todo as the JSON object that goes over the wire; unset fields are left out.

    :param config: has the message format and the spelling of the status.
    :return: for example ``{"todoType": "INCIDENT", "domainWorkSpace": "EXA-CON-BUS-WOR", …}``.
    """
    is_predefined = config.message_format == "predefined"
    message: Message = {}
    for name, known in FIELDS.items():
        key, value = _wire_key(known, config.message_format), getattr(todo, name, None)
        if not key or not value:
            continue
        if isinstance(value, tuple):
            message[key] = ", ".join(value) if is_predefined else list(value)
        else:
            is_in_progress = name == "status" and value == STATES[0]
            message[key] = config.in_progress_spelling if is_in_progress else str(value)
        if is_predefined and name == "domain_workspace":
            # The sample of the earlier document repeats the workspace in the domain.
            message["workspace"] = value.rpartition("-")[2]
    return message


def too_large(message: Message, *, max_bytes: int) -> BzCtrlValidationError:
    """Make the error that names the field that makes a message too large to be sent."""
    sizes = {key: len(json.dumps(value, ensure_ascii=False).encode()) for key, value in message.items()}
    largest = max(sizes, key=sizes.__getitem__)
    name = next(name for name, known in FIELDS.items() if largest in (known.wire_key, known.predefined_key))
    problem = f"has {sizes[largest]:,} bytes, and a whole todo may have {max_bytes:,}: shorten it"
    return _invalid([(name, problem)])


AnyTodo = Todo | Mapping[str, Any]
"""A todo, or a mapping of its fields."""


class CreatedTodo(NamedTuple):
    """A created todo."""

    key: str | None
    """The todo's key, such as ``EXA-CON-BUS-WOR-03``; None if the response had no usable link."""
    link: str | None
    """The address of its page; None if the response had no usable link."""
    title: str
    """Its title, as BzCtrl returned it."""
    todo_type: str
    """``INCIDENT`` or ``TASK``."""
    description: str
    """Its description, as BzCtrl returned it."""
    tags: list[str]
    """Its tags: the order id, and the LRN if there is one."""

    def as_dict(self) -> dict[str, Any]:
        """Return all of it as plain JSON, as it goes into an XCom."""
        return {**self._asdict(), "tags": list(self.tags)}
