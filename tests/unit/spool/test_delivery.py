from __future__ import annotations

import json
import logging
from dataclasses import replace
from datetime import timedelta

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from support.spool import (
    DEFAULTS,
    DESCRIPTION,
    MINUTE,
    NOON,
    BzCtrlInMemory,
    Killed,
    StoreInMemory,
    deliver_to,
    new_entry,
)

from bzctrl_provider.exceptions import (
    BzCtrlAuthError,
    BzCtrlConfigError,
    BzCtrlRateLimitError,
    BzCtrlRejectedError,
    BzCtrlServerError,
    BzCtrlTransportError,
    BzCtrlValidationError,
)
from bzctrl_provider.spool.entry import Entry
from bzctrl_provider.spool.outbox import _write

LATER = NOON + 60 * MINUTE
UNKNOWN = BzCtrlTransportError("no response", outcome_unknown=True)
NOT_SENT = BzCtrlTransportError("not connected")


@pytest.fixture
def store():
    return StoreInMemory()


@pytest.fixture
def bzctrl():
    return BzCtrlInMemory()


def spool(store, *numbers, **kwargs):
    for number in numbers:
        _write(store, new_entry(number, **kwargs))


def waiting(store):
    """Return the entries that wait, by number."""
    names = [name for name in store.names() if not name.startswith(".")]
    entries = [Entry.parse(store.read(name), identity=name.removesuffix(".json")) for name in names]
    return sorted(entries, key=lambda entry: entry.spooled_at)


def deliver_each_minute(store, bzctrl, duration):
    """Return the minutes in which a delivery that runs each minute sent a todo."""
    attempts = []
    for minute in range(round(duration / MINUTE)):
        before = len(bzctrl.errors)
        deliver_to(store, bzctrl, now=LATER + minute * MINUTE)
        if len(bzctrl.errors) < before:
            attempts.append(minute)
    return attempts


def test_delivery_of_many_sends_the_oldest_first_and_leaves_tombstones(store, bzctrl):
    """Each is created once, its file is gone, and the tombstone has key and link."""
    spool(store, 5, 1, 3)
    todos = {}
    result = deliver_to(store, bzctrl, todos=todos)
    assert bzctrl.titles == ["T001", "T003", "T005"]
    assert bzctrl.created[0]["description"] == DESCRIPTION
    assert [created["key"] for created in result.created] == ["KEY-01", "KEY-02", "KEY-03"]
    identity = new_entry(1).identity
    assert todos[identity] == {"key": "KEY-01", "link": "https://bzctrl.example/KEY-01"}
    assert sorted(store.names()) == []
    tombstone = json.loads(store.read(f"delivered/{identity}.json"))
    assert tombstone == {
        "key": "KEY-01",
        "link": "https://bzctrl.example/KEY-01",
        "delivered_at": "2026-11-21T13:00:00Z",
        "facts": {"dag_id": "dag_1", "run_id": "r", "what": "run"},
    }
    assert deliver_to(store, bzctrl).created == []
    assert bzctrl.closed == 1


def test_delivery_of_many_sends_batches_of_eight(store, bzctrl):
    """That bounds what is in doubt when the process is killed."""
    spool(store, *range(20))
    deliver_to(store, bzctrl)
    assert bzctrl.batches == [8, 8, 4]


def test_delivery_with_limit_sends_no_more(store, bzctrl):
    """The rest is kept and says so."""
    spool(store, *range(12))
    result = deliver_to(store, bzctrl, limit=10)
    assert (len(result.created), len(result.kept)) == (10, 2)
    assert len(deliver_to(store, bzctrl).created) == 2


def test_delivery_without_time_sends_nothing_more(store, bzctrl):
    """A batch is begun only if there is time for it."""
    spool(store, *range(12))
    answers = iter([True, False])
    result = deliver_to(store, bzctrl, first_batch=1, may_start=lambda _: next(answers))
    assert (len(result.created), len(result.kept)) == (1, 11)
    assert result.kept[0]["reason"] == "Not tried. There was no time for it."


