from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from datetime import UTC, date, datetime, timedelta
from decimal import Decimal
from pathlib import Path
from types import SimpleNamespace

import pytest
from airflow.providers.common.compat.sdk import AirflowSkipException, ObjectStoragePath, mask_secret
from fsspec import AbstractFileSystem
from fsspec.implementations.memory import MemoryFileSystem
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from bzctrl_provider.client.todo import Level, complete_todo
from bzctrl_provider.exceptions import (
    BzCtrlAuthError,
    BzCtrlRateLimitError,
    BzCtrlServerError,
    BzCtrlTransportError,
    BzCtrlValidationError,
)
from bzctrl_provider.hooks.bzctrl import BzCtrlHook
from bzctrl_provider.spool import replay_spool, spool_path, spool_todo

NOON = datetime(2026, 11, 21, 12, 0, 0, 123456, tzinfo=UTC)
HOUR = timedelta(hours=1)
DESCRIPTION = "It failed."


@pytest.fixture
def folder(tmp_path, monkeypatch):
    """Configure a spool in a local folder that does not exist yet."""
    path = tmp_path / "deep" / "spool"
    monkeypatch.setenv("AIRFLOW__BZCTRL__SPOOL_PATH", f"file://{path}")
    return path


class InMemory(MemoryFileSystem):
    """An object store of one test."""

    protocol = "memory"
    cachable = False

    def __init__(self):
        super().__init__()
        self.store = {}
        self.pseudo_dirs = [""]


@pytest.fixture
def attach(monkeypatch):
    """Return what makes a file system Airflow's for the scheme memory, with a spool in it."""
    try:
        from airflow.sdk.io.store import _STORE_CACHE
        from airflow.sdk.io.store import attach as attach_to_airflow
    except ImportError:  # Airflow 2.11
        from airflow.io.store import _STORE_CACHE
        from airflow.io.store import attach as attach_to_airflow

    def attached(fs):
        monkeypatch.setitem(_STORE_CACHE, "memory", None)
        del _STORE_CACHE["memory"]
        attach_to_airflow(protocol="memory", fs=fs)  # noqa: AIR311 - of that version
        monkeypatch.setenv("AIRFLOW__BZCTRL__SPOOL_PATH", "memory://bucket/spool")
        return fs

    return attached


class Client:
    """Stand in for the client: what it is told to raise it raises, in turn."""

    def __init__(self):
        self.total_s = 7200.0
        self.created = []
        self.errors = []
        self.closed = False
        self.meanwhile = lambda: None

    def create_todo(self, todo):
        self.meanwhile()
        error = self.errors.pop(0) if self.errors else None
        if error:
            raise error
        self.created.append(todo)
        key = f"KEY-{len(self.created):02}"
        return SimpleNamespace(key=key, link=f"https://bzctrl.example/{key}")

    def close(self):
        self.closed = True


@pytest.fixture
def clients(monkeypatch):
    """Put stand-ins into the place of clients; the connection "absent" has none."""
    by_id = {"a": Client(), "b": Client()}

    def get_conn(hook):
        if hook.bzctrl_conn_id not in by_id:
            raise LookupError(f"{hook.bzctrl_conn_id} is not defined")
        return by_id[hook.bzctrl_conn_id]

    monkeypatch.setattr(BzCtrlHook, "get_conn", get_conn)
    return by_id


def spool(title="T", *, conn_id="a", minute=0, **kwargs):
    return spool_todo(
        {"title": title, "description": DESCRIPTION},
        bzctrl_conn_id=conn_id,
        reason="BzCtrl was down",
        now=NOON + timedelta(minutes=minute),
        **kwargs,
    )


def replay(now=NOON + HOUR, **kwargs):
    return replay_spool(clock=lambda: now, **kwargs)


def only_file(folder):
    (file,) = folder.iterdir()
    return file


def read_text(address):
    path = ObjectStoragePath(address)
    return path.fs.cat_file(path.path).decode()


