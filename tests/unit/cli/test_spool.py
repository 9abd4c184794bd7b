from __future__ import annotations

from datetime import UTC, datetime, timedelta

import pytest
from support.bzctrl import ACC, KEY, LINK, sent_todos

from bzctrl_provider.cli.findings import format_age
from bzctrl_provider.spool import spool_todo
from bzctrl_provider.spool.folder import Folder

FIELDS = {"todo_type": "INCIDENT", "description": "D", "order_id": "1", "reporter": "r@example.com"}


def spool(*titles, conn_id="bzctrl_default", reason="down", **changes):
    now = datetime.now(UTC)
    for age, title in enumerate(titles):
        fields = {**FIELDS, "title": title, **changes}
        spool_todo(
            fields,
            bzctrl_conn_id=conn_id,
            reason=reason,
            now=now - timedelta(minutes=age + 1),
            identity=f"e{age}",
        )


def test_list_prints_the_oldest_first_and_one_line_each(folder, run_command):
    """A line has state, file, age, connection, title and reason."""
    spool("first", "second")
    before = sorted(folder.iterdir())
    code, text = run_command("spool", "list")
    assert code == 0
    assert text.splitlines() == [
        "waiting   e1.json   2 min  bzctrl_default  second  down",
        "waiting   e0.json   1 min  bzctrl_default  first  down",
    ]
    assert sorted(folder.iterdir()) == before


def test_list_is_bounded(folder, run_command):
    """--limit bounds the lines, and the last line counts the rest."""
    spool("a", "b", "c")
    code, text = run_command("spool", "list", "--limit", "2")
    assert (code, text.splitlines()[2:]) == (0, ["and 1 more"])
    _, report = run_command("spool", "list", "--limit", "1", "--json")
    assert (len(report["entries"]), report["more"]) == (1, 2)
    assert report["entries"][0]["title"] == "c"


@pytest.mark.security
def test_list_shows_hostile_text_on_one_line(folder, run_command):
    """Control characters and line breaks of a title or a reason do not reach the terminal, and both are cut."""
    spool("\x1b[2Jevil\nwaiting  forged\u202e" + "x" * 500, reason="a\r\nb\x07" + "y" * 5000)
    _, text = run_command("spool", "list")
    assert text.count("\n") == 1
    assert text.strip().isprintable()
    assert len(text) < 700


def test_list_shows_unusable_and_rejected_files(folder, run_command):
    """Damaged files are listed behind those that wait, with the reason."""
    spool("a", reason="")
    (folder / "broken.json").write_text("{")
    (folder / "rejected").mkdir()
    (folder / "rejected" / "no.json").write_text("[]")
    (folder / "rejected" / "no.json.reason.txt").write_text("It is damaged.\n")
    _, text = run_command("spool", "list")
    lines = text.splitlines()
    assert lines[0].endswith("not tried yet")
    assert lines[1].startswith("unusable  broken.json       -  -  -  it is not JSON")
    assert lines[2] == "rejected  rejected/no.json       -  -  -  It is damaged."


def test_list_of_an_empty_spool_says_so(folder, run_command):
    """It is no error."""
    assert run_command("spool", "list") == (0, f"The spool {folder} is empty.\n")
    report = {"address": str(folder), "entries": [], "more": 0}
    assert run_command("spool", "list", "--json") == (0, report)


def test_unreadable_spool_is_an_error(configure, tmp_path, run_command):
    """A file in the place of the folder gives exit code 1, for both commands."""
    (tmp_path / "file").write_text("")
    configure(spool_path=str(tmp_path / "file"))
    for command, part in (("list", "cannot be read"), ("deliver", "was not delivered")):
        code, text = run_command("spool", command)
        assert (code, part in text) == (1, True)
        assert run_command("spool", command, "--json")[1]["ok"] is False


def test_deliver_creates_all_and_prints_their_keys(folder, run_command, connection, bzctrl):
    """Each todo is created once, and the exit code is 0."""
    spool("a", "b")
    code, text = run_command("spool", "deliver")
    assert code == 0
    assert [line.split()[:3] for line in text.splitlines()[:2]] == [["created", KEY, LINK]] * 2
    assert text.splitlines()[2] == "2 created, 0 kept, 0 rejected"
    assert sorted(todo["title"] for todo in sent_todos(bzctrl)) == ["a", "b"]
    assert run_command("spool", "deliver", "--json")[1] == {
        "ok": True,
        "created": [],
        "kept": [],
        "rejected": [],
        "busy": False,
    }


def test_deliver_with_entries_that_stay_ends_with_code_1(folder, run_command, connection, requests_mock):
    """Kept and rejected entries are printed with their reasons."""
    requests_mock.post(ACC.token_url, status_code=503)
    spool("a")
    code, text = run_command("spool", "deliver")
    assert code == 1
    assert text.startswith("kept      file://")
    assert text.endswith("0 created, 1 kept, 0 rejected\n")


def test_deliver_of_an_invalid_entry_rejects_it(folder, run_command, connection, bzctrl):
    """A rejected entry gives exit code 1, and others are created."""
    spool("a", priority="URGENT")
    code, report = run_command("spool", "deliver", "--json")
    assert code == 1
    assert "priority" in report["rejected"][0]["reason"]
    assert sent_todos(bzctrl) == []


def test_deliver_with_another_connection_uses_it(folder, run_command, connection, bzctrl):
    """--conn-id replaces the connection of the entries."""
    spool("a", conn_id="deleted")
    assert run_command("spool", "deliver", "--conn-id", "bzctrl_default")[0] == 0
    assert len(sent_todos(bzctrl)) == 1


def test_deliver_beside_another_delivery_sends_nothing(folder, run_command, connection, bzctrl, monkeypatch):
    """The lock of another process is respected."""
    spool("a")
    monkeypatch.setattr("bzctrl_provider.spool.runner._LOCK_WAIT_S", 0)
    with Folder(folder).lock(wait_s=0, sleep=None) as is_locked:
        assert is_locked
        code, text = run_command("spool", "deliver")
    assert (code, "another process delivers" in text) == (1, True)
    assert bzctrl.request_history == []


def test_format_age_uses_the_largest_unit():
    """An age is one number with its unit."""
    ages = {-5: "0 s", 59.9: "59 s", 60: "1 min", 7199: "1 h", 86_400 * 400: "400 d"}
    assert {seconds: format_age(seconds) for seconds in ages} == ages