def test_delivery_with_a_slow_token_sends_no_todo_and_notes_no_attempt(store, bzctrl):
    """The time of the token shows that there is none for a todo, so that nothing is in doubt."""
    spool(store, 1, 2)
    result = deliver_to(store, bzctrl, may_start=lambda _: False)
    assert (bzctrl.logins, bzctrl.batches) == (1, [])
    assert len(result.kept) == 2
    assert [entry.unanswered for entry in waiting(store)] == [(), ()]


def test_delivery_without_a_token_keeps_all_and_pauses_the_connection(store, bzctrl):
    """One request for a token is made, none for a todo, and for a minute nobody tries again."""
    spool(store, 1, 2)
    bzctrl.login_error = NOT_SENT
    result = deliver_to(store, bzctrl)
    assert (bzctrl.logins, bzctrl.batches, len(result.kept)) == (1, [], 2)
    assert [entry.unanswered for entry in waiting(store)] == [(), ()]
    bzctrl.login_error = None
    assert "Not tried before" in deliver_to(store, bzctrl).kept[0]["reason"]
    assert bzctrl.logins == 1
    assert len(deliver_to(store, bzctrl, now=LATER + 2 * MINUTE).created) == 2


def test_delivery_of_nothing_due_asks_for_no_token(store, bzctrl):
    """An account is not logged in each minute for entries that have to wait."""
    spool(store, 1)
    bzctrl.errors = [UNKNOWN, UNKNOWN, UNKNOWN]
    for hour in range(1, 4):
        deliver_to(store, bzctrl, now=NOON + hour * 60 * MINUTE)
    logins = bzctrl.logins
    deliver_to(store, bzctrl, now=NOON + 3 * 60 * MINUTE + MINUTE / 2)
    assert bzctrl.logins == logins


def test_delivery_error_without_a_doubt_keeps_the_entry_without_a_note(store, bzctrl):
    """The next delivery creates it as if nothing had happened."""
    spool(store, 1, 2)
    bzctrl.errors = [BzCtrlRateLimitError("429: too many")]
    result = deliver_to(store, bzctrl)
    assert [kept["reason"].rpartition(".")[2] for kept in result.kept] == [
        "BzCtrlRateLimitError: 429: too many"
    ]
    (kept,) = waiting(store)
    assert (kept.unanswered, kept.reason.rpartition(" ")[2]) == ((), "many")
    deliver_to(store, bzctrl, now=LATER + 2 * MINUTE)
    assert [todo["description"] for todo in bzctrl.created] == [DESCRIPTION] * 2


def test_delivery_error_of_unknown_outcome_marks_the_next_attempt(store, bzctrl):
    """The description names each attempt without a response, also after one that certainly failed."""
    spool(store, 1)
    bzctrl.errors = [UNKNOWN, NOT_SENT, RuntimeError("a surprise")]
    for hour in range(1, 5):
        deliver_to(store, bzctrl, now=NOON + hour * 60 * MINUTE)
    assert bzctrl.created[0]["description"].splitlines()[-1] == (
        "Attempts at 2026-11-21T13:00:00Z, 2026-11-21T15:00:00Z had no response, so this may be a duplicate."
    )


def test_delivery_many_unknown_outcomes_make_the_entry_wait_longer(store, bzctrl):
    """Each attempt may be one more duplicate: at most one an hour in the end, unless somebody asks for it."""
    spool(store, 1)
    bzctrl.errors = [UNKNOWN] * 100
    end = timedelta(hours=6)
    attempts = deliver_each_minute(store, bzctrl, end)
    assert attempts == [0, 1, 2, 4, 8, 16, 32, 64, 124, 184, 244, 304]
    deliver_to(store, bzctrl, now=LATER + end, ignore_pauses=True)
    assert len(bzctrl.errors) == 100 - 13