def content(file):
    return json.loads(file.read_text())


# Writing


def test_a_file_tells_all_that_is_needed_to_create_the_todo(folder):
    """Plain JSON under a name that sorts by time; unset fields are left out."""
    address = spool_todo(
        {
            "title": "Zoll: 3 Fälle",
            "description": " \n",
            "result": None,
            "category": [],
            "sub_category": ("Customs", 7),
            "financial_impact": Decimal("7500.10"),
            "order_id": 777,
            "lrn": 5.5,
            "priority": Level.HIGH,
            "reminder_date": date(2026, 12, 1),
        },
        bzctrl_conn_id="bzctrl_default",
        reason="no answer",
        now=NOON,
    )
    file = only_file(folder)
    assert address == f"file://{file}"
    assert re.fullmatch(r"20261121T120000123456Z-[0-9a-f]{8}\.json", file.name)
    assert "Fälle" in file.read_text()
    assert content(file) == {
        "version": 1,
        "written_at": "2026-11-21T12:00:00Z",
        "bzctrl_conn_id": "bzctrl_default",
        "reason": "no answer",
        "outcome_unknown": False,
        "todo": {
            "title": "Zoll: 3 Fälle",
            "sub_category": ["Customs", 7],
            "financial_impact": "7500.10",
            "order_id": 777,
            "lrn": 5.5,
            "priority": "HIGH",
            "reminder_date": "2026-12-01",
        },
    }


@pytest.mark.parametrize("address", [None, "", "  "])
def test_without_a_spool_nothing_is_written(monkeypatch, address):
    """An option that is unset or blank is no spool."""
    if address is not None:
        monkeypatch.setenv("AIRFLOW__BZCTRL__SPOOL_PATH", address)
    assert spool_path() is None
    assert spool() is None
    with pytest.raises(ValueError, match="set spool_path"):
        replay_spool()


def test_a_plain_path_is_a_local_folder(tmp_path, monkeypatch):
    """Without the scheme file:// as well."""
    monkeypatch.setenv("AIRFLOW__BZCTRL__SPOOL_PATH", str(tmp_path / "spool"))
    assert spool().endswith(only_file(tmp_path / "spool").name)


def test_no_secret_is_in_a_file(folder):
    """What Airflow masks is masked in every field, also as a number and under the name of a secret."""
    mask_secret("hunter2-hunter2")
    mask_secret("123456789")
    spool_todo(
        {
            "title": "the hunter2-hunter2",
            "category": ["x", {"deep": [["hunter2-hunter2"]]}],
            "order_id": 123456789,
            "lrn": "right",
            "password": "of nobody else",
        },
        bzctrl_conn_id="hunter2-hunter2",
        reason="401 for hunter2-hunter2",
    )
    text = only_file(folder).read_text()
    assert "hunter2" not in text
    assert "123456789" not in text
    assert "nobody" not in text
    assert content(only_file(folder))["todo"]["lrn"] == "right"


def test_a_long_reason_is_cut_after_it_was_masked(folder):
    """At most 2,000 characters, and no half of a secret at the cut."""
    mask_secret("hunter2-hunter2")
    spool_todo({"title": "T"}, bzctrl_conn_id="a", reason="x" * 1990 + "hunter2-hunter2" + "y" * 5000)
    reason = content(only_file(folder))["reason"]
    assert len(reason) <= 2000
    assert "hunter" not in reason


@pytest.mark.parametrize("step", ["os.fsync", "pathlib.Path.replace"])
def test_a_crash_while_writing_leaves_no_file(folder, monkeypatch, step):
    """Neither a whole one nor a part; the caller hears why."""

    def crash(*args):
        raise OSError(28, "No space left on device")

    with monkeypatch.context() as patched:
        patched.setattr(step, crash)
        with pytest.raises(OSError, match=r"could not be written into the spool.*No space left"):
            spool()
    assert list(folder.iterdir()) == []


