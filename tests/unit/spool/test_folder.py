from __future__ import annotations

import errno
import os
import subprocess
import sys
from pathlib import Path

import pytest

from bzctrl_provider.spool.folder import Folder
from bzctrl_provider.spool.store import UnusableFileError


@pytest.fixture
def folder(tmp_path):
    return Folder(tmp_path / "spool")


@pytest.mark.parametrize("step", ["os.fsync", "os.link"])
def test_folder_create_that_fails_leaves_no_file(folder, tmp_path, monkeypatch, step):
    """Neither a whole one nor a part; the caller sees why."""

    def fail(*args):
        raise OSError(errno.ENOSPC, "No space left on device")

    with monkeypatch.context() as patched:
        patched.setattr(step, fail)
        with pytest.raises(OSError, match="No space left"):
            folder.create("a.json", b"1")
    assert list((tmp_path / "spool").iterdir()) == []


def test_folder_create_killed_while_writing_leaves_a_hidden_file(tmp_path):
    """No delivery takes it for an entry."""
    code = (
        "import os, pathlib, signal\n"
        "from bzctrl_provider.spool.folder import Folder\n"
        "os.fsync = lambda _: os.kill(os.getpid(), signal.SIGKILL)\n"
        f"Folder(pathlib.Path({str(tmp_path)!r})).create('a.json', b'1')\n"
    )
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == -9
    (file,) = tmp_path.iterdir()
    assert file.name.startswith(".a.json.")
    assert file.name.endswith(".tmp")


@pytest.mark.parametrize("number", [errno.EPERM, errno.EOPNOTSUPP])
def test_folder_create_without_hard_links_keeps_the_first(folder, tmp_path, monkeypatch, number):
    """Some network file systems have none."""

    def fail(*args):
        raise OSError(number, "no links")

    monkeypatch.setattr("os.link", fail)
    assert folder.create("a.json", b"first")
    assert not folder.create("a.json", b"second")
    assert folder.read("a.json") == b"first"
    assert [path.name for path in (tmp_path / "spool").iterdir()] == ["a.json"]


def test_folder_write_where_a_folder_cannot_be_synced_succeeds(folder, monkeypatch):
    """Some network file systems refuse to sync a folder."""
    sync = os.fsync

    def files_only(descriptor):
        if Path(f"/proc/self/fd/{descriptor}").is_dir():
            raise OSError(errno.EINVAL, "Invalid argument")
        sync(descriptor)

    monkeypatch.setattr("os.fsync", files_only)
    folder.write("a.json", b"1")
    assert folder.read("a.json") == b"1"


def test_folder_read_of_a_socket_or_device_is_refused(folder, tmp_path):
    """Without waiting for anybody."""
    folder.write("a.json", b"1")
    (tmp_path / "spool" / "link.json").symlink_to("a.json")
    os.mkfifo(tmp_path / "spool" / "fifo.json")
    (tmp_path / "spool" / "folder.json").mkdir()
    for name in ("link.json", "fifo.json", "folder.json"):
        with pytest.raises(UnusableFileError, match="not a file"):
            folder.read(name)


def test_folder_read_without_permission_raises_the_error_of_the_system(folder, monkeypatch):
    """It is reported as it is."""

    def refuse(*args):
        raise PermissionError(errno.EACCES, "Permission denied")

    monkeypatch.setattr("os.open", refuse)
    with pytest.raises(PermissionError):
        folder.read("a.json")


def test_folder_lock_waits_for_its_time(folder):
    """A second one gets it as soon as the first has ended, and gives up after its time."""
    slept = []
    with folder.lock(wait_s=0, sleep=slept.append) as first:
        with folder.lock(wait_s=0, sleep=slept.append) as second:
            assert (first, second, slept) == (True, False, [])
        with folder.lock(wait_s=0.001, sleep=slept.append) as third:
            assert third is False
        assert slept
    with folder.lock(wait_s=0, sleep=slept.append) as fourth:
        assert fourth


def test_folder_lock_of_a_killed_process_is_free(folder, tmp_path):
    """The kernel releases it."""
    code = (
        "import os, pathlib, signal, time\n"
        "from bzctrl_provider.spool.folder import Folder\n"
        f"with Folder(pathlib.Path({str(tmp_path / 'spool')!r})).lock(wait_s=0, sleep=time.sleep) as locked:\n"
        "    assert locked\n"
        "    os.kill(os.getpid(), signal.SIGKILL)\n"
    )
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == -9
    with folder.lock(wait_s=0, sleep=lambda _: None) as locked:
        assert locked


def test_folder_names_of_a_folder_that_is_not_there_are_none(folder):
    """Before the first entry nothing has made it."""
    assert folder.names() == []
    folder.remove("a.json")
    assert not folder.exists("a.json")


def test_folder_move_makes_the_target(folder):
    """As rejected/ before the first rejected entry."""
    folder.write("a.json", b"1")
    folder.move("a.json", "rejected/a.json")
    assert (folder.names("rejected"), folder.exists("a.json")) == (["a.json"], False)