@pytest.mark.parametrize(
    "error",
    [BzCtrlRejectedError("422: no", status_code=422), BzCtrlValidationError("Fix:", [("impact", "bad")])],
)
def test_delivery_of_a_rejected_entry_moves_it_and_goes_on(store, bzctrl, error, caplog):
    """It is in rejected/ with its reason, is not tried again, and the others are created."""
    spool(store, 1, 2, 3)
    bzctrl.errors = [None, error]
    result = deliver_to(store, bzctrl)
    assert bzctrl.titles == ["T001", "T003"]
    path = f"rejected/{new_entry(2).identity}.json"
    assert result.rejected == [{"file": f"memory://{path}", "reason": result.rejected[0]["reason"]}]
    assert str(error).splitlines()[0] in json.loads(store.read(path))["reason"]
    assert caplog.records[-1].levelno == logging.ERROR
    assert deliver_to(store, bzctrl).as_dict() == {"created": [], "kept": [], "rejected": [], "busy": False}


@pytest.mark.parametrize(
    ("defaults", "lacks"),
    [
        ({"domain_workspace": "EXA-CON-BUS-WOR"}, "no reporter"),
        ({"reporter": "reporter@example.com"}, "no domain_workspace"),
        ({}, "no domain_workspace and no reporter"),
    ],
)
def test_delivery_with_an_incomplete_connection_keeps_what_it_would_complete(
    store, bzctrl, defaults, lacks, caplog
):
    """Nothing is requested or rejected, one line says why, and after the correction all are created, as a storm too."""
    spool(store, *range(1, 26))
    bzctrl.defaults = defaults
    result = deliver_to(store, bzctrl)
    assert (bzctrl.logins, bzctrl.batches, result.rejected, len(result.kept)) == (0, [], [], 25)
    reason = f"Not tried. The todo has {lacks}, and neither has the connection a: add it there within 3 days."
    assert {kept["reason"] for kept in result.kept} == {entry.reason for entry in waiting(store)} == {reason}
    assert len(caplog.records) == 1
    bzctrl.defaults = DEFAULTS
    assert len(deliver_to(store, bzctrl).created) == 1
    assert bzctrl.titles[0].startswith("25 DAG runs failed")
    assert store.names() == []


def test_delivery_with_an_incomplete_connection_creates_todos_that_are_complete(store, bzctrl):
    """A todo with a reporter of its own waits for nobody, and one that has another fault is rejected."""
    spool(store, 1)
    spool(store, 2, reporter="team@example.com")
    spool(store, 3, impact="urgent")
    spool(store, 4, reporter="nobody")
    bzctrl.defaults = {"domain_workspace": "EXA-CON-BUS-WOR"}
    bzctrl.errors = [None, *[BzCtrlValidationError("Fix:", [("impact", "bad")])] * 2]
    result = deliver_to(store, bzctrl)
    assert bzctrl.titles == ["T002"]
    assert [kept["file"] for kept in result.kept] == [f"memory://{new_entry(1).identity}.json"]
    assert len(result.rejected) == 2


@pytest.mark.parametrize(("reporter", "is_kept"), [(None, True), (" ", True), (0, False)])
def test_delivery_with_an_incomplete_connection_keeps_only_unset_fields(store, bzctrl, reporter, is_kept):
    """A value that is invalid stays invalid, whatever the connection gets, so it is rejected at once."""
    spool(store, 1, reporter=reporter)
    bzctrl.defaults = {"domain_workspace": "EXA-CON-BUS-WOR"}
    bzctrl.errors = [BzCtrlValidationError("Fix:", [("reporter", "bad")])]
    result = deliver_to(store, bzctrl)
    assert (len(result.kept), len(result.rejected)) == (int(is_kept), int(not is_kept))


def test_delivery_with_an_incomplete_connection_rejects_after_three_days(store, bzctrl):
    """A connection that never supplies a field does not make the delivery fail for ever."""
    spool(store, 1)
    bzctrl.defaults = {}
    bzctrl.errors = [BzCtrlValidationError("Fix:", [("reporter", "is mandatory")])]
    end = NOON + MINUTE + timedelta(days=3)
    assert len(deliver_to(store, bzctrl, now=end).kept) == 1
    assert len(deliver_to(store, bzctrl, now=end + MINUTE).rejected) == 1