def test_a_kill_while_writing_leaves_nothing_that_a_replay_looks_at(folder, monkeypatch, clients):
    """An unfinished file is hidden, and is not taken for a todo."""
    code = (
        "import os\n"
        "from bzctrl_provider.spool import spool_todo\n"
        "os.fsync = lambda _: os._exit(9)\n"
        "spool_todo({'title': 'T'}, bzctrl_conn_id='a', reason='r')\n"
    )
    assert subprocess.run([sys.executable, "-W", "ignore", "-c", code], check=False).returncode == 9
    assert only_file(folder).name.startswith(".")
    assert replay().as_dict() == {"created": [], "kept": []}


def test_a_folder_that_cannot_keep_names_on_the_disk_will_do(folder, monkeypatch):
    """Some network file systems refuse to sync a folder."""
    sync = os.fsync

    def files_only(descriptor):
        if Path(f"/proc/self/fd/{descriptor}").is_dir():
            raise OSError(22, "Invalid argument")
        sync(descriptor)

    monkeypatch.setattr("os.fsync", files_only)
    assert spool()


def test_a_spool_that_airflow_does_not_know_is_an_os_error(monkeypatch):
    """A callback has one kind of error to expect."""
    monkeypatch.setenv("AIRFLOW__BZCTRL__SPOOL_PATH", "nosuchscheme://bucket")
    with pytest.raises(OSError, match="could not be written into the spool"):
        spool()


VALUES = st.one_of(
    st.text(),
    st.text(st.characters()),  # with halves of surrogate pairs
    st.integers(),
    st.floats(allow_nan=False, allow_infinity=False),
    st.decimals(allow_nan=False, allow_infinity=False).filter(lambda number: abs(number.adjusted()) < 400),
    st.dates(),
    st.datetimes(),
    st.booleans(),
    st.none(),
    st.lists(st.text() | st.integers()),
)


@settings(max_examples=150, suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None)
@given(
    fields=st.dictionaries(st.sampled_from(["title", "description", "category", "order_id", "lrn"]), VALUES)
)
def test_any_value_survives_the_spool(folder, clients, fields):
    """Whatever a todo takes, what comes out makes the same todo as what went in."""
    client = clients["a"]
    client.created.clear()
    assert spool_todo(fields, bzctrl_conn_id="a", reason="r")
    replay()
    (todo,) = client.created
    for name in ("title", "description", "category", "order_id", "lrn"):
        taken, before = outcome({name: fields.get(name)})
        assert not taken or outcome({name: todo.get(name)}) == (True, before)


@pytest.mark.parametrize(
    "number",
    [10**5000, float("nan"), float("inf"), Decimal("NaN"), Decimal("1E+999999")],
    ids=["long", "nan", "inf", "NaN", "E"],
)
def test_a_number_that_no_todo_takes_does_not_lose_the_rest(folder, number):
    """JSON has no such numbers, or Python does not write them: they become text."""
    spool_todo({"title": "T", "lrn": number}, bzctrl_conn_id="a", reason="r")
    todo = json.loads(only_file(folder).read_text(), parse_constant=pytest.fail)["todo"]
    assert todo["title"] == "T"
    assert isinstance(todo["lrn"], str)


def outcome(field):
    """Tell whether a todo takes a field, and how it reads then."""
    others = {
        "todo_type": "INCIDENT",
        "domain_workspace": "D",
        "title": "T",
        "description": "D",
        "order_id": "O",
        "reporter": "r@example.com",
    }
    (name,) = field
    try:
        return True, getattr(complete_todo(others | field, defaults={}), name)
    except BzCtrlValidationError:
        return False, None


# Replaying


@pytest.fixture(params=["folder", "memory"])
def any_spool(request):
    """Configure a spool, once in a local folder and once in an object store."""
    if request.param == "folder":
        return request.getfixturevalue("folder")
    request.getfixturevalue("attach")(InMemory())
    return None


