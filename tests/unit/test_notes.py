from __future__ import annotations

import pytest

from bzctrl_provider.notes import add_duplicate_note, add_run_link


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


URL = "https://airflow.example.com/dags/customs/runs/r"


@pytest.mark.parametrize(
    ("description", "noted"),
    [
        ("d", f"d\n\nRun: {URL}"),
        (5, f"5\n\nRun: {URL}"),
        (f"see {URL} first", f"see {URL} first"),
        (f"{URL}/tasks/load", f"{URL}/tasks/load\n\nRun: {URL}"),
        (None, None),
        (" ", " "),
        (True, True),
        (["a list"], ["a list"]),
    ],
)
def test_add_run_link_valid_description_ends_with_the_address(description, noted):
    """Once, and not where there is no valid description, which must stay an error."""
    assert add_run_link({"description": description}, URL) == {"description": noted}
    assert add_run_link({"description": description}, None) == {"description": description}