def test_delivery_reads_an_entry_that_waits_without_a_further_write(store, bzctrl):
    """The reason is written once, and not each minute for three days."""
    spool(store, 1)
    bzctrl.defaults = {}
    deliver_to(store, bzctrl)
    steps = store.steps
    deliver_to(store, bzctrl)
    assert store.steps == steps


def test_delivery_of_a_rejected_summary_reports_an_entry_that_waits_once(store, bzctrl):
    """The entries are planned a second time then."""
    spool(store, *range(1, 26))
    spool(store, 31)
    name = f"{new_entry(31).identity}.json"
    unanswered = replace(new_entry(31), unanswered=("2026-11-21T13:00:00Z",) * 3)
    store.files[name] = unanswered.as_bytes()
    bzctrl.errors = [BzCtrlRejectedError("422", status_code=422)]
    result = deliver_to(store, bzctrl)
    assert [kept["file"] for kept in result.kept] == [f"memory://{name}"]


@pytest.mark.parametrize("status", [302, 404, 405, 407])
def test_delivery_to_a_wrong_address_keeps_all(store, bzctrl, status):
    """No todo is at fault for it: nothing is moved to rejected/, and the connection is paused."""
    spool(store, *range(12))
    bzctrl.errors = [BzCtrlRejectedError("no", status_code=status)] * 12
    result = deliver_to(store, bzctrl)
    assert (len(result.kept), result.rejected, bzctrl.batches) == (12, [], [8])


@pytest.mark.parametrize(
    "error",
    [
        NOT_SENT,
        UNKNOWN,
        BzCtrlServerError("503"),
        BzCtrlRateLimitError("429"),
        BzCtrlAuthError("401"),
        BzCtrlConfigError("Fix:", [("host", "missing")]),
    ],
    ids=lambda error: type(error).__name__,
)
def test_delivery_with_a_failed_connection_pauses_it_for_a_minute(store, bzctrl, error):
    """One batch is tried, nobody tries again before a minute has passed, and another connection is used all the same."""
    spool(store, *range(9))
    _write(store, new_entry(99, conn_id="b"))
    other = BzCtrlInMemory()
    bzctrl.errors = [error] * 8
    connect = {"a": bzctrl, "b": other}.__getitem__
    deliver_to(store, bzctrl, connect=connect)
    assert (bzctrl.batches, other.titles) == ([8], ["T099"])
    result = deliver_to(store, bzctrl, connect=connect, now=LATER + timedelta(seconds=59))
    assert bzctrl.batches == [8]
    assert result.kept[0]["reason"].startswith(
        "Not tried before 13:01:00 UTC. The connection a cannot be used"
    )
    assert len(deliver_to(store, bzctrl, connect=connect, now=LATER + MINUTE).created) == 9
    assert not [name for name in store.names() if name.startswith(".pause")]


@pytest.mark.parametrize("until", ["2126-11-21T12:00:00", "later", None, 3])
def test_delivery_with_a_damaged_pause_is_not_paused(store, bzctrl, until):
    """A file that was changed by hand must not keep incidents back; a time without a zone cannot even be compared."""
    spool(store, 1)
    bzctrl.errors = [BzCtrlTransportError("no route")] * 8
    deliver_to(store, bzctrl)
    (name,) = [name for name in store.names() if name.startswith(".pause")]
    store.files[name] = json.dumps(json.loads(store.files[name]) | {"until": until}).encode()
    bzctrl.errors = []
    assert len(deliver_to(store, bzctrl).created) == 1


def test_delivery_by_hand_ignores_the_pause(store, bzctrl):
    """Who has corrected the connection need not wait."""
    spool(store, 1)
    bzctrl.errors = [NOT_SENT]
    deliver_to(store, bzctrl)
    assert len(deliver_to(store, bzctrl, ignore_pauses=True).created) == 1


