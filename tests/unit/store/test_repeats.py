from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from bzctrl_provider.failure import FailedTask, Failure
from bzctrl_provider.store.repeats import Problem, key_of_failure
from bzctrl_provider.text import LINE_CHARS, LIST_ITEMS

HOUR = 3600.0
NOW = 1_800_000_000.0
RAISED = Problem().with_incident("one", now=NOW, window_s=HOUR)


def test_window_begins_with_its_incident_and_ends_by_its_time():
    """An incident represents the others for the window, the end not included; without one nothing is represented."""
    table = [
        # the problem, the seconds since its incident, the length of the window, whether a failure is represented
        (Problem(), 0, HOUR, False),
        (RAISED, 0, HOUR, True),
        (RAISED, HOUR - 1, HOUR, True),
        (RAISED, HOUR, HOUR, False),
        # The window of the failure that asks is what counts.
        (RAISED, HOUR, 2 * HOUR, True),
        (RAISED, 0, 0, False),
        # A clock of the database that was set back.
        (RAISED, -HOUR, HOUR, True),
    ]
    for problem, passed_s, window_s, is_represented in table:
        assert problem.is_represented(now=NOW + passed_s, window_s=window_s) is is_represented
    assert (RAISED.count, RAISED.until, RAISED.counted) == (1, NOW + HOUR, ("one",))


def test_represented_failure_counts_once():
    """A callback that is called twice for one failure counts it once; the incident itself is counted already."""
    problem = RAISED
    for identity, count in (("one", 1), ("two", 2), ("two", 2), ("three", 3), ("one", 3)):
        problem = problem.with_represented(identity)
        assert problem.count == count
    for number in range(100):
        problem = problem.with_represented(str(number))
    assert (problem.count, len(problem.counted)) == (103, LIST_ITEMS)


def test_success_ends_window_and_count():
    """A failure after it raises an incident, and is the first in a row; the passes before it stay."""
    problem = RAISED.with_failure("a", now=NOW).with_failure("b", now=NOW)
    after = problem.ended()
    assert problem.is_represented(now=NOW, window_s=HOUR)
    assert not after.is_represented(now=NOW, window_s=HOUR)
    assert (after.in_a_row, after.occurrences) == (0, ())
    assert after.count == problem.count


def test_failures_in_a_row_are_counted_once_each():
    """The same occurrence counts once; the first one gives the time since when."""
    problem = Problem()
    table = [("a", 1, NOW), ("b", 2, NOW), ("a", 2, NOW), ("b", 2, NOW), ("c", 3, NOW)]
    for number, (occurrence, in_a_row, since) in enumerate(table):
        problem = problem.with_failure(occurrence, now=NOW + number)
        assert (problem.in_a_row, problem.since) == (in_a_row, since)
    assert problem.failed_at == NOW + 4
    after = problem.ended().with_failure("a", now=NOW + 9)
    assert (after.in_a_row, after.since) == (1, NOW + 9)


@given(names=st.lists(st.text(max_size=3 * LINE_CHARS), max_size=60))
def test_failures_of_any_name_leave_a_bounded_record(names):
    """However many and long the names of occurrences are, the record has the last ones, cut."""
    problem = Problem()
    for name in names:
        problem = problem.with_failure(name, now=NOW)
    assert problem.in_a_row >= min(1, len(names))
    assert len(problem.occurrences) <= LIST_ITEMS
    assert all(len(name) <= LINE_CHARS for name in problem.occurrences)


def test_key_of_a_failure_is_not_that_of_a_success():
    """A window that a success, a skip or a warning began covers no failure, also with a key of the user's own."""
    for key in (None, "mine"):
        keys = {
            state: key_of_failure(
                Failure(
                    kind="task", tasks=(FailedTask(task_id="load", state=state),), dag_id="d", run_id="r"
                ),
                bzctrl_conn_id="c",
                workspace="w",
                key=key,
            )
            for state in ("failed", "up_for_retry", "success", "skipped", "warned", "running")
        }
        assert keys["failed"] == keys["up_for_retry"] == f"c:w:{key or 'd//load'}"
        assert len(set(keys.values())) == 5
