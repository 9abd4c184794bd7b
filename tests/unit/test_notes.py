from __future__ import annotations

import pytest

from bzctrl_provider.notes import add_duplicate_note


def test_add_duplicate_note_unanswered_attempts_is_last_line():
    """The note is the last paragraph, with the times of all attempts."""
    noted = add_duplicate_note({"title": "t", "description": "d"}, ["13:00", "14:00"])
    assert noted == {
        "title": "t",
        "description": "d\n\nAttempts at 13:00, 14:00 had no response, so this may be a duplicate.",
    }


@pytest.mark.parametrize("description", [None, "", ["a list"]])
def test_add_duplicate_note_without_valid_description_changes_nothing(description):
    """A todo without a description is invalid, and a note must not hide that."""
    fields = {"description": description}
    assert add_duplicate_note(fields, ["13:00"]) == fields
