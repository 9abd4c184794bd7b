"""Invalid fields of an incident: found early if a DAG file has them, and left out if a template makes them.

``client.todo`` has the rules. It is imported only if a literal is not valid at first sight, so that a DAG file with
valid fields is parsed without it.
"""

from __future__ import annotations

import logging
from datetime import timedelta
from typing import TYPE_CHECKING, Any

from bzctrl_provider.exceptions import BzCtrlValidationError
from bzctrl_provider.fields import LEVELS, add_left_out_note, is_missing
from bzctrl_provider.text import FAILURES_MAX, is_email, is_encodable, safe_repr

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

log = logging.getLogger(__name__)

_PAIR = {"domain", "workspace"}
_TEXTS = {"domain_workspace", "title", "description", "category", "sub_category", "order_id", "lrn"}


def check_literals(owner: str, fields: Mapping[str, Any], *, others: Iterable[tuple[str, str]] = ()) -> None:
    """Check the fields that are written in a DAG file and that are no templates.

    :param owner: the name of the class that they were given to.
    :param fields: of a todo, as the user gave them.
    :param others: errors of parameters that are no fields, as names and sentences.
    :raises ValueError: names every invalid one, with its allowed values.
    """
    if errors := [*others, *find_literal_errors(fields)]:
        lines = "".join(f"\n- {name}: {error}" for name, error in errors)
        raise ValueError(f"{owner} cannot raise incidents like this. Fix the following:{lines}")


def find_literal_errors(fields: Mapping[str, Any]) -> list[tuple[str, str]]:
    """Return the names and the errors of fields that are no templates, which are checked when they are rendered."""
    literals = {name: value for name, value in fields.items() if not is_template(value)}
    if any(is_template(fields.get(name)) for name in _PAIR):
        literals = {name: value for name, value in literals.items() if name not in _PAIR}
    return _find_errors(literals)


def find_window_errors(window: object) -> list[tuple[str, str]]:
    """Return the error of a ``dedup_window`` with its name, for a list of errors: it is a timedelta that is not negative, or None."""
    if window is None or (isinstance(window, timedelta) and window >= timedelta()):
        return []
    return [("dedup_window", f"must be a timedelta, such as timedelta(days=1), not {safe_repr(window)}")]


def find_number_errors(
    number: object, name: str = "consecutive_failures", *, least: int = 1, most: int = FAILURES_MAX
) -> list[tuple[str, str]]:
    """Return the error of a number with its name, for a list of errors: it is within its bounds, or None."""
    if number is None or (type(number) is int and least <= number <= most):
        return []
    return [(name, f"must be a whole number from {least} to {most}, not {safe_repr(number)}")]


def leave_out_invalid(fields: Mapping[str, Any]) -> tuple[dict[str, Any], list[str]]:
    """Return the rendered fields of an incident without the invalid ones: the incident is worth more than its field.

    :param fields: of a todo; without a type, or with an invalid one, it is an ``INCIDENT``.
    :return: the fields, in which an invalid one is None, and for each of these a text like ``priority (must be …)``,
        in which Airflow's secrets are masked.
    """
    from airflow.providers.common.compat.sdk import redact

    valid, left_out = dict(fields), {}
    # Leaving out one field can make another one invalid: ``workspace`` without ``domain``, for example.
    while errors := _find_errors({"todo_type": "INCIDENT", **_only_set(valid)}):
        for name, error in errors:
            valid.update(dict.fromkeys(_PAIR if name in _PAIR else [name]))
            left_out[name] = f"{name} ({redact(error)})"
    if left_out:
        log.error("The incident is raised without invalid fields: %s.", ", ".join(left_out.values()))
    return valid, list(left_out.values())


def leave_out_of_format(fields: Mapping[str, Any], message_format: str) -> dict[str, Any]:
    """Return the fields of an incident without those that the message format of its connection does not have, with a note."""
    if message_format != "predefined":
        return dict(fields)
    from bzctrl_provider.client.todo import FIELDS

    # One without a key in either format is part of another field.
    absent = [name for name in _only_set(fields) if FIELDS[name].wire_key and not FIELDS[name].predefined_key]
    if absent:
        log.warning(
            "The incident is raised without %s: %s has no such field.", ", ".join(absent), message_format
        )
    kept = {name: value for name, value in fields.items() if name not in absent}
    why = f"does not exist in the message format {message_format} of the connection"
    return add_left_out_note(kept, [f"{name} ({why})" for name in absent])


def _only_set(fields: Mapping[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in fields.items() if is_given(value)}


def is_given(value: object) -> bool:
    """Return whether a field is set: not to None, to a gap in a table or to blank text."""
    return bool(value.strip()) if isinstance(value, str) else not is_missing(value)


def _find_errors(fields: Mapping[str, Any]) -> list[tuple[str, str]]:
    """Return the names and the errors of fields, also of one that lacks its counterpart, but of nothing else unset."""
    given = _only_set(fields)
    if all(_is_valid_at_first_sight(name, value) for name, value in given.items()):
        return []
    from bzctrl_provider.client.todo import complete_todo

    try:
        complete_todo(given, defaults={})
    except BzCtrlValidationError as exc:
        return [(name, error) for name, error in exc.errors if name in given or name in _PAIR]
    return []


def is_template(value: Any) -> bool:
    """Return whether a value is a template, or has one in a list."""
    if isinstance(value, str):
        return any(mark in value for mark in ("{{", "{%", "{#"))
    if isinstance(value, list | tuple | set):
        return any(map(is_template, value))
    # Airflow resolves it at run time, as it does with the result of a task.
    return hasattr(value, "resolve") or hasattr(value, "template_fields")


def _is_valid_at_first_sight(name: str, value: Any) -> bool:
    """Return whether a value is certainly valid, for the fields that most DAG files have; the rules check the others."""
    if name in ("category", "sub_category") and isinstance(value, list | tuple):
        return all(_is_valid_at_first_sight(name, item) for item in value)
    if not isinstance(value, str) or not is_encodable(value):
        return False
    if name in ("impact", "likelihood", "priority"):
        return value.upper() in LEVELS
    if name in ("assignee", "reporter"):
        return is_email(value.strip())
    # A task must not have the fields of an incident.
    return name in _TEXTS or (name == "todo_type" and value.upper() == "INCIDENT")
