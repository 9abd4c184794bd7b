from __future__ import annotations

from bzctrl_provider.fields import add_duplicate_note, add_run_link


def test_add_duplicate_note_unanswered_attempts_is_last_line():
    """The note is the last paragraph, with the times of all attempts."""
    noted = add_duplicate_note({"title": "t", "description": "d"}, ["13:00", "14:00"])
    assert noted == {
        "title": "t",
        "description": "d\n\nAttempts at 13:00, 14:00 had no response, so this may be a duplicate.",
    }


URL = "https://airflow.example.com/dags/customs/runs/r"


def test_add_duplicate_note_without_valid_description_changes_nothing():
    """A todo without a description is invalid, and a note must not hide that."""
    for description in (None, "", ["a list"]):
        assert add_duplicate_note({"description": description}, ["13:00"]) == {"description": description}


def test_add_run_link_valid_description_ends_with_the_address():
    """Once, and not where there is no valid description, which must stay an error."""
    for description, noted in [
        ("d", f"d\n\nRun: {URL}"),
        (5, f"5\n\nRun: {URL}"),
        (f"{URL}/tasks/load", f"{URL}/tasks/load\n\nRun: {URL}"),
        *((text, text) for text in (f"see {URL} first", None, " ", True, ["a list"])),
    ]:
        assert add_run_link({"description": description}, URL) == {"description": noted}
        assert add_run_link({"description": description}, None) == {"description": description}
