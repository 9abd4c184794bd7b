from __future__ import annotations

import asyncio
import json
import logging
from datetime import UTC, datetime
from types import SimpleNamespace

import pytest
from airflow.providers.common.compat.sdk import AirflowSkipException
from support.bzctrl import sent_todos
from support.contexts import TaskInstance, new_task_context

from bzctrl_provider import silencing
from bzctrl_provider.failure import FailedTask, Failure, LazyFailure
from bzctrl_provider.notifications.bzctrl import BzCtrlNotifier
from bzctrl_provider.operators.bzctrl import IncidentOnFailureOperator
from bzctrl_provider.silencing import find_silencing

pytestmark = pytest.mark.usefixtures("connection")

VARIABLE = "bzctrl_silences"
NOON = datetime(2026, 11, 30, 12, tzinfo=UTC)


def silence(variables, monkeypatch, *, dags="customs", tasks="*", until="2126-12-01T06:00Z"):
    """Set the Variable; what was read of it before does not count any more."""
    entry = {"dags": dags, "tasks": tasks, "until": until, "comment": "OPS-123"}
    variables[VARIABLE] = json.dumps([entry])
    in_another_process(monkeypatch)


def in_another_process(monkeypatch):
    """Forget what this process has read of the Variable."""
    monkeypatch.setattr(silencing, "_read", None)


def raise_incident(run_id="r", task_id="amounts", **fields):
    """Execute a roll-up after a failed check."""
    failure = Failure(
        kind="checks", checks=1, tasks=(FailedTask(task_id=task_id),), dag_id="customs", run_id=run_id
    )
    operator = IncidentOnFailureOperator(task_id="raise_incident", **{"order_id": run_id, **fields})
    context = new_task_context(ti=TaskInstance(max_tries=5), run_id=run_id)
    return operator.execute({**context, "failure": LazyFailure({}, lambda _: failure)})


def notify(run_id="r"):
    """Call the callback of a task."""
    BzCtrlNotifier()(new_task_context(run_id=run_id))


def test_silenced_task_raises_nothing_and_the_next_incident_counts(variables, bzctrl, monkeypatch, caplog):
    """The first incident after the silence says how often, and only that one."""
    silence(variables, monkeypatch)
    with caplog.at_level(logging.INFO):
        for run_id in "1234":
            notify(run_id)
    assert bzctrl.request_history == []
    assert "No incident is raised: silenced until 2126-12-01 06:00:00 UTC (OPS-123)." in caplog.text
    silence(variables, monkeypatch, until="2020-01-01T00:00Z")
    notify("5")
    notify("6")
    first, second = (todo["description"] for todo in sent_todos(bzctrl))
    assert "This failure was silenced 4 times since" in first
    assert "OPS-123" in first
    assert "silenced" not in second


def test_silenced_operator_skips_with_the_comment(variables, bzctrl, monkeypatch):
    """The operator's log has the ticket; the next incident has the count."""
    silence(variables, monkeypatch)
    with pytest.raises(AirflowSkipException, match=r"silenced until .* \(OPS-123\)"):
        raise_incident("1")
    silence(variables, monkeypatch, dags="other")
    raise_incident("2")
    raise_incident("3")
    notes = ["silenced once" in todo["description"] for todo in sent_todos(bzctrl)]
    assert notes == [True, False]


def test_operator_and_callback_of_one_run_count_once(variables, bzctrl, monkeypatch):
    """Both see the same failure."""
    silence(variables, monkeypatch)
    with pytest.raises(AirflowSkipException):
        raise_incident("1", task_id="load")
    notify("1")
    silence(variables, monkeypatch, until="2020-01-01T00:00Z")
    notify("2")
    assert "silenced once" in sent_todos(bzctrl)[0]["description"]


def test_operator_that_fails_keeps_the_count_for_its_retry(variables, bzctrl, monkeypatch):
    """The incident of the next try has the note."""
    silence(variables, monkeypatch)
    notify("1")
    silence(variables, monkeypatch, dags="other")
    bzctrl.post("https://acc.bzctrl.com/bzctrl-core-api/api/v1/task/add-task", status_code=400)
    for _ in range(2):
        with pytest.raises(Exception, match="400"):
            raise_incident("2", task_id="load")
    assert ["silenced once" in todo["description"] for todo in sent_todos(bzctrl)] == [True, True]


def test_deduplicated_failure_keeps_the_count(variables, bzctrl, monkeypatch):
    """The note waits for an incident that has it."""
    from datetime import timedelta

    notify_again = BzCtrlNotifier(dedup_window=timedelta(days=1))
    notify_again(new_task_context(run_id="1"))
    silence(variables, monkeypatch)
    notify_again(new_task_context(run_id="2"))
    silence(variables, monkeypatch, dags="other")
    notify_again(new_task_context(run_id="3"))
    notify("4")
    descriptions = [todo["description"] for todo in sent_todos(bzctrl)]
    assert ["silenced once" in text for text in descriptions] == [False, True]


@pytest.mark.parametrize("text", ["[", '{"dags": "*"}', '[{"dags": "*"}]'])
def test_faulty_variable_raises_the_incident_and_warns(variables, bzctrl, caplog, text):
    """An incident too many is better than one too few."""
    variables[VARIABLE] = text
    notify()
    assert len(sent_todos(bzctrl)) == 1
    assert "The Variable bzctrl_silences has faults" in caplog.text


