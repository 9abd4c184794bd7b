"""Last lines of a description, which say what a reader of the todo has to know about how it was created."""

from __future__ import annotations

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
    return _add(fields, f"{attempts} at {', '.join(unanswered)} had no response, so this may be a duplicate.")


def add_left_out_note(fields: Mapping[str, Any], left_out: Sequence[str]) -> dict[str, Any]:
    """Return the fields with a note in the description that names the fields that were left out.

    :param fields: of a todo.
    :param left_out: each field with its reason, such as ``priority (must be HIGH, MEDIUM or LOW, not 'urgent')``.
    """
    return (
        _add(fields, f"Left out, because the value is invalid: {', '.join(left_out)}.")
        if left_out
        else dict(fields)
    )


def _add(fields: Mapping[str, Any], note: str) -> dict[str, Any]:
    return {**fields, "description": f"{fields.get('description') or ''}\n\n{note}".strip()}
