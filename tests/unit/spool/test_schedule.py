from __future__ import annotations

from datetime import timedelta

import pytest
from support.spool import NOON

from bzctrl_provider.spool.schedule import is_scheduled, note_scheduled


@pytest.mark.parametrize(("minutes", "expected"), [(0, True), (4, True), (5, False), (-4, True), (-6, False)])
def test_is_scheduled_for_five_minutes_after_a_delivery(folder, minutes, expected):
    """A paused or broken delivery DAG, or a wrong clock, does not keep callbacks from delivering."""
    note_scheduled(clock=lambda: NOON)
    assert is_scheduled(clock=lambda: NOON + timedelta(minutes=minutes)) is expected


def test_is_scheduled_without_a_delivery_dag_is_false(folder):
    """The spool is not made by the question."""
    assert not is_scheduled()
    assert not folder.exists()


@pytest.mark.parametrize("content", [b"", b"[]", b'{"at": "soon"}', b'{"at": null}', b"\xff"])
def test_is_scheduled_with_a_damaged_mark_is_false(folder, content):
    """Then callbacks deliver by themselves."""
    folder.mkdir()
    (folder / ".scheduled.json").write_bytes(content)
    assert not is_scheduled()


@pytest.mark.parametrize("path", ["relative", "nosuchscheme://bucket", "memory://spool"])
def test_note_scheduled_without_a_folder_writes_nothing(configure, memory_store, path):
    """An object store needs no mark, because nobody but the delivery DAG delivers it."""
    configure(spool_path=path)
    note_scheduled()
    assert not is_scheduled()


def test_note_scheduled_in_an_unwritable_folder_does_not_raise(configure, caplog):
    """The delivery itself may still work, or says why it does not."""
    configure(spool_path="/proc/spool")
    note_scheduled()
    assert "callbacks deliver it too" in caplog.text