def test_todos_are_created_once_and_in_their_order(any_spool, clients):
    """The oldest first, whatever the order of writing; the result tells each file, and nothing is left."""
    files = {minute: spool(f"T{minute}", minute=minute) for minute in (5, 1, 3)}
    assert replay().as_dict() == {
        "created": [
            {"file": files[minute], "key": f"KEY-0{n}", "link": f"https://bzctrl.example/KEY-0{n}"}
            for n, minute in enumerate((1, 3, 5), 1)
        ],
        "kept": [],
    }
    assert [todo["title"] for todo in clients["a"].created] == ["T1", "T3", "T5"]
    assert clients["a"].created[0] == {"title": "T1", "description": DESCRIPTION}
    assert clients["a"].closed
    assert clients["a"].total_s == 1800  # less than a claim is respected
    assert replay().as_dict() == {"created": [], "kept": []}


def test_a_spool_that_is_not_there_yet_is_empty(any_spool, clients):
    """Before the first todo nothing has made the folder."""
    assert replay().as_dict() == {"created": [], "kept": []}


def test_no_more_than_the_limit_are_tried(any_spool, clients):
    """Files that cannot be tried do not count, so that they do not hold the others up."""
    spool(conn_id="absent")
    for minute in range(1, 4):
        spool(f"T{minute}", minute=minute)
    result = replay(limit=2)
    assert len(result.kept) == 1
    assert [todo["title"] for todo in clients["a"].created] == ["T1", "T2"]
    with pytest.raises(ValueError, match="1 or more"):
        replay(limit=0)


def test_what_certainly_failed_is_kept_with_its_reason(any_spool, clients):
    """The next replay creates it without a note; the others are created at once."""
    first = spool("T1")
    spool("T2", minute=1)
    clients["a"].errors = [BzCtrlRateLimitError("429: too many")]
    result = replay()
    assert [kept["file"] for kept in result.kept] == [first]
    assert "429: too many" in result.kept[0]["reason"]
    kept = json.loads(read_text(first))
    assert kept["reason"].endswith("429: too many")
    assert kept["outcome_unknown"] is False
    assert kept["written_at"] == "2026-11-21T12:00:00Z"
    assert [created["file"] for created in replay().created] == [first]
    assert clients["a"].created[-1]["description"] == DESCRIPTION


def test_a_possible_duplicate_is_never_silent(any_spool, clients):
    """The description tells every attempt that had no answer, also after one that certainly failed."""
    file = spool()
    unknown = BzCtrlServerError("500", outcome_unknown=True)
    clients["a"].errors = [unknown, BzCtrlRateLimitError("429"), RuntimeError("a surprise")]
    assert len(replay(NOON + HOUR).kept) == 1
    assert json.loads(read_text(file))["outcome_unknown"] is True
    replay(NOON + 2 * HOUR)
    replay(NOON + 3 * HOUR)
    assert len(replay(NOON + 4 * HOUR).created) == 1
    assert clients["a"].created[0]["description"].splitlines()[-1] == (
        "Attempts at 2026-11-21T13:00:00Z, 2026-11-21T15:00:00Z had no response, so this may be a duplicate."
    )


def test_an_unknown_outcome_before_the_spool_is_told_too(any_spool, clients):
    """The callback's own attempt counts."""
    spool(outcome_unknown=True)
    replay()
    assert clients["a"].created[0]["description"] == (
        f"{DESCRIPTION}\n\nAn attempt at 2026-11-21T12:00:00Z had no response, so this may be a duplicate."
    )


def test_a_description_that_is_a_fault_stays_one(folder, clients):
    """The note does not stand in for a description that is missing."""
    spool_todo({"title": "T"}, bzctrl_conn_id="a", reason="r", outcome_unknown=True)
    replay()
    assert clients["a"].created == [{"title": "T"}]


