from __future__ import annotations

from datetime import timedelta
from types import SimpleNamespace
from uuid import UUID

import pytest
from support.spool import NOON

from bzctrl_provider.spool.noted_reasons import note_reason, read_noted_reason

FIRST = SimpleNamespace(id=UUID("01a21d39-3d43-729f-8a99-42b9e6067abc"))
SAME_FILE = SimpleNamespace(id=UUID("01a21d39-3dc1-7a1a-a995-ae718a0e6abc"))
REASON = {"exception": "ValueError: no amount", "name": "DHL"}


@pytest.fixture
def spool(folder):
    """Return the folder of the spool, which is there."""
    folder.mkdir()
    return folder


@pytest.mark.parametrize(
    ("minutes", "expected"), [(0, REASON), (59, REASON), (60, None), (-59, REASON), (-61, None)]
)
def test_read_noted_reason_for_an_hour_returns_it(spool, minutes, expected):
    """A callback that comes later asks Airflow, as does one whose clock is far away from that of the task."""
    note_reason(FIRST, REASON, clock=lambda: NOON)
    assert read_noted_reason(FIRST, clock=lambda: NOON + timedelta(minutes=minutes)) == expected


def test_read_noted_reason_of_another_try_with_the_same_file_is_none(spool):
    """The reason of one task is never taken for that of another; the later one of two has the file."""
    note_reason(FIRST, REASON)
    assert read_noted_reason(SAME_FILE) is None
    note_reason(SAME_FILE, {})
    assert (read_noted_reason(FIRST), read_noted_reason(SAME_FILE)) == (None, {})
    (file,) = (spool / ".reasons").iterdir()
    assert file.stat().st_mode & 0o777 == 0o600
    assert file.parent.stat().st_mode & 0o777 == 0o700


def test_note_reason_without_an_id_or_a_folder_writes_nothing(folder):
    """Airflow 2.11 gives a try no id, and a machine without a spool does not get one."""
    note_reason(FIRST, REASON)
    assert not folder.exists()
    folder.mkdir()
    note_reason(SimpleNamespace(task_id="check"), REASON)
    assert list(folder.iterdir()) == []
    assert read_noted_reason(SimpleNamespace(task_id="check")) is None


def test_note_reason_in_an_unwritable_folder_does_not_raise(configure, caplog):
    """The reason is in the XCom, and the log says why it is not in the spool."""
    caplog.set_level("INFO")
    configure(spool_path="/proc/self")
    note_reason(FIRST, REASON)
    assert "in the XCom only" in caplog.text


@pytest.mark.parametrize(
    "content", [b"", b"[]", b'{"at": "soon"}', b"\xff", b'{"at": "2026-11-21T12:00:00+00:00"}']
)
def test_read_noted_reason_of_a_damaged_file_is_none(spool, content):
    """Then the callback asks Airflow."""
    (spool / ".reasons").mkdir()
    (spool / ".reasons" / "abc.json").write_bytes(content)
    assert read_noted_reason(FIRST, clock=lambda: NOON) is None