def test_delivery_with_refused_credentials_pauses_longer_each_time(store, bzctrl):
    """An account that is asked with a wrong password each minute may be locked."""
    spool(store, 1)
    bzctrl.errors = [BzCtrlAuthError("401")] * 1000
    attempts = deliver_each_minute(store, bzctrl, timedelta(hours=2))
    assert attempts == [0, 1, 3, 7, 15, 31, 61, 91]


def test_delivery_pause_follows_retry_after(store, bzctrl):
    """At most for half an hour."""
    spool(store, 1)
    bzctrl.errors = [BzCtrlRateLimitError("429", retry_after_s=600)]
    deliver_to(store, bzctrl)
    assert deliver_to(store, bzctrl, now=LATER + 9 * MINUTE).created == []
    assert len(deliver_to(store, bzctrl, now=LATER + 10 * MINUTE).created) == 1


def test_delivery_with_a_missing_connection_keeps_its_entries(store, bzctrl):
    """Another connection can be named for all."""
    spool(store, 1, 2)

    def connect(conn_id):
        if conn_id == "a":
            raise LookupError("a is not defined")
        return bzctrl

    result = deliver_to(store, bzctrl, connect=connect)
    assert [kept["reason"] for kept in result.kept] == [
        "Not tried. The connection a cannot be used at present: LookupError: a is not defined"
    ] * 2
    assert len(deliver_to(store, bzctrl, connect=connect, bzctrl_conn_id="b").created) == 2


def test_delivery_of_a_surprise_marks_the_batch(store, bzctrl):
    """An error that is not BzCtrl's says nothing about what was sent."""
    spool(store, 1, 2)

    def surprise():
        raise RuntimeError("a surprise")

    bzctrl.before = surprise
    assert len(deliver_to(store, bzctrl).kept) == 2
    assert [len(entry.unanswered) for entry in waiting(store)] == [1, 1]


def test_delivery_whose_outcome_cannot_be_written_marks_the_entry_later(store, bzctrl):
    """The error says that there may be duplicates, and the next attempt says so, too."""
    spool(store, 1)
    write = store.write

    def full(path, content):
        if path.startswith("delivered/"):
            raise OSError(28, "No space left on device")
        write(path, content)

    store.write = full
    with pytest.raises(OSError, match=r"there may be duplicates.*No space left"):
        deliver_to(store, bzctrl)
    store.write = write
    deliver_to(store, bzctrl, now=LATER + MINUTE)
    assert "may be a duplicate" in bzctrl.created[1]["description"]


def test_delivery_that_cannot_note_the_attempt_sends_nothing(store, bzctrl):
    """Otherwise a full disk would make a duplicate of each entry in each minute."""
    spool(store, 1)

    def full(path, content):
        raise OSError(28, "No space left on device")

    store.write = full
    with pytest.raises(OSError, match="No space left"):
        deliver_to(store, bzctrl)
    assert bzctrl.created == []


@pytest.mark.parametrize(
    "note",
    [
        b"{",
        b"[]",
        b'{"at": "2026-11-21T12:00:00", "files": []}',
        b'{"at": "2026-11-21T12:00:00Z", "files": 1}',
    ],
    ids=["no JSON", "no object", "time without a zone", "no files"],
)
def test_delivery_with_a_damaged_note_of_an_attempt_marks_all(store, bzctrl, note):
    """It does not say which were sent, so each may be a duplicate."""
    spool(store, 1, 2)
    store.files[".attempt.json"] = note
    deliver_to(store, bzctrl)
    assert ["may be a duplicate" in todo["description"] for todo in bzctrl.created] == [True, True]


def test_delivery_prunes_tombstones_of_more_than_a_week(store, bzctrl):
    """And not before."""
    spool(store, 1)
    deliver_to(store, bzctrl)
    spool(store, 2)
    deliver_to(store, bzctrl, now=NOON + timedelta(days=7))
    assert len(store.names("delivered")) == 2
    spool(store, 3)
    deliver_to(store, bzctrl, now=NOON + timedelta(days=7, seconds=1))
    assert store.names("delivered") == []