@pytest.mark.parametrize(
    "error",
    [BzCtrlAuthError("401: refused"), BzCtrlTransportError("not connected")],
    ids=["refused", "unreachable"],
)
def test_a_connection_is_left_alone_once_it_is_refused(any_spool, clients, error):
    """One request, not one for each file; files of another connection are created."""
    for minute in range(3):
        spool(f"T{minute}", minute=minute)
    other = spool("of b", conn_id="b", minute=4)
    clients["a"].errors = [error, AssertionError("a second request")]
    result = replay()
    assert [kept["reason"].startswith("Not tried. The connection a") for kept in result.kept] == [
        False,
        True,
        True,
    ]
    assert all(str(error) in kept["reason"] for kept in result.kept)
    assert [created["file"] for created in result.created] == [other]
    clients["a"].errors = []
    assert len(replay().created) == 3


def test_a_lost_answer_does_not_stop_the_connection(any_spool, clients):
    """BzCtrl was there: the other files are tried."""
    for minute in range(2):
        spool(minute=minute)
    clients["a"].errors = [BzCtrlTransportError("reset", outcome_unknown=True)]
    result = replay()
    assert (len(result.created), len(result.kept)) == (1, 1)


def test_a_connection_that_is_missing_can_be_replaced(any_spool, clients):
    """Its files are kept as they are, until another connection is named for all."""
    file = spool(conn_id="absent")
    before = read_text(file)
    (kept,) = replay().kept
    assert "absent is not defined" in kept["reason"]
    assert read_text(file) == before
    assert len(replay(bzctrl_conn_id="b").created) == 1


GOOD = {
    "version": 1,
    "written_at": "2026-11-21T12:00:00Z",
    "bzctrl_conn_id": "a",
    "reason": "r",
    "outcome_unknown": True,
    "todo": {"title": "T", "description": "D"},
}


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("{", "no JSON"),
        ("\udcff", "no JSON"),
        ("[" * 100_000, "no JSON"),
        ("[]", "version 1"),
        (json.dumps(GOOD | {"version": 2}), "version 1"),
        (json.dumps(GOOD | {"todo": None, "reason": 1}), "damaged at reason, todo"),
        (json.dumps(GOOD | {"unanswered_at": [1]}), "damaged at unanswered_at"),
        (json.dumps(GOOD | {"unanswered_at": "x"}), "damaged at unanswered_at"),
    ],
)
def test_a_file_that_cannot_be_read_is_kept_and_reported(folder, clients, text, reason):
    """It may be all that is left of an incident; the good ones beside it are created."""
    folder.mkdir(parents=True)
    bad = folder / "20260101T000000000000Z-00000000.json"
    bad.write_bytes(text.encode(errors="surrogateescape"))
    (folder / "notes.txt").write_text("of somebody")
    spool()
    result = replay()
    (kept,) = result.kept
    assert kept["file"] == f"file://{bad}"
    assert reason in kept["reason"]
    assert bad.read_bytes() == text.encode(errors="surrogateescape")
    assert len(result.created) == 1


def test_a_file_without_times_of_attempts_names_when_it_was_written(folder, clients):
    """As somebody may write it by hand."""
    folder.mkdir(parents=True)
    (folder / "by hand.json").write_text(json.dumps(GOOD))
    replay(path=folder)
    assert "An attempt at 2026-11-21T12:00:00Z had no response" in clients["a"].created[0]["description"]


class Killed(BaseException):
    """The process ends in the middle of something."""


@pytest.fixture
def crash(clients):
    """Return what lets a replay end in the middle of an attempt."""

    def in_attempt(now):
        clients["a"].errors = [Killed()]
        with pytest.raises(Killed):
            replay(now)

    return in_attempt


