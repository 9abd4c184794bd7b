from __future__ import annotations

import logging
import os
from pathlib import Path

import pytest

from bzctrl_provider.rules.routes import RoutesFile, apply_routes

GOOD = '[[route]]\nlrn = "a"\n'
FAULTY = '[[route]]\nlrn = "a"\npriority = "URGENT"\nignore = 1\n'


@pytest.fixture
def path(tmp_path):
    return tmp_path / "bzctrl_routes.toml"


@pytest.fixture
def write(path):
    times = iter(range(1, 1000))

    def write(text):
        path.write_text(text)
        # Two versions of a test may be written within one tick of the file system's clock.
        os.utime(path, (0, next(times)))

    return write


def get_lrn(loaded):
    value, _ = apply_routes(loaded.routes, {})["lrn"]
    return value


def errors(caplog):
    return [record.getMessage() for record in caplog.records if record.levelno == logging.ERROR]


def test_load_good_file_is_read_once(path, write, caplog):
    """A good file gives its routes, without a word in a log or an incident, and is not read again."""
    write(GOOD)
    file = RoutesFile(path)
    loaded = file.load()
    assert (get_lrn(loaded), loaded.errors, loaded.note) == ("a", (), "")
    assert file.load() is loaded
    assert not caplog.records


def test_load_changed_file_is_read_again(path, write, tmp_path):
    """A file that is rewritten, or replaced by another of the same size and time, is read again."""
    write(GOOD)
    file = RoutesFile(path)
    file.load()
    write(GOOD.replace("a", "b"))
    assert get_lrn(file.load()) == "b"
    other = tmp_path / "other"
    other.write_text(GOOD.replace("a", "c"))
    status = path.stat()
    os.utime(other, ns=(status.st_atime_ns, status.st_mtime_ns))
    other.replace(path)
    assert get_lrn(file.load()) == "c"


def test_load_faulty_change_keeps_the_last_good_version(path, write, caplog):
    """The routes stay, one ERROR has all faults with route and key, and the note says what is used."""
    write(GOOD)
    file = RoutesFile(path)
    file.load()
    write(FAULTY)
    loaded = file.load()
    file.load()
    assert get_lrn(loaded) == "a"
    (error,) = errors(caplog)
    assert error.splitlines() == [
        f"The routes file {path} has faults, so its last good version is used. Fix the following:",
        "  route 1, ignore: must be true or false, without quotes, not 1",
        "  route 1, priority: must be HIGH, MEDIUM or LOW, not 'URGENT'",
    ]
    assert loaded.note == (
        "The routes file bzctrl_routes.toml has 2 faults, so its last good version is used. "
        "The first: route 1, ignore: must be true or false, without quotes, not 1."
    )


def test_load_faults_are_reported_once(path, write, caplog):
    """A second faulty version is one more ERROR; after a good one, everything begins again."""
    file = RoutesFile(path)
    for text in (FAULTY, FAULTY + "lrm = 1", GOOD, FAULTY):
        write(text)
        file.load()
        file.load()
    assert len(errors(caplog)) == 3


def test_load_faulty_first_version_gives_the_defaults(path, write, caplog):
    """Without a good version in this process, the caller's defaults are used."""
    write("[[route]]\n")
    loaded = RoutesFile(path).load()
    assert loaded.routes is None
    assert "so the defaults are used" in loaded.note
    assert len(errors(caplog)) == 1


def test_load_removed_file_keeps_the_last_good_version(path, write, caplog):
    """A file that disappears for a moment is no reason to route otherwise, and is read when it is there again."""
    write(GOOD)
    file = RoutesFile(path)
    file.load()
    path.unlink()
    assert get_lrn(file.load()) == get_lrn(file.load()) == "a"
    (error,) = errors(caplog)
    assert error.endswith("\n  cannot be read: No such file or directory")
    write(GOOD.replace("a", "b"))
    assert get_lrn(file.load()) == "b"


def test_load_unreadable_path_never_raises(tmp_path, caplog):
    """A directory, a text in another encoding and impossible names are faults like others."""
    binary = tmp_path / "binary"
    binary.write_bytes(b'[[route]]\nlrn = "\xff"')
    for path, reason in (
        (tmp_path, "Is a directory"),
        (binary, "'utf-8' codec can't decode byte 0xff"),
        ("a\0b", "embedded null "),  # the rest differs with Python's version
        ("x" * 5000, "File name too long"),
        (binary / "below", "Not a directory"),
    ):
        loaded = RoutesFile(path).load()
        assert loaded.routes is None
        assert "The first: cannot be read: " in loaded.note
        assert reason in loaded.note


def test_load_refused_file_is_tried_again(path, write, monkeypatch, caplog):
    """New permissions do not change the time of a file, so a refused one is opened each time, with one ERROR."""
    write(GOOD)
    file = RoutesFile(path)

    def refuse(*args, **kwargs):
        raise PermissionError(13, "Permission denied")

    with monkeypatch.context() as patch:
        patch.setattr(Path, "read_text", refuse)
        assert file.load().note.endswith("cannot be read: Permission denied.")
        assert file.load().routes is None
    assert get_lrn(file.load()) == "a"
    assert len(errors(caplog)) == 1