# Storms


def test_delivery_of_a_storm_creates_one_summary(store, bzctrl):
    """More than the limit of one workspace and assignee become one; others are sent beside it."""
    spool(store, *range(1, 26))
    spool(store, 30, assignee="other@example.com")
    spool(store, 31, todo_type="TASK")
    todos = {}
    result = deliver_to(store, bzctrl, todos=todos)
    assert [todo["title"].partition(" within")[0] for todo in bzctrl.created] == [
        "25 DAG runs failed",
        "T030",
        "T031",
    ]
    assert len(result.created) == 3
    summary = bzctrl.created[0]["order_id"]
    for number in range(1, 26):
        tombstone = json.loads(store.read(f"delivered/{new_entry(number).identity}.json"))
        assert (tombstone["key"], tombstone["summary"]) == ("KEY-01", summary)
        assert todos[new_entry(number).identity]["key"] == "KEY-01"
    assert store.names() == []


@pytest.mark.parametrize(("above", "count"), [(20, 20), (0, 30)])
def test_delivery_without_a_storm_creates_each(store, bzctrl, above, count):
    """At the limit there is none yet, and 0 turns it off."""
    spool(store, *range(count))
    deliver_to(store, bzctrl, group_above=above)
    assert len(bzctrl.created) == count


def test_delivery_groups_by_the_defaults_of_the_connection(store, bzctrl):
    """An entry without a workspace belongs to that of its connection."""
    spool(store, *range(1, 12))
    spool(store, *range(12, 23), domain_workspace="EXA-CON-BUS-WOR")
    deliver_to(store, bzctrl)
    assert len(bzctrl.created) == 1


def test_delivery_of_a_storm_with_an_invalid_entry_rejects_it_by_itself(store, bzctrl):
    """It is no part of the summary."""
    spool(store, *range(1, 26))
    spool(store, 30, impact="urgent")
    bzctrl.errors = [None, BzCtrlValidationError("Fix:", [("impact", "bad")])]
    result = deliver_to(store, bzctrl)
    assert (len(result.created), len(result.rejected)) == (1, 1)
    assert bzctrl.created[0]["title"].startswith("25 DAG runs")


def test_delivery_of_a_rejected_summary_sends_each_by_itself(store, bzctrl):
    """The fault may be the summary's; none of the incidents is lost with it."""
    spool(store, *range(1, 26))
    bzctrl.errors = [BzCtrlRejectedError("422", status_code=422)]
    result = deliver_to(store, bzctrl)
    assert (len(result.created), len(result.rejected)) == (25, 1)
    assert len(store.names("rejected")) == 1


def test_delivery_of_a_growing_storm_that_was_not_sent_makes_one_summary(store, bzctrl):
    """While BzCtrl cannot be reached, each delivery makes the summary again, of all that wait then."""
    spool(store, *range(1, 26))
    bzctrl.errors = [NOT_SENT]
    result = deliver_to(store, bzctrl)
    assert len(result.kept) == 1
    spool(store, *range(26, 41))
    deliver_to(store, bzctrl, now=LATER + MINUTE)
    assert [todo["title"].partition(" DAG")[0] for todo in bzctrl.created] == ["40"]
    assert store.names() == []


def test_delivery_of_a_summary_without_a_response_sends_the_same_again(store, bzctrl):
    """Later entries are no part of it: a second, different summary would hide the duplicate."""
    spool(store, *range(1, 26))
    bzctrl.errors = [UNKNOWN]
    deliver_to(store, bzctrl)
    spool(store, 26)
    deliver_to(store, bzctrl, now=LATER + MINUTE)
    assert [todo["title"].partition(" within")[0] for todo in bzctrl.created] == [
        "25 DAG runs failed",
        "T026",
    ]
    assert "may be a duplicate" in bzctrl.created[0]["description"]