def test_a_claim_that_was_left_behind_is_taken_up_after_an_hour(any_spool, clients, crash):
    """Not before: its replay may be at work. Then as one whose outcome is unknown, however often that happens."""
    spool("T1")
    crash(NOON + HOUR)
    assert replay(NOON + 2 * HOUR).as_dict() == {"created": [], "kept": []}
    crash(NOON + 2 * HOUR + timedelta(seconds=1))
    assert replay(NOON + 3 * HOUR).as_dict() == {"created": [], "kept": []}
    clients["a"].errors = [BzCtrlRateLimitError("429")]
    assert len(replay(NOON + 4 * HOUR).kept) == 1
    assert len(replay(NOON + 4 * HOUR).created) == 1
    # Who takes a claim up knows of the last one only, and one doubt is enough for the note.
    assert "An attempt at 2026-11-21T14:00:01Z had no response" in clients["a"].created[0]["description"]


def test_another_replay_does_not_touch_what_is_claimed(any_spool, clients):
    """While the one creates the todo, the other finds nothing to do."""
    spool()
    seen = []
    clients["a"].meanwhile = lambda: (
        setattr(clients["a"], "meanwhile", lambda: None),
        seen.append(replay().as_dict()),
    )
    assert len(replay().created) == 1
    assert seen == [{"created": [], "kept": []}]


@pytest.mark.parametrize("ending", ["created", "kept"])
def test_a_replay_that_listed_the_files_before_another_one_finished_leaves_them(any_spool, clients, ending):
    """It neither creates a todo twice, nor tries at once again what has just failed."""
    spool("T1")
    spool("T2", minute=1)
    if ending == "kept":
        clients["b"].errors = [BzCtrlRateLimitError("429")] * 2
    clients["a"].meanwhile = lambda: (
        setattr(clients["a"], "meanwhile", lambda: None),
        replay(bzctrl_conn_id="b"),
    )
    result = replay()
    if ending == "created":
        assert [len(result.created), len(clients["b"].created)] == [1, 1]
        return
    # What was changed before it was read is as good as new.
    assert len(result.created) == 2


def replays_between_read_and_claim(monkeypatch, store):
    """Let another replay come and go after a file was read."""
    read = store.read

    def then(self, name):
        content = read(self, name)
        monkeypatch.setattr(store, "read", read)
        replay(bzctrl_conn_id="b")
        return content

    monkeypatch.setattr(store, "read", then)


@pytest.mark.parametrize("ending", ["created", "kept"])
def test_a_file_that_changes_before_it_is_claimed_is_left(any_spool, clients, monkeypatch, ending):
    """The claim holds for the content that was read, not for any."""
    spool()
    if ending == "kept":
        clients["b"].errors = [BzCtrlServerError("500", outcome_unknown=True)]
    replays_between_read_and_claim(monkeypatch, type(store_now()))
    assert replay().as_dict() == {"created": [], "kept": []}
    assert clients["a"].created == []
    assert len(replay().created) == (1 if ending == "kept" else 0)


def store_now():
    from bzctrl_provider.spool.store import open_store

    return open_store(spool_path())


def test_a_file_that_vanishes_before_it_is_read_is_left(folder, clients, monkeypatch):
    """Another replay was quicker."""
    spool()
    monkeypatch.setattr(type(store_now()), "waiting", lambda self, now: ["gone.json"])
    assert replay().as_dict() == {"created": [], "kept": []}


def test_a_created_todo_whose_file_cannot_be_deleted_is_told(any_spool, clients, monkeypatch):
    """It is created, and somebody has to delete the file, or its description will tell of the duplicate."""
    spool()

    def refuse(self, claim):
        raise PermissionError("not yours")

    with monkeypatch.context() as patched:
        patched.setattr(type(store_now()), "remove", refuse)
        result = replay()
    assert len(result.created) == 1
    assert "KEY-01 was created, but the file could not be deleted" in result.kept[0]["reason"]
    assert replay().created == []
    replay(NOON + 3 * HOUR)
    assert "may be a duplicate" in clients["a"].created[1]["description"]


