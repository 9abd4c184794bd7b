from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor

import pytest

from bzctrl_provider.outbox import writer
from bzctrl_provider.outbox.writer import NotRaised, identify, note_created, release, write
from bzctrl_provider.store import incidents, problems
from bzctrl_provider.store.incidents import Incident
from bzctrl_provider.store.repeats import Repeats
from bzctrl_provider.text import digest_of

HOUR = 3600


@pytest.fixture(autouse=True)
def _store(used_store):
    """Each test writes into an empty store."""


def make(number, **values):
    fields = {"title": f"Check {number} failed", "description": "See the log.", "todo_type": "INCIDENT"}
    values = {"fields": fields, **values}
    return Incident(identity=identify("run", number), bzctrl_conn_id="bzctrl_default", **values)


def repeats(number, **rules):
    return Repeats(key="feed", occurrence=f"feed run {number}", **rules)


def is_raised(decision):
    return not isinstance(decision, NotRaised)


def outcome(decision):
    return decision.outcome if isinstance(decision, NotRaised) else "raised"


def read(store):
    with store.transaction() as tx:
        return incidents.list_of(tx, "waiting", "sending", "delivered", "rejected")


def test_incident_is_written_once_for_each_identity(store):
    """A callback that Airflow calls twice, also at the same moment, leaves one incident."""
    with ThreadPoolExecutor(8) as pool:
        written = list(pool.map(lambda _: write(make(1)), range(8)))
    assert sorted(map(outcome, written)) == ["known"] * 7 + ["raised"]
    assert [incident.identity for incident in read(store)] == [make(1).identity]


def test_failures_of_one_key_at_the_same_moment_are_one_incident(store):
    """Fifty failures of one key at once raise one incident, which counts fifty."""
    with ThreadPoolExecutor(16) as pool:
        written = list(pool.map(lambda n: write(make(n, repeats=repeats(n, window_s=HOUR))), range(50)))
    (raised,) = read(store)
    assert [one.identity for one in written if is_raised(one)] == [raised.identity]
    assert {one.first.identity for one in written if not is_raised(one)} == {raised.identity}
    with store.transaction() as tx:
        assert problems.find(tx, digest_of("window", "feed")).count == 50


def test_failures_in_a_row_at_the_same_moment_are_all_counted(store):
    """Thirty failures at once with consecutive_failures = 3 are thirty in a row: two wait, the others raise."""
    rules = {"consecutive_failures": 3}
    with ThreadPoolExecutor(16) as pool:
        written = list(pool.map(lambda n: write(make(n, repeats=repeats(n, **rules))), range(30)))
    waits = sorted(one.why for one in written if not is_raised(one))
    assert waits == ["failure 1 of 3 in a row", "failure 2 of 3 in a row"]
    with store.transaction() as tx:
        assert problems.find(tx, digest_of("window", "feed")).in_a_row == 30
    assert len(read(store)) == 28


def test_window_ends_by_its_time_and_the_next_incident_says_how_many_it_represented(store, clock):
    """After the window the next failure raises an incident, whose description has the number of those before."""
    for number in range(3):
        write(make(number, repeats=repeats(number, window_s=HOUR)))
    clock.now += HOUR
    assert is_raised(write(make(3, repeats=repeats(3, window_s=HOUR))))
    last = read(store)[-1].fields["description"]
    assert last.endswith("Seen 3 times since 2027-01-15T08:00:00Z, when the first incident was raised.")


def test_success_ends_the_window_and_the_count(store):
    """A success that was not known at the failure before ends window and count, whatever the clocks of the machines say."""
    success = [None]
    rules = {"window_s": HOUR, "find_success": lambda: success[0]}
    table = [
        # the last success before the failure, and whether it raises an incident
        (None, True),
        (None, False),
        # A worker whose clock is 90 s behind, or ahead: the time only has to be another one.
        (1_000.0, True),
        (1_000.0, False),
        (9_999_999_999.0, True),
        # A run of an earlier date has an earlier success before it, or none.
        (1_000.0, False),
        (None, False),
        (9_999_999_999.0, False),
    ]
    for number, (at, expected) in enumerate(table):
        success[0] = at
        assert is_raised(write(make(number, repeats=repeats(number, **rules)))) is expected, number
    counted = []
    for number, at in enumerate([1.0, 1.0, 2.0, 2.0, 2.0]):
        rule = Repeats(
            key="row", occurrence=str(number), consecutive_failures=3, find_success=lambda at=at: at
        )
        decision = write(make(f"row {number}", repeats=rule))
        counted.append("" if is_raised(decision) else decision.why)
    assert counted == [f"failure {n} of 3 in a row" for n in (1, 2, 1, 2)] + [""]


