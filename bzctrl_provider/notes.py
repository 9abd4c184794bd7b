"""Last lines of a description, which say what a reader of the todo has to know about how it was created."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence


def add_duplicate_note(fields: Mapping[str, Any], unanswered: Sequence[str]) -> dict[str, Any]:
    """Return the fields with a note in the description that names the attempts without a response.

    :param fields: of a todo. An unset description, or one of an invalid type, stays as it is.
    :param unanswered: the times of the attempts, as text; empty for no note.
    """
    description = fields.get("description")
    if not unanswered or not description or not isinstance(description, str | int | float):
        return dict(fields)
    attempts = "An attempt" if len(unanswered) == 1 else "Attempts"
    return add_note(
        fields, f"{attempts} at {', '.join(unanswered)} had no response, so this may be a duplicate."
    )


def add_run_link(fields: Mapping[str, Any], run_url: str | None) -> dict[str, Any]:
    """Return the fields with the address of the run as the last line of the description.

    :param fields: of a todo. A description that is unset, is of an invalid type or has the address stays as it is.
    :param run_url: the address in Airflow's UI; None for no change.
    """
    description = fields.get("description")
    if not run_url or not isinstance(description, str | int | float) or isinstance(description, bool):
        return dict(fields)
    text = str(description)
    # The address of a task begins with that of its run.
    has_link = re.search(re.escape(run_url) + r"(?![\w/%&?-])", text)
    return add_note(fields, f"Run: {run_url}") if text.strip() and not has_link else dict(fields)


def add_left_out_note(fields: Mapping[str, Any], left_out: Sequence[str]) -> dict[str, Any]:
    """Return the fields with a note in the description that names the fields that were left out.

    :param fields: of a todo.
    :param left_out: each field with its reason, such as ``priority (must be HIGH, MEDIUM or LOW, not 'urgent')``.
    """
    if not left_out:
        return dict(fields)
    return add_note(
        fields, f"Left out, because the template raises or the value is invalid: {', '.join(left_out)}."
    )


def add_note(fields: Mapping[str, Any], note: str) -> dict[str, Any]:
    """Return the fields with one more paragraph at the end of the description."""
    return {**fields, "description": f"{fields.get('description') or ''}\n\n{note}".strip()}