def test_delivery_of_a_storm_without_time_keeps_its_entries(store, bzctrl):
    """The report names files that are there."""
    spool(store, *range(1, 26))
    result = deliver_to(store, bzctrl, may_start=lambda _: False)
    assert len(result.kept) == 25
    assert all(store.exists(kept["file"].removeprefix("memory://")) for kept in result.kept)


# A kill at every step


def numbers_in(todo):
    """Return the numbers of the incidents that a todo covers."""
    if todo["title"].startswith("T"):
        return [int(todo["title"][1:4])]
    return [
        int(line.split()[1].removeprefix("dag_").rstrip(","))
        for line in todo["description"].splitlines()
        if line.startswith("- dag_")
    ]


def check_all_are_there(bzctrl, numbers, *, rejected=frozenset()):
    """Each incident is created or rejected, and from the second time on it says that it may be a duplicate."""
    seen = {}
    for todo in bzctrl.created:
        for number in numbers_in(todo):
            if number in seen:
                assert "had no response" in todo["description"], (number, todo)
            seen[number] = seen.get(number, 0) + 1
    assert set(seen) | rejected == set(numbers)


def deliver_until_done(store, bzctrl, now):
    for _ in range(5):
        now += timedelta(hours=2)
        deliver_to(store, bzctrl, now=now)
    assert [name for name in store.names() if not name.startswith(".pause")] == []


@pytest.mark.parametrize(("count", "above"), [(1, 0), (3, 0), (4, 2)], ids=["one", "few", "storm"])
@pytest.mark.parametrize(
    "error", [None, NOT_SENT, UNKNOWN, BzCtrlRejectedError("422", status_code=422)], ids=str
)
def test_delivery_killed_at_each_step_creates_each_once_or_marked(count, above, error):
    """Whichever write or delete is the last one that is done: nothing is lost, and no duplicate is without its note."""
    steps = 0
    while True:
        steps += 1
        store, bzctrl = StoreInMemory(), BzCtrlInMemory()
        spool(store, *range(1, count + 1))
        bzctrl.errors = [error] if error else []
        store.steps, store.dies_at = 0, steps
        try:
            deliver_to(store, bzctrl, group_above=above)
        except Killed:
            store.dies_at = None
        else:
            break
        deliver_until_done(store, bzctrl, LATER)
        check_all_are_there(bzctrl, range(1, count + 1), rejected=rejected_numbers(store))
    assert steps > 4


def rejected_numbers(store):
    contents = [store.read(f"rejected/{name}") for name in store.names("rejected")]
    titles = [json.loads(content)["todo"]["title"] for content in contents]
    return {int(title[1:]) for title in titles if title.startswith("T")}


ACTIONS = st.lists(
    st.one_of(
        st.tuples(st.just("write"), st.integers(1, 60)),
        st.tuples(st.just("deliver"), st.sampled_from([None, NOT_SENT, UNKNOWN])),
        st.tuples(st.just("kill"), st.integers(1, 60)),
    ),
    max_size=12,
)


@settings(max_examples=80, deadline=None)
@given(actions=ACTIONS, above=st.sampled_from([0, 2, 20]))
def test_delivery_any_history_creates_each_once_or_marked(actions, above):
    """Writes, deliveries that fail, and kills in any order."""
    store, bzctrl = StoreInMemory(), BzCtrlInMemory()
    now, written = LATER, set()
    for action, value in actions:
        now += 2 * MINUTE
        if action == "write":
            written |= {value}
            spool(store, value)
            continue
        bzctrl.errors = [value] if action == "deliver" and value else []
        store.steps, store.dies_at = 0, value if action == "kill" else None
        try:
            deliver_to(store, bzctrl, now=now, group_above=above)
        except Killed:
            pass
        finally:
            store.dies_at = None
    bzctrl.errors = []
    deliver_until_done(store, bzctrl, now)
    check_all_are_there(bzctrl, written)
