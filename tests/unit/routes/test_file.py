from __future__ import annotations

import logging
import os
import threading

import pytest

from bzctrl_provider.routes import RouteFacts, RoutesFile
from bzctrl_provider.routes.file import SIZE_MAX

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
    return loaded.routes.apply(RouteFacts()).todo_fields["lrn"]


def errors(caplog):
    return [record.getMessage() for record in caplog.records if record.levelno == logging.ERROR]


def test_load_good_file_has_no_note(path, write, caplog):
    """A good file gives its routes, without a word in a log or an incident."""
    write(GOOD)
    loaded = RoutesFile(path).load()
    assert (get_lrn(loaded), loaded.faults, loaded.note) == ("a", (), "")
    assert not caplog.records


def test_load_unchanged_file_is_not_read_again(path, write):
    """Without a change, the same object is returned."""
    write(GOOD)
    file = RoutesFile(path)
    assert file.load() is file.load()


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
    """The routes stay, one ERROR has all faults with their lines, and the note says what is used."""
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
        "  line 3: priority must be HIGH, MEDIUM or LOW, not 'URGENT'",
        "  line 4: ignore must be true or false, without quotes, not 1",
    ]
    assert loaded.note == (
        "The routes file bzctrl_routes.toml has 2 faults, so its last good version is used. "
        "The first: line 3: priority must be HIGH, MEDIUM or LOW, not 'URGENT'."
    )


def test_load_each_faulty_version_is_reported_once(path, write, caplog):
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


def test_load_unreadable_path_never_raises_or_blocks(tmp_path, caplog):
    """A directory, a FIFO without a writer, a device and impossible names are faults like others."""
    fifo, large, binary = (tmp_path / name for name in ("fifo", "large", "binary"))
    os.mkfifo(fifo)
    large.write_bytes(b"#" * (SIZE_MAX + 1))
    binary.write_bytes(b'[[route]]\nlrn = "\xff"')
    notes = []

    def load():
        paths = [tmp_path, fifo, "/dev/zero", large, binary, "a\0b", "x" * 5000, tmp_path / "large" / "below"]
        notes.extend(RoutesFile(path).load().note for path in paths)

    thread = threading.Thread(target=load, daemon=True)
    thread.start()
    thread.join(10)
    assert [note.partition("The first: ")[2] for note in notes] == [
        "cannot be read: Is a directory.",
        "is no regular file: set routes_path to a TOML file.",
        "is no regular file: set routes_path to a TOML file.",
        f"has more than {SIZE_MAX} bytes: set routes_path to a smaller file.",
        "line 2: is not valid UTF-8.",
        "cannot be read: ValueError.",
        "cannot be read: File name too long.",
        "cannot be read: Not a directory.",
    ]


def test_load_refused_file_is_tried_again(path, write, monkeypatch, caplog):
    """New permissions do not change the time of a file, so a refused one is opened each time, with one ERROR."""
    write(GOOD)
    file = RoutesFile(path)

    def refuse(*args):
        raise PermissionError(13, "Permission denied")

    with monkeypatch.context() as patch:
        patch.setattr(os, "open", refuse)
        assert file.load().note.endswith("cannot be read: Permission denied.")
        assert file.load().routes is None
    assert get_lrn(file.load()) == "a"
    assert len(errors(caplog)) == 1


def test_load_many_faults_are_counted(path, write, caplog):
    """A log line stays readable: the first 100 faults, and the number of the others."""
    write("[[route]]\n" * 150)
    loaded = RoutesFile(path).load()
    (error,) = errors(caplog)
    assert error.count("\n") == 101
    assert error.endswith("\n  and 50 more")
    assert len(loaded.faults) == 150