def test_unreadable_variable_raises_the_incident_and_warns(bzctrl, caplog, monkeypatch):
    """Also if Airflow cannot be asked at all."""
    monkeypatch.setattr(silencing, "_read_silences", lambda: 1 / 0)
    notify()
    assert len(sent_todos(bzctrl)) == 1
    assert "cannot be read, so no failure is silenced: ZeroDivisionError" in caplog.text


def test_count_that_cannot_be_kept_costs_nothing(variables, bzctrl, monkeypatch, caplog):
    """A silenced failure stays silenced, and a raised one is raised."""
    silence(variables, monkeypatch)
    notify("1")
    monkeypatch.setattr("bzctrl_provider.memory.write_variable", lambda *_: 1 / 0)
    notify("2")
    assert "could not be counted: ZeroDivisionError" in caplog.text
    silence(variables, monkeypatch, dags="other")
    notify("3")
    assert "silenced once" in sent_todos(bzctrl)[0]["description"]
    assert "could not be reset: ZeroDivisionError" in caplog.text


def test_variable_is_read_once_in_five_seconds(variables, monkeypatch):
    """A storm of callbacks in one process asks Airflow once."""
    read = []
    monkeypatch.setattr(
        "airflow.providers.common.compat.sdk.Variable.get", lambda *_: read.append(1), raising=False
    )
    failure = Failure(kind="run", dag_id="customs", run_id="r")
    for seconds in (0.0, 4.9, 5.1):
        monkeypatch.setattr(silencing.time, "monotonic", lambda at=seconds: at)
        find_silencing(failure)
    assert len(read) == 2


def test_silenced_failure_ends_with_its_silence(variables, monkeypatch):
    """By the time of the failure."""
    silence(variables, monkeypatch, until="2026-11-30T12:00Z")
    failure = Failure(kind="run", dag_id="customs", run_id="r")
    before = find_silencing(failure, now=lambda: NOON.replace(hour=11, minute=59))
    assert before.silence
    assert find_silencing(failure, now=lambda: NOON).silence is None


def test_deadline_alert_is_not_silenced(variables, bzctrl, monkeypatch):
    """The event loop of the triggerer must not wait for a Variable."""
    silence(variables, monkeypatch, dags="*")
    context = {"dag_run": {"dag_id": "customs", "dag_run_id": "r"}, "deadline": {}}

    async def alert():
        await BzCtrlNotifier(context=context)

    asyncio.run(alert())
    assert len(sent_todos(bzctrl)) == 1


def test_counts_of_a_dag_are_bounded(variables, monkeypatch):
    """A DAG that makes new task ids in each run does not fill the Variable."""
    silence(variables, monkeypatch)
    for number in range(60):
        tasks = (FailedTask(task_id=f"t{number}"),)
        find_silencing(Failure(kind="run", dag_id="customs", run_id="r", tasks=tasks))
    (counts,) = (json.loads(text) for name, text in variables.items() if name != VARIABLE)
    assert list(counts) == [f"t{number}" for number in range(10, 60)]


@pytest.fixture
def asked(variables, monkeypatch):
    """Return the names of the Variables that were asked for."""
    names = []

    def get(name, default=None):
        names.append(name)
        return variables.get(name, default)

    monkeypatch.setattr(
        "airflow.providers.common.compat.sdk.Variable",
        SimpleNamespace(get=get, set=variables.__setitem__),
        raising=False,
    )
    return names


FAILURE = Failure(kind="run", dag_id="customs", run_id="r")


@pytest.mark.parametrize("is_set", [True, False])
def test_silences_of_a_local_spool_are_read_once_for_all_processes(
    asked, variables, spool, monkeypatch, is_set
):
    """Each request of a callback keeps the DAG processor busy, and hundreds of processes may ask in one moment."""
    spool.mkdir()
    if is_set:
        silence(variables, monkeypatch)
    found = []
    for _ in range(5):
        in_another_process(monkeypatch)
        found.append(find_silencing(FAILURE).silence is not None)
    assert found == [is_set] * 5
    assert asked.count(VARIABLE) == 1


@pytest.mark.parametrize(
    "content",
    [
        {"at": "2020-01-01T00:00:00Z", "text": "[]"},
        {"at": "2120-01-01T00:00:00Z", "text": "[]"},
        {"at": datetime.now(UTC).isoformat()},
        {"at": datetime.now(UTC).isoformat(), "text": 3},
    ],
    ids=["old", "future", "without text", "number"],
)
def test_silences_in_the_spool_that_are_old_or_damaged_do_not_count(
    asked, variables, spool, monkeypatch, content
):
    """The Variable is read then."""
    silence(variables, monkeypatch)
    spool.mkdir()
    (spool / ".silences.json").write_text(json.dumps(content))
    assert find_silencing(FAILURE).silence is not None
    assert asked.count(VARIABLE) == 1


def test_silences_spool_that_cannot_be_written_still_silence(asked, variables, monkeypatch, configure):
    """The next process reads the Variable again."""
    silence(variables, monkeypatch)
    configure(spool_path="/proc/spool")
    for _ in range(2):
        in_another_process(monkeypatch)
        assert find_silencing(FAILURE).silence is not None
    assert asked.count(VARIABLE) == 2


def test_silences_that_end_while_they_are_in_the_spool_silence_no_more(variables, spool, monkeypatch):
    """The file has the Variable, not the decision."""
    spool.mkdir()
    silence(variables, monkeypatch, until="2126-12-01T06:00Z")
    assert find_silencing(FAILURE).silence is not None
    in_another_process(monkeypatch)
    after = datetime(2127, 1, 1, tzinfo=UTC)
    assert find_silencing(FAILURE, now=lambda: after).silence is None