def test_a_reason_that_cannot_be_written_loses_nothing(any_spool, clients, monkeypatch):
    """The claim stays, and is taken up after an hour."""
    spool()
    clients["a"].errors = [BzCtrlRateLimitError("429")]

    def refuse(self, name, content):
        raise OSError("disk full")

    with monkeypatch.context() as patched:
        patched.setattr(type(store_now()), "write", refuse)
        (kept,) = replay().kept
    assert "429" in kept["reason"]
    assert "disk full" in kept["reason"]
    assert len(replay(NOON + 3 * HOUR).created) == 1


@pytest.mark.parametrize("step", ["write", "rename"])
def test_a_crash_while_a_file_is_put_back_loses_nothing(folder, clients, monkeypatch, step):
    """At each moment there is exactly one file that holds the todo."""
    spool()
    clients["a"].errors = [BzCtrlRateLimitError("429")]
    rename, calls = Path.rename, []

    def killed(self, *args):
        calls.append(self)
        if step == "write" or len(calls) > 1:
            raise Killed
        return rename(self, *args)

    with monkeypatch.context() as patched:
        patched.setattr("pathlib.Path.replace" if step == "write" else "pathlib.Path.rename", killed)
        with pytest.raises(Killed):
            replay()
    assert only_file(folder).name.endswith(".claimed")
    assert len(replay(NOON + 3 * HOUR).created) == 1


def test_a_claim_that_another_replay_took_up_is_not_written_again(folder, clients):
    """A replay that slept for hours finds its claim gone, and does not make a second file of it."""
    spool()
    clients["a"].errors = [BzCtrlRateLimitError("429")]
    clients["a"].meanwhile = lambda: only_file(folder).unlink()
    assert "could not be written into the file" in replay().kept[0]["reason"]
    assert list(folder.iterdir()) == []


def test_a_claim_whose_name_tells_no_time_is_a_file_like_any(folder, clients):
    """Somebody has renamed it; it is created all the same."""
    name = Path(spool()).name
    (folder / name).rename(folder / f"{name}.20269999T000000000000Z-00000000.claimed")
    assert len(replay().created) == 1


def test_a_spool_that_cannot_be_listed_is_an_error(folder, clients):
    """To take it for empty would hide the incidents in it."""
    folder.parent.mkdir()
    folder.write_text("a file, not a folder")
    with pytest.raises(OSError, match="could not be listed"):
        replay()


# Object stores


class LooksFirst(InMemory):
    """A store whose library leaves exclusive creation to fsspec, which looks first and writes then."""

    pipe_file = AbstractFileSystem.pipe_file


class Ignores(InMemory):
    """A store whose library ignores that an object was to be created only."""

    def pipe_file(self, path, value, mode="overwrite", **kwargs):
        super().pipe_file(path, value)


class Refuses(InMemory):
    """A store whose library does not know the argument."""

    def pipe_file(self, path, value):
        super().pipe_file(path, value)


class Garbles(InMemory):
    """A store that refuses a second creation in words that its library does not understand."""

    def pipe_file(self, path, value, mode="overwrite", **kwargs):
        if mode == "create" and self.exists(path):
            raise OSError(22, "PreconditionFailed")
        super().pipe_file(path, value)


@pytest.mark.parametrize("store", [LooksFirst, Ignores, Refuses, Garbles])
def test_a_store_without_exclusive_creation_is_told(attach, clients, crash, caplog, store):
    """Claims are made there as well, so that a crash is noticed; but two replays are not kept apart for sure."""
    fs = attach(store())
    spool()
    crash(NOON)
    assert "let only one run at a time" in caplog.text
    assert replay(NOON + HOUR).created == []
    assert len(replay(NOON + 2 * HOUR).created) == 1
    assert "may be a duplicate" in clients["a"].created[0]["description"]
    assert fs.find("/") == []


