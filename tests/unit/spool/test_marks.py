from __future__ import annotations

import json
from datetime import timedelta

import pytest
from support.spool import NOON

from bzctrl_provider.spool.marks import read_mark, write_mark

SECONDS = timedelta(seconds=1)


@pytest.mark.parametrize(("seconds", "is_read"), [(0, True), (4, True), (6, False), (-4, True), (-6, False)])
def test_read_mark_returns_what_was_written_until_it_is_too_old(folder, seconds, is_read):
    """A time in the future, of a wrong clock, counts as an old one."""
    write_mark(".a.json", {"text": "Zoll"}, clock=lambda: NOON)
    found = read_mark(".a.json", max_age=5 * SECONDS, clock=lambda: NOON + seconds * SECONDS)
    assert (found is not None) is is_read
    assert found is None or found["text"] == "Zoll"


def test_write_mark_replaces_the_earlier_one_in_a_file_of_its_owner(folder):
    """Nobody else can read or change it."""
    for number in (1, 2):
        write_mark(".a.json", {"number": number}, clock=lambda: NOON)
    (file,) = folder.iterdir()
    assert json.loads(file.read_text())["number"] == 2
    assert file.stat().st_mode & 0o777 == 0o600


@pytest.mark.parametrize(
    "content", [b"", b"[]", b"3", b'{"at": "soon"}', b'{"at": null}', b"\xff", b"[" * 100_000]
)
def test_read_mark_damaged_is_none(folder, content):
    """A damaged note is as good as none."""
    folder.mkdir()
    (folder / ".a.json").write_bytes(content)
    assert read_mark(".a.json", max_age=SECONDS) is None


def test_read_mark_without_one_is_none_and_makes_no_folder(folder):
    """The question leaves nothing behind."""
    assert read_mark(".a.json", max_age=SECONDS) is None
    assert not folder.exists()


def test_write_mark_that_makes_no_folder_needs_one(folder):
    """A worker that never writes an incident gets no folder for one."""
    write_mark(".a.json", {}, makes_folder=False)
    assert not folder.exists()
    folder.mkdir()
    write_mark(".a.json", {}, makes_folder=False)
    assert read_mark(".a.json", max_age=SECONDS * 60) is not None


@pytest.mark.parametrize("path", ["off", "nosuchscheme://bucket", "memory://spool"])
def test_mark_without_a_local_spool_is_neither_written_nor_read(configure, memory_store, path):
    """Processes of different machines share nothing in this way."""
    configure(spool_path=path)
    write_mark(".a.json", {})
    assert read_mark(".a.json", max_age=SECONDS) is None
