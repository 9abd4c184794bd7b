from __future__ import annotations

import logging

import pytest
from sqlalchemy import event
from support.outbox import (
    DAY,
    DEFAULTS,
    DESCRIPTION,
    HOUR,
    MINUTE,
    START,
    BzCtrlInMemory,
    add,
    deliver_to,
    new_incident,
    read,
    wipe,
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
from bzctrl_provider.outbox import delivery as module
from bzctrl_provider.outbox.writer import identify
from bzctrl_provider.store import deliveries, incidents, problems, schema
from bzctrl_provider.store.database import StoreError
from bzctrl_provider.store.incidents import Incident

UNKNOWN = BzCtrlTransportError("no response", outcome_unknown=True)
NOT_SENT = BzCtrlTransportError("not connected")
REJECTED = BzCtrlRejectedError("422: no", status_code=422)
INVALID = BzCtrlValidationError("Fix:", [("impact", "bad")])


@pytest.fixture
def bzctrl():
    return BzCtrlInMemory()


def heads(bzctrl):
    return [todo["title"].partition(" within")[0] for todo in bzctrl.created]


def deliver_each_minute(store, bzctrl, clock, minutes):
    """Return the minutes in which a delivery that runs each minute sent a todo."""
    attempts = []
    for minute in range(minutes):
        before = len(bzctrl.errors)
        deliver_to(store, bzctrl)
        clock.now += MINUTE
        if len(bzctrl.errors) < before:
            attempts.append(minute)
    return attempts


def test_delivery_of_many_sends_the_oldest_first_and_keeps_key_and_link(store, bzctrl):
    """Each is created once, and its row has the key and link of its todo from then on."""
    add(store, 5, 1, 3)
    todos = {}
    result = deliver_to(store, bzctrl, todos=todos)
    assert bzctrl.titles == ["T001", "T003", "T005"]
    assert bzctrl.created[0]["description"] == DESCRIPTION
    assert [created["key"] for created in result.created] == ["KEY-01", "KEY-02", "KEY-03"]
    identity = new_incident(1).identity
    assert todos[identity] == {"key": "KEY-01", "link": "https://bzctrl.example/KEY-01"}
    first = read(store, "delivered")[0]
    assert (first.identity, first.key, first.link) == (identity, "KEY-01", "https://bzctrl.example/KEY-01")
    add(store, 1)  # as a callback that is called again
    assert deliver_to(store, bzctrl).created == []
    assert bzctrl.closed == 1


def test_delivery_of_many_sends_batches(store, bzctrl):
    """That bounds how many are in doubt when the process is killed."""
    add(store, *range(20))
    deliver_to(store, bzctrl)
    assert bzctrl.batches == [8, 8, 4]


def test_delivery_with_limit_sends_no_more(store, bzctrl):
    """The rest is kept and says so, and goes with the next delivery."""
    add(store, *range(12))
    result = deliver_to(store, bzctrl, limit=10)
    assert (len(result.created), len(result.kept)) == (10, 2)
    assert len(deliver_to(store, bzctrl).created) == 2


def test_delivery_without_time_sends_nothing_more(store, bzctrl):
    """A batch is begun only if there is time for it."""
    add(store, *range(12))
    answers = iter([True, False])
    result = deliver_to(store, bzctrl, batch=1, may_start=lambda _: next(answers))
    assert (len(result.created), len(result.kept)) == (1, 11)
    assert result.kept[0]["reason"] == "Not tried. There was no time for it."


def test_delivery_with_a_slow_token_sends_no_todo_and_notes_no_attempt(store, bzctrl):
    """The time of the token shows that there is none for a todo, so that nothing is in doubt."""
    add(store, 1, 2)
    result = deliver_to(store, bzctrl, may_start=lambda _: False)
    assert (bzctrl.logins, bzctrl.batches) == (1, [])
    assert len(result.kept) == 2
    assert [incident.unanswered for incident in read(store, "waiting")] == [(), ()]


def test_delivery_without_a_token_keeps_all_and_pauses_the_connection(store, bzctrl, clock):
    """One request for a token is made, none for a todo, and for a minute nobody tries again."""
    add(store, 1, 2)
    bzctrl.login_error = NOT_SENT
    result = deliver_to(store, bzctrl)
    assert (bzctrl.logins, bzctrl.batches, len(result.kept)) == (1, [], 2)
    assert [incident.unanswered for incident in read(store, "waiting")] == [(), ()]
    bzctrl.login_error = None
    assert "Not tried before 2027-01-15T08:01:00Z" in deliver_to(store, bzctrl).kept[0]["reason"]
    assert bzctrl.logins == 1
    clock.now += MINUTE
    assert len(deliver_to(store, bzctrl).created) == 2


def test_delivery_of_nothing_due_asks_for_no_token(store, bzctrl, clock):
    """An account is not logged in each minute for incidents that have to wait."""
    add(store, 1)
    bzctrl.errors = [UNKNOWN] * 3
    for _ in range(3):
        deliver_to(store, bzctrl)
        clock.now += HOUR
    logins = bzctrl.logins
    clock.now += 30 - HOUR
    deliver_to(store, bzctrl)
    assert bzctrl.logins == logins == 3


def test_delivery_error_without_a_doubt_keeps_the_incident_without_a_note(store, bzctrl, clock):
    """The next delivery creates it as if nothing had happened."""
    add(store, 1, 2)
    bzctrl.errors = [BzCtrlRateLimitError("429: too many")]
    result = deliver_to(store, bzctrl)
    reasons = [kept["reason"].rpartition(".")[2] for kept in result.kept]
    assert reasons == ["BzCtrlRateLimitError: 429: too many"]
    (kept,) = read(store, "waiting")
    assert (kept.unanswered, kept.reason.rpartition(" ")[2]) == ((), "many")
    clock.now += MINUTE
    deliver_to(store, bzctrl)
    assert [todo["description"] for todo in bzctrl.created] == [DESCRIPTION] * 2


def test_delivery_error_of_unknown_outcome_marks_the_next_attempt(store, bzctrl, clock):
    """The description names each attempt without a response, also after one that certainly failed."""
    add(store, 1)
    bzctrl.errors = [UNKNOWN, NOT_SENT, RuntimeError("a surprise")]
    for _ in range(4):
        deliver_to(store, bzctrl)
        clock.now += HOUR
    assert bzctrl.created[0]["description"].splitlines()[-1] == (
        "Attempts at 2027-01-15T08:00:00Z, 2027-01-15T10:00:00Z had no response, so this may be a duplicate."
    )


def test_delivery_many_unknown_outcomes_make_the_incident_wait_longer(store, bzctrl, clock):
    """Each attempt may be one more duplicate: at most one an hour in the end, unless somebody asks for it."""
    add(store, 1)
    bzctrl.errors = [UNKNOWN] * 100
    assert deliver_each_minute(store, bzctrl, clock, 66) == [0, 1, 2, 4, 8, 16, 32, 64]
    clock.now += 57 * MINUTE
    assert deliver_each_minute(store, bzctrl, clock, 3) == [1], "an hour after the last one"
    deliver_to(store, bzctrl, ignore_pauses=True)
    assert len(bzctrl.errors) == 100 - 10


def test_delivery_many_unknown_outcomes_are_noted_by_the_last_twenty(store, bzctrl, clock):
    """The description does not grow for ever."""
    add(store, 1)
    bzctrl.errors = [UNKNOWN] * 25
    for _ in range(26):
        deliver_to(store, bzctrl)
        clock.now += HOUR
    note = bzctrl.created[0]["description"].splitlines()[-1]
    assert note.startswith("Attempts at 2027-01-15T13:00:00Z, ")
    assert note.count("2027-") == 20


def test_delivery_of_a_rejected_incident_keeps_it_apart_and_goes_on(store, bzctrl, clock, caplog):
    """It is kept with its reason and is not tried again, the others are created, and the next failure raises a new one."""
    for error in (REJECTED, INVALID):
        wipe(store)
        bzctrl.created.clear()
        add(store, 1, 2, 3)
        with store.transaction() as tx:
            problem = problems.lock(tx, "key", "feed")
            rejected = new_incident(2).identity
            problems.save(tx, "key", problem.with_incident(rejected, now=tx.now, window_s=HOUR))
        bzctrl.errors = [None, error]
        result = deliver_to(store, bzctrl)
        assert bzctrl.titles == ["T001", "T003"]
        (kept,) = read(store, "rejected")
        assert result.rejected == [{"identity": rejected, "reason": kept.reason}]
        assert str(error).splitlines()[0] in kept.reason
        assert logging.ERROR in [record.levelno for record in caplog.records]
        assert deliver_to(store, bzctrl).as_dict() == {
            "created": [],
            "kept": [],
            "rejected": [],
            "busy": False,
        }
        with store.transaction() as tx:
            assert not problems.find(tx, "key").is_represented(now=tx.now, window_s=HOUR)


def test_delivery_with_an_incomplete_connection_keeps_what_it_would_complete(store, bzctrl, caplog):
    """Nothing is requested or rejected, one line says why, and after the correction all are created, as a storm too."""
    table = [
        ({"domain_workspace": "EXA-CON-BUS-WOR"}, "no reporter"),
        ({"reporter": "reporter@example.com"}, "no domain_workspace"),
        ({}, "no domain_workspace and no reporter"),
    ]
    for defaults, lacks in table:
        wipe(store)
        caplog.clear()
        bzctrl.__init__()
        add(store, *range(1, 26))
        bzctrl.defaults = defaults
        result = deliver_to(store, bzctrl)
        assert (bzctrl.logins, bzctrl.batches, result.rejected, len(result.kept)) == (0, [], [], 25)
        reason = (
            f"Not tried. The todo has {lacks}, and neither has the connection a: add it there within 3 days."
        )
        assert {kept["reason"] for kept in result.kept} == {one.reason for one in read(store)} == {reason}
        assert len(caplog.records) == 1
        bzctrl.defaults = DEFAULTS
        assert len(deliver_to(store, bzctrl).created) == 1
        assert heads(bzctrl) == ["25 DAG runs failed"]
        assert not read(store, "waiting", "sending")


def test_delivery_with_an_incomplete_connection_keeps_only_what_is_unset(store, bzctrl):
    """A todo with a reporter of its own waits for nobody; one that has another fault, or an invalid value, is rejected."""
    table = [
        # a field of the todo, and the state of its row after the delivery
        ({}, "waiting"),
        ({"reporter": None}, "waiting"),
        ({"reporter": " "}, "waiting"),
        ({"reporter": "team@example.com"}, "delivered"),
        ({"impact": "urgent"}, "rejected"),
        ({"reporter": "nobody"}, "rejected"),
        ({"reporter": 0}, "rejected"),
    ]
    for number, (fields, _) in enumerate(table):
        add(store, number, **fields)
    bzctrl.defaults = {"domain_workspace": "EXA-CON-BUS-WOR"}
    bzctrl.errors = [None, INVALID, INVALID, INVALID]
    deliver_to(store, bzctrl)
    assert [one.state for one in read(store)] == [state for _, state in table]


def test_delivery_with_an_incomplete_connection_rejects_after_three_days(store, bzctrl, clock):
    """A connection that never supplies a field does not make the delivery fail for ever."""
    add(store, 60)  # at 08:00
    bzctrl.defaults = {}
    bzctrl.errors = [BzCtrlValidationError("Fix:", [("reporter", "is mandatory")])]
    clock.now += 3 * DAY
    assert len(deliver_to(store, bzctrl).kept) == 1
    clock.now += 1
    assert len(deliver_to(store, bzctrl).rejected) == 1


def test_delivery_of_an_incident_that_waits_writes_its_reason_once(store, bzctrl):
    """The reason is not written again each minute for three days."""
    add(store, 1)
    bzctrl.defaults = {}
    deliver_to(store, bzctrl)
    statements = []
    event.listen(store._engine, "before_cursor_execute", lambda *row: statements.append(row[2]))
    deliver_to(store, bzctrl)
    assert not [one for one in statements if one.startswith("UPDATE bzctrl_incident")]


def test_delivery_to_a_wrong_address_keeps_all(store, bzctrl):
    """No todo is at fault for it: none is rejected, and the connection is paused."""
    for status in (302, 404, 405, 407):
        wipe(store)
        bzctrl.__init__()
        add(store, *range(12))
        bzctrl.errors = [BzCtrlRejectedError("no", status_code=status)] * 12
        result = deliver_to(store, bzctrl)
        assert (len(result.kept), result.rejected, bzctrl.batches) == (12, [], [8]), status


def test_delivery_with_a_failed_connection_pauses_it_for_a_minute(store, clock):
    """One batch is tried, nobody tries again before a minute has passed, and another connection is used all the same."""
    errors = [
        NOT_SENT,
        UNKNOWN,
        BzCtrlServerError("503"),
        BzCtrlRateLimitError("429"),
        BzCtrlAuthError("401"),
        BzCtrlConfigError("Fix:", [("host", "missing")]),
    ]
    for error in errors:
        wipe(store)
        clock.now = START
        bzctrl, other = BzCtrlInMemory(), BzCtrlInMemory()
        add(store, *range(9))
        add(store, 99, conn_id="b")
        bzctrl.errors = [error] * 8
        connect = {"a": bzctrl, "b": other}.__getitem__
        deliver_to(store, bzctrl, connect=connect)
        assert (bzctrl.batches, other.titles) == ([8], ["T099"]), error
        clock.now += 59
        result = deliver_to(store, bzctrl, connect=connect)
        assert bzctrl.batches == [8]
        assert result.kept[0]["reason"].startswith(
            "Not tried before 2027-01-15T08:01:00Z. The connection a cannot be used"
        )
        clock.now += 1
        assert len(deliver_to(store, bzctrl, connect=connect).created) == 9
        with store.transaction() as tx:
            assert deliveries.find_pause(tx, "a") is None


def test_delivery_by_hand_ignores_the_pause(store, bzctrl):
    """Who has corrected the connection need not wait."""
    add(store, 1)
    bzctrl.errors = [NOT_SENT]
    deliver_to(store, bzctrl)
    assert len(deliver_to(store, bzctrl, ignore_pauses=True).created) == 1


def test_delivery_with_refused_credentials_pauses_longer_each_time(store, bzctrl, clock):
    """An account that is asked with a wrong password each minute may be locked."""
    add(store, 1)
    bzctrl.errors = [BzCtrlAuthError("401")] * 1000
    assert deliver_each_minute(store, bzctrl, clock, 33) == [0, 1, 3, 7, 15, 31]
    clock.now += 27 * MINUTE
    assert deliver_each_minute(store, bzctrl, clock, 3) == [1], "half an hour after the last one"


def test_delivery_pause_follows_retry_after(store, bzctrl, clock):
    """At most for half an hour."""
    for asked_s, paused_s in ((600, 600), (7 * DAY, 30 * MINUTE)):
        wipe(store)
        add(store, 1)
        bzctrl.errors = [BzCtrlRateLimitError("429", retry_after_s=asked_s)]
        deliver_to(store, bzctrl)
        clock.now += paused_s - 1
        assert deliver_to(store, bzctrl).created == []
        clock.now += 1
        assert len(deliver_to(store, bzctrl).created) == 1


def test_delivery_with_a_missing_connection_keeps_its_incidents(store, bzctrl):
    """Another connection can be named for all."""
    add(store, 1, 2)

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
    add(store, 1, 2)

    def surprise():
        raise RuntimeError("a surprise")

    bzctrl.before = surprise
    assert len(deliver_to(store, bzctrl).kept) == 2
    assert [len(incident.unanswered) for incident in read(store, "waiting")] == [1, 1]


def fail_statements(store, beginning, when=lambda: True):
    """Let statements with some beginning fail as on a full disk; return what ends that."""

    def fail(connection, cursor, statement, parameters, context, executemany):
        if statement.startswith(beginning) and when():
            raise StoreError("The disk is full")

    event.listen(store._engine, "before_cursor_execute", fail)
    return lambda: event.remove(store._engine, "before_cursor_execute", fail)


def test_delivery_whose_outcome_cannot_be_written_marks_the_incident_later(store, bzctrl, clock):
    """Nobody knows later that it was created, so the next attempt says that it may be a duplicate, and when the first was."""
    add(store, 1)
    restore = fail_statements(store, "UPDATE bzctrl_incident", when=lambda: bzctrl.batches)
    with pytest.raises(StoreError, match="The disk is full"):
        deliver_to(store, bzctrl)
    restore()
    clock.now += HOUR
    deliver_to(store, bzctrl)
    assert bzctrl.created[1]["description"].splitlines()[-1] == (
        "An attempt at 2027-01-15T08:00:00Z had no response, so this may be a duplicate."
    )


def test_delivery_that_cannot_note_the_attempt_sends_nothing(store, bzctrl):
    """Otherwise a full disk would make a duplicate of each incident in each minute."""
    add(store, 1)
    fail_statements(store, "UPDATE bzctrl_incident")
    with pytest.raises(StoreError, match="The disk is full"):
        deliver_to(store, bzctrl)
    assert bzctrl.created == []


@pytest.mark.parametrize("text", ["\x00", "\ud800", "\x1b[2J\u202e"], ids=["nul", "half a pair", "terminal"])
def test_delivery_of_hostile_text_is_stored_and_sent(store, bzctrl, text):
    """No character that a database refuses, from data, from Airflow or from BzCtrl, stops the delivery."""
    from bzctrl_provider.outbox.writer import redacted

    hostile = new_incident(1, conn_id=f"a{text}", title=f"T{text}")
    facts = {"dag_id": text, "reason": text}
    incident = Incident(**{**vars(hostile), "facts": facts, "reason": text})
    with store.transaction() as tx:
        problems.lock(tx, "key", f"feed {text}")
        incidents.add(tx, redacted(incident))
    bzctrl.errors = [BzCtrlServerError(text, outcome_unknown=True)]
    deliver_to(store, bzctrl)
    deliver_to(store, bzctrl, ignore_pauses=True)
    assert len(bzctrl.created) == 1


# Storms


def test_delivery_of_a_storm_creates_one_summary(store, bzctrl):
    """More than the limit of one workspace and assignee become one; others are sent beside it."""
    add(store, *range(1, 26))
    add(store, 30, assignee="other@example.com")
    add(store, 31, todo_type="TASK")
    todos = {}
    result = deliver_to(store, bzctrl, todos=todos)
    assert heads(bzctrl) == ["25 DAG runs failed", "T030", "T031"]
    assert len(result.created) == 3
    summary = bzctrl.created[0]["order_id"]
    rows = {one.identity: one for one in read(store, "delivered")}
    for number in range(1, 26):
        row = rows[new_incident(number).identity]
        assert (row.key, row.summary) == ("KEY-01", summary)
        assert todos[row.identity]["key"] == "KEY-01"
    assert not read(store, "waiting", "sending")


def test_delivery_without_a_storm_creates_each(store, bzctrl):
    """At the limit there is none yet, and 0 turns it off."""
    for above, number in ((20, 20), (0, 30)):
        wipe(store)
        bzctrl.created.clear()
        add(store, *range(number))
        deliver_to(store, bzctrl, group_above=above)
        assert len(bzctrl.created) == number


def test_delivery_groups_by_the_defaults_of_the_connection(store, bzctrl):
    """An incident without a workspace belongs to that of its connection."""
    add(store, *range(1, 12))
    add(store, *range(12, 23), domain_workspace="EXA-CON-BUS-WOR")
    deliver_to(store, bzctrl)
    assert len(bzctrl.created) == 1


def test_delivery_of_a_storm_with_an_invalid_incident_rejects_it_by_itself(store, bzctrl):
    """It is no part of the summary."""
    add(store, *range(1, 26))
    add(store, 30, impact="urgent")
    bzctrl.errors = [None, INVALID]
    result = deliver_to(store, bzctrl)
    assert (len(result.created), len(result.rejected)) == (1, 1)
    assert heads(bzctrl) == ["25 DAG runs failed"]


def test_delivery_of_a_rejected_summary_sends_each_by_itself(store, bzctrl):
    """The fault may be the summary's; none of the incidents is lost with it."""
    add(store, *range(1, 26))
    bzctrl.errors = [REJECTED]
    result = deliver_to(store, bzctrl)
    assert (len(result.created), len(result.rejected)) == (25, 1)
    assert [one.is_summary for one in read(store, "rejected")] == [True]


def test_delivery_of_a_rejected_summary_sends_others_no_second_time(store, bzctrl, clock):
    """An incident that waits or had no response beside the summary is reported once, and sent later with its note."""
    add(store, *range(1, 26))
    add(store, 30, unanswered=("2027-01-15T07:59:00Z",) * 3)
    add(store, 31, todo_type="TASK")
    add(store, 32, todo_type="TASK")
    bzctrl.errors = [REJECTED, UNKNOWN]
    result = deliver_to(store, bzctrl)
    assert sorted(one["identity"] for one in result.kept) == sorted(
        new_incident(number).identity for number in (30, 31)
    )
    clock.now += HOUR
    deliver_to(store, bzctrl)
    notes = {todo["title"]: "may be a duplicate" in todo["description"] for todo in bzctrl.created}
    assert len(bzctrl.created) == len(notes) == 28
    assert [title for title, is_noted in notes.items() if is_noted] == ["T030", "T031"]


def test_delivery_of_a_growing_storm_that_was_not_sent_makes_one_summary(store, bzctrl, clock):
    """While BzCtrl cannot be reached, each delivery makes the summary again, of all that wait then."""
    add(store, *range(1, 26))
    bzctrl.errors = [NOT_SENT]
    result = deliver_to(store, bzctrl)
    assert len(result.kept) == 1
    add(store, *range(26, 41))
    clock.now += MINUTE
    deliver_to(store, bzctrl)
    assert heads(bzctrl) == ["40 DAG runs failed"]
    assert not read(store, "waiting", "sending")


def test_delivery_of_a_summary_without_a_response_sends_the_same_again(store, bzctrl, clock):
    """Later incidents are no part of it: a second, different summary would hide the duplicate."""
    add(store, *range(1, 26))
    bzctrl.errors = [UNKNOWN]
    result = deliver_to(store, bzctrl)
    assert len(result.kept) == 1
    add(store, 26)
    clock.now += MINUTE
    deliver_to(store, bzctrl)
    assert heads(bzctrl) == ["25 DAG runs failed", "T026"]
    assert "may be a duplicate" in bzctrl.created[0]["description"]


def test_delivery_tries_a_summary_once(store, bzctrl):
    """A summary without a response is not sent again by the same delivery, also if BzCtrl created something beside it."""
    add(store, *range(1, 26))
    add(store, 30, todo_type="TASK")
    bzctrl.errors = [UNKNOWN]
    result = deliver_to(store, bzctrl, ignore_pauses=True)
    assert bzctrl.titles == ["T030"]
    assert len(result.kept) == 1


def test_delivery_of_a_storm_without_time_keeps_its_incidents(store, bzctrl):
    """The report names incidents that are there."""
    add(store, *range(1, 26))
    result = deliver_to(store, bzctrl, may_start=lambda _: False)
    assert {kept["identity"] for kept in result.kept} == {one.identity for one in read(store, "waiting")}
    assert len(result.kept) == 25


# What is left


def test_delivery_deletes_what_is_old(store, bzctrl, clock):
    """Delivered ones after 7 days, not while their window is open; problems after 30; rejected ones never."""
    add(store, 1, 2, 3)
    bzctrl.errors = [None, None, REJECTED]
    deliver_to(store, bzctrl)
    one, two, three = (new_incident(number).identity for number in (1, 2, 3))
    with store.transaction() as tx:
        for key, identity, window_s in (("short", one, HOUR), ("long", two, 40 * DAY)):
            problem = problems.lock(tx, key, key)
            problems.save(tx, key, problem.with_incident(identity, now=tx.now, window_s=window_s))

    def left():
        deliver_to(store, bzctrl)
        with store.transaction() as tx:
            keys = {key for key in ("short", "long") if problems.find(tx, key).count}
        return {one.identity for one in read(store)}, keys

    clock.now += 7 * DAY
    assert left() == ({one, two, three}, {"short", "long"})
    clock.now += 1
    assert left() == ({two, three}, {"short", "long"})
    clock.now = START + 30 * DAY + 1
    assert left() == ({two, three}, {"long"})
    clock.now = START + 40 * DAY + 1
    assert left() == ({three}, set())


def test_delivery_measures_what_waits(store, bzctrl, clock, monkeypatch):
    """The gauges have the number of incidents that wait and the age of the oldest, without summaries."""
    gauges = []
    monkeypatch.setattr(module, "gauge_outbox", lambda **values: gauges.append(values))
    add(store, *range(1, 26))
    bzctrl.errors = [UNKNOWN]
    deliver_to(store, bzctrl)
    clock.now += HOUR
    deliver_to(store, bzctrl)
    assert gauges == [{"waiting": 25, "oldest_s": 59 * MINUTE}, {"waiting": 0, "oldest_s": 0}]


# Several processes


def test_delivery_sends_what_comes_meanwhile(store, bzctrl):
    """Incidents that others write while a delivery sends are delivered by the same run, whatever their number in the table."""
    add(store, 1)
    with store.transaction() as tx:
        incidents.add(tx, new_incident(7))
        tx.connection.execute(schema.incident.update().values(id=schema.incident.c.id + 1000))
    coming = [2, 3]

    def write_another():
        if coming:
            add(store, coming.pop(0))

    bzctrl.before = write_another
    result = deliver_to(store, bzctrl)
    assert bzctrl.titles == ["T001", "T007", "T002", "T003"]
    assert (len(result.created), result.kept) == (4, [])


def test_delivery_while_another_delivers_is_busy(store, bzctrl):
    """Nothing is sent twice, and the first one goes on."""
    add(store, 1)
    others = []
    bzctrl.before = lambda: others.append(deliver_to(store, bzctrl))
    result = deliver_to(store, bzctrl)
    assert [other.as_dict() for other in others] == [
        {"created": [], "kept": [], "rejected": [], "busy": True}
    ]
    assert len(result.created) == len(bzctrl.created) == 1
    add(store, 2)
    bzctrl.before = lambda: None
    assert len(deliver_to(store, bzctrl).created) == 1, "the lease was given back"


def test_delivery_whose_lease_has_ended_stops_before_its_next_batch(store, clock):
    """A process that was suspended leaves the rest to the one that took over, and overwrites none of its outcomes."""
    for error in (None, NOT_SENT, REJECTED):
        wipe(store)
        first, second = BzCtrlInMemory(), BzCtrlInMemory()
        add(store, *range(12))
        first.errors = [error] * 8
        taken = []

        def suspend(first=first, second=second, taken=taken):
            clock.now += 61
            taken.append(deliver_to(store, second))

        first.before = suspend
        result = deliver_to(store, first)
        assert first.batches == [8], error
        assert (len(taken[0].created), second.batches) == (12, [8, 4])
        assert [one.state for one in read(store)] == ["delivered"] * 12
        marked = ["may be a duplicate" in todo["description"] for todo in second.created]
        assert sorted(marked) == [False] * 4 + [True] * 8
        assert len(result.kept) == (4 if error is None else 12)
        assert deliver_to(store, first).as_dict() == {
            "created": [],
            "kept": [],
            "rejected": [],
            "busy": False,
        }


def test_delivery_whose_lease_has_ended_does_not_end_that_of_another(store, clock):
    """The process that took over keeps the others out until it has ended itself."""
    first, second = BzCtrlInMemory(), BzCtrlInMemory()
    add(store, 1)
    clock_at_end = []

    def suspend():
        clock.now += 61
        with store.transaction() as tx:
            assert deliveries.take_lease(tx, "second", for_s=60)

    first.before = suspend
    deliver_to(store, first)
    assert deliver_to(store, second).busy
    assert clock_at_end == []


def test_delivery_of_a_storm_larger_than_the_parameters_of_a_statement(store, bzctrl):
    """A storm of any size is one summary, although SQLite takes at most 32,766 parameters for one statement."""
    if store.is_file:

        def limit(connection, _record):
            connection.setlimit(9, 600)  # SQLITE_LIMIT_VARIABLE_NUMBER

        event.listen(store._engine, "connect", limit)
    add(store, *range(1200))
    deliver_to(store, bzctrl)
    assert heads(bzctrl) == ["1200 DAG runs failed"]
    assert identify("a", 1) in {one.identity for one in read(store, "delivered")}