def test_success_of_one_source_is_not_compared_with_that_of_another(store):
    """DAGs with one key that fail at once are one incident, whichever succeeded last; then a success of one ends the window."""
    last = {"orders": 1_000.0, "feeds": 2_000.0, "customs": 3_000.0}
    raised = []
    for number, dag_id in enumerate(["orders", "feeds", "customs", "orders", "feeds", "orders"]):
        if number == 5:
            last["orders"] = 4_000.0
        rules = {"window_s": HOUR, "find_success": lambda dag_id=dag_id: last[dag_id], "source": dag_id}
        raised.append(is_raised(write(make(number, repeats=repeats(number, **rules)))))
    assert raised == [True, False, False, False, False, True]


def test_success_that_cannot_be_looked_up_costs_no_incident(store, caplog):
    """If Airflow cannot be asked for the last success, the failure raises an incident, and still counts as one in a row."""

    def fail():
        raise OSError("Airflow is away")

    rules = {"window_s": HOUR, "find_success": fail}
    assert is_raised(write(make(1, repeats=repeats(1, **rules))))
    assert is_raised(write(make(2, repeats=repeats(2, **rules))))
    assert "Airflow is away" in caplog.text
    row = {"consecutive_failures": 2, "find_success": fail}
    assert outcome(write(make(3, repeats=Repeats(key="row", occurrence="1", **row)))) == "counted"
    assert is_raised(write(make(4, repeats=Repeats(key="row", occurrence="2", **row))))


def test_same_occurrence_counts_once(store):
    """A run whose callback is called twice, or that is cleared and fails again, is one failure in a row."""
    rules = {"consecutive_failures": 3}
    for number in (1, 1, 2, 1):
        decision = write(make(number, repeats=repeats(number, **rules)))
    assert str(decision) == "No incident: failure 2 of 3 in a row."


def test_rejected_incident_represents_no_other(store):
    """A failure in the window of an incident that BzCtrl rejected raises one of its own."""
    first = write(make(1, repeats=repeats(1, window_s=HOUR)))
    with store.transaction() as tx:
        incidents.note_rejected(tx, first, "no such workspace")
        problems.release(tx, first.identity)
    assert is_raised(write(make(2, repeats=repeats(2, window_s=HOUR))))


def test_task_announces_its_incident_and_releases_it(store, clock):
    """Others are represented by the incident that a task is creating; one that was not created represents none."""
    rules = {"window_s": 10 * HOUR}
    one, other = (make(number, repeats=repeats(number, **rules)) for number in (1, 2))
    assert is_raised(writer.claim(one))
    assert is_raised(writer.claim(one)), "a retry is the same failure"
    assert writer.claim(other).first.identity == one.identity
    release(one)
    assert is_raised(writer.claim(other))
    note_created(other, {"key": "EXA-03", "link": "https://bzctrl.example.com/03"})
    assert str(writer.claim(one)) == (
        "No incident: EXA-03 (https://bzctrl.example.com/03) is open for the same failure since 2027-01-15T08:00:00Z, "
        "until 2027-01-15T18:00:00Z."
    )
    # A task that was killed while it created its incident represents the others for an hour.
    killed, later = (
        make(number, repeats=Repeats(key="killed", occurrence=str(number), **rules)) for number in (3, 4)
    )
    assert is_raised(writer.claim(killed))
    assert outcome(writer.claim(later)) == "represented"
    clock.now += HOUR
    assert is_raised(writer.claim(later))


def test_pass_of_a_roll_up_ends_the_window(store, clock):
    """The last pass of the checks is read in the transaction of the decision; without an earlier failure none is written."""
    key = digest_of("pass", "dag", "raise_incident")
    rules = {"window_s": 10 * HOUR, "pass_key": key}
    with store.transaction() as tx:
        problems.note_pass(tx, key)
        assert problems.find(tx, key).passed_at is None
        problems.lock(tx, key, "dag raise_incident")
    assert is_raised(write(make(1, repeats=repeats(1, **rules))))
    assert not is_raised(write(make(2, repeats=repeats(2, **rules))))
    with store.transaction() as tx:
        problems.note_pass(tx, key)
    assert is_raised(write(make(3, repeats=repeats(3, **rules))))


@pytest.mark.security
def test_secrets_that_airflow_masks_are_not_written(store):
    """Secrets that Airflow masks are masked in fields, facts and reason before they are written."""
    from airflow.providers.common.compat.sdk import mask_secret

    mask_secret("s3cret-of-the-warehouse")
    text = "login with s3cret-of-the-warehouse"
    write(make(1, fields={"title": text, "category": [text]}, facts={"reason": text}, reason=text))
    assert "s3cret" not in repr(read(store))