def test_a_store_that_cannot_be_written_is_not_taken_for_one_without_claims(
    attach, clients, monkeypatch, caplog
):
    """The files are kept, and nothing is created that could not be claimed."""
    fs = attach(InMemory())
    spool()

    def refuse(*args, **kwargs):
        raise PermissionError("403")

    with monkeypatch.context() as patched:
        patched.setattr(fs, "pipe_file", refuse)
        (kept,) = replay().kept
    assert "could not be read or claimed: PermissionError: 403" in kept["reason"]
    assert "one run at a time" not in caplog.text
    assert clients["a"].created == []
    assert len(replay().created) == 1


def test_a_store_with_exclusive_creation_is_left_clean(attach, clients, crash, caplog):
    """No claim and no trial stays behind, also none of a replay that crashed between deleting and the end."""
    fs = attach(InMemory())
    spool()
    crash(NOON)
    (file,) = fs.glob("/bucket/spool/*.json")
    fs.rm(file)
    fs.pipe_file("/bucket/spool/damaged.json.x-0.claim", b"{")
    replay(NOON + HOUR)
    assert len(fs.find("/")) == 2
    replay(NOON + 2 * HOUR)
    assert [path.rpartition("/")[2] for path in fs.find("/")] == ["damaged.json.x-0.claim"]
    assert "one run at a time" not in caplog.text


def test_a_damaged_claim_is_reported(attach, clients, crash):
    """The file is neither created nor forgotten."""
    fs = attach(InMemory())
    spool()
    crash(NOON)
    (mark,) = fs.glob("/bucket/spool/*.claim")
    fs.pipe_file(mark, b'{"claimed_at": 1}')
    (kept,) = replay().kept
    assert "is damaged: delete that" in kept["reason"]
    assert clients["a"].created == []


def test_a_claim_that_ends_while_it_is_looked_at_is_left(attach, clients, crash, monkeypatch):
    """The other replay has just finished."""
    fs = attach(InMemory())
    spool()
    crash(NOON)
    (mark,) = fs.glob("/bucket/spool/*.claim")
    cat_file = fs.cat_file

    def gone(path, **kwargs):
        if path == mark:
            raise FileNotFoundError(path)
        return cat_file(path, **kwargs)

    monkeypatch.setattr(fs, "cat_file", gone)
    assert replay(NOON + 2 * HOUR).as_dict() == {"created": [], "kept": []}


# The example


@pytest.fixture
def example(clients):
    """Return the function of the example DAG's task."""
    import runpy

    file = Path(__file__).parents[2] / "dags_examples" / "replay_spool.py"
    dag = runpy.run_path(str(file))["dag"]
    assert dag.max_active_runs == dag.max_active_tasks == 1
    return dag.get_task("replay").python_callable


def test_the_example_is_skipped_where_there_is_nothing_to_do(example, tmp_path, monkeypatch):
    """Without a spool, and with an empty one."""
    with pytest.raises(AirflowSkipException, match="spool_path"):
        example()
    monkeypatch.setenv("AIRFLOW__BZCTRL__SPOOL_PATH", str(tmp_path))
    with pytest.raises(AirflowSkipException, match="Nothing waits"):
        example()


def test_the_example_creates_all_it_can_and_fails_for_the_rest(example, clients, folder):
    """Somebody looks at a red task; a green one tells what was created."""
    spool("T1")
    spool("T2", minute=1)
    clients["a"].errors = [BzCtrlRateLimitError("429: too many")]
    with pytest.raises(Exception, match=r"(?s)1 stay in the spool, 1 were created.*429: too many"):
        example()
    assert [created["key"] for created in example()["created"]] == ["KEY-02"]


def test_importing_the_spool_is_light():
    """A DAG file names it: no HTTP library, no model and nothing of Airflow is loaded."""
    code = (
        "import sys, bzctrl_provider.spool\n"
        "heavy = ('airflow', 'requests', 'pydantic', 'fsspec', 'bzctrl_provider.client', 'bzctrl_provider.hooks')\n"
        "print([name for name in sys.modules if name.startswith(heavy)])"
    )
    result = subprocess.run([sys.executable, "-c", code], check=True, capture_output=True, text=True)
    assert result.stdout.strip() == "[]"
