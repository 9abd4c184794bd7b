from __future__ import annotations

import logging
from dataclasses import replace
from datetime import UTC, datetime, timedelta

import pytest
from support.store import read

from bzctrl_provider.failed_runs import raiser
from bzctrl_provider.failed_runs.raiser import COMMITTED_AFTER_S, raise_incidents
from bzctrl_provider.failure.reasons import EXCEPTION_XCOM_KEY
from bzctrl_provider.store import failed_runs
from bzctrl_provider.store.database import StoreError
from bzctrl_provider.store.failed_runs import FailedRun
from bzctrl_provider.store.repeats import COUNTED_XCOM_KEY

RUN = FailedRun(
    dag_id="customs",
    run_id="scheduled__2026-11-21",
    cleared=0,
    started_at="2026-11-21 12:00:00+00:00",
    why="task_failure",
    run_type="scheduled",
    logical_date="2026-11-21T00:00:00+00:00",
    tags=["finance"],
    owner="ana@example.com",
    states={
        "check": {0: "failed", 1: "success", 2: "failed"},
        "load": {-1: "upstream_failed"},
        "extract": {-1: "success"},
    },
    operators={"check": {"operator": "PythonOperator", "owner": "ben@example.com"}},
    did_not_run=["load"],
    not_updated=["orders"],
)


@pytest.fixture
def airflow(monkeypatch):
    """Return what Airflow knows, which a test sets: the state of each run, and the XComs by task, map index and key."""

    class Airflow:
        state = "failed"
        success = None
        xcoms: dict = {}  # noqa: RUF012

        def read_xcom(self, key, *, dag_id, run_id, task_id, map_index):
            assert dag_id == RUN.dag_id
            return self.xcoms.get((task_id, map_index, key))

    known = Airflow()
    known.xcoms = {}
    monkeypatch.setattr(raiser, "read_run_state", lambda *_: known.state)
    monkeypatch.setattr(raiser, "read_xcom", known.read_xcom)
    monkeypatch.setattr(raiser, "find_last_successful_run", lambda _: known.success)
    return known


@pytest.fixture
def deliver(airflow, store):
    """Return a function that notes failed runs, takes the first step of a delivery, and returns the incidents."""

    def call(*runs, may_go_on=lambda: True):
        note(store, *runs)
        raise_incidents(store, may_go_on)
        return read(store)

    return call


def note(store, *runs, ago_s=0.0):
    with store.transaction() as tx:
        for run in runs:
            failed_runs.add(tx._replace(now=tx.now - ago_s), run)


def count_undecided(store):
    with store.transaction() as tx:
        return failed_runs.count_undecided(tx)[0]


def test_noted_run_becomes_one_incident_with_all_that_is_known(deliver, airflow, store):
    """Tasks, reasons, what did not run, owner and addresses are those of a callback; a second delivery raises none."""
    airflow.xcoms["check", 0, EXCEPTION_XCOM_KEY] = {"exception": "ValueError: no amount", "name": "DHL"}
    (incident,) = deliver(RUN)
    (again,) = deliver(RUN)
    assert again.identity == incident.identity
    address = "http://localhost:8080/dags/customs/runs/scheduled__2026-11-21"
    fields = dict(incident.fields)
    lines = fields.pop("description").splitlines()
    assert fields == {
        "todo_type": "INCIDENT",
        "title": "customs: 1 of 3 tasks failed (check[DHL, 2])",
        "order_id": RUN.run_id,
        "assignee": "ben@example.com",
    }
    assert [line for line in lines if not line.startswith("Log of ") and "Airflow: " not in line] == [
        "In the DAG customs, 1 of 3 tasks failed.",
        "",
        "- check (PythonOperator): 2 of 3 mapped failed (DHL, 2)",
        "  [DHL] ValueError: no amount",
        "  [2] It left no exception: its process was killed or never started, a trigger ended it, or somebody marked it as failed.",
        "",
        "Did not run: load",
        "Not updated: orders",
        "",
        f"Run: {RUN.run_id}",
        "Logical date: 2026-11-21T00:00:00+00:00",
        "Owner: ana@example.com",
    ]
    assert incident.facts["run_url"].startswith(address.partition("/dags")[0])
    assert incident.facts["reason"] == "ValueError: no amount"
    assert count_undecided(store) == 0


@pytest.mark.parametrize(
    ("state", "ago_s", "raised", "undecided"),
    [
        ("failed", 0, 1, 0),
        (None, 0, 1, 0),
        ("success", 0, 0, 0),
        ("running", 0, 0, 1),
        ("queued", COMMITTED_AFTER_S - 10, 0, 1),
        ("running", COMMITTED_AFTER_S + 10, 0, 0),
    ],
)
def test_run_raises_by_its_present_state(deliver, airflow, store, caplog, state, ago_s, raised, undecided):
    """A run that was cleared raises nothing, and the log says so; one whose failure may not be committed yet waits."""
    caplog.set_level(logging.INFO)
    airflow.state = state
    note(store, RUN, ago_s=ago_s)
    assert len(deliver()) == raised
    assert count_undecided(store) == undecided
    assert (f"is {state} by now" in caplog.text) is (not raised and not undecided)


def test_run_that_the_next_scheduler_fails_again_is_raised(deliver, airflow, store):
    """A scheduler ended before its commit, and no other one came for longer than a delivery waits: nothing is lost."""
    airflow.state = "running"
    note(store, RUN, ago_s=COMMITTED_AFTER_S + 1)
    assert deliver() == []
    airflow.state = "failed"
    assert len(deliver(RUN)) == 1


def test_old_run_that_is_noted_again_waits_for_the_commit(deliver, airflow, store):
    """The next scheduler came after a long time, and has not committed yet: the delivery looks again."""
    airflow.state = "running"
    note(store, RUN, ago_s=COMMITTED_AFTER_S + 1)
    assert deliver(RUN) == []
    assert count_undecided(store) == 1
    airflow.state = "failed"
    assert len(deliver()) == 1


def test_second_call_for_a_raised_run_raises_none(deliver):
    """A scheduler ended between the note and its commit, a delivery raised the incident, and the next scheduler notes it again."""
    assert len(deliver(RUN)) == 1
    assert len(deliver(RUN)) == 1
    assert len(deliver(replace(RUN, cleared=1))) == 2


def test_delivery_killed_before_its_note_raises_one(deliver, monkeypatch, store):
    """The incident is written, the note of the decision is not: the next delivery decides again, and it is the same one."""

    def end(*_):
        raise KeyboardInterrupt

    with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
        patch.setattr(failed_runs, "note_decided", end)
        deliver(RUN)
    assert count_undecided(store) == 1
    assert len(deliver()) == 1
    assert count_undecided(store) == 0


ROLL_UPS = {"raise": {"check": False, "extract": True}, "other": {"load": False}}


@pytest.mark.parametrize(
    ("states", "counted", "raised"),
    [
        ({"check": {-1: "failed"}, "raise": {-1: "success"}}, [], 0),
        ({"check": {-1: "failed"}, "raise": {-1: "skipped"}}, [("raise", -1)], 0),
        ({"check": {-1: "failed"}, "raise": {-1: "skipped"}}, [], 1),
        ({"check": {-1: "failed"}, "raise": {-1: "upstream_failed"}}, [], 1),
        ({"check": {-1: "failed"}, "raise": {-1: "failed"}}, [], 1),
        ({"check": {-1: "failed"}}, [], 1),
        ({"check": {-1: "failed"}, "elsewhere": {-1: "failed"}, "raise": {-1: "success"}}, [], 1),
        ({"check": {-1: "failed"}, "load": {-1: "failed"}, "raise": {-1: "success"}}, [], 1),
        (
            {
                "check": {-1: "failed"},
                "load": {-1: "failed"},
                "raise": {-1: "success"},
                "other": {-1: "success"},
            },
            [],
            0,
        ),
        ({"check": {0: "failed", 1: "success"}, "raise": {0: "success", 1: "skipped"}}, [], 0),
        ({"check": {0: "success", 1: "failed"}, "raise": {0: "success", 1: "skipped"}}, [], 1),
        ({"check": {-1: "failed"}, "raise": {0: "success", 1: "skipped"}}, [], 1),
        ({"extract": {-1: "failed"}, "raise": {0: "success", 1: "upstream_failed"}}, [], 0),
        ({"extract": {-1: "failed"}, "raise": {0: "skipped", 1: "success"}}, [], 1),
        ({}, [], 1),
    ],
)
def test_failure_that_roll_ups_handled_raises_no_second_incident(deliver, airflow, states, counted, raised):
    """Each failed task is before a roll-up that raised an incident or counted the failure; otherwise there is one more."""
    airflow.xcoms |= {(task_id, index, COUNTED_XCOM_KEY): True for task_id, index in counted}
    assert len(deliver(replace(RUN, states=states, roll_ups=ROLL_UPS))) == raised


def test_reasons_that_cannot_be_read_cost_no_incident(deliver, monkeypatch):
    """The command line on a host without Airflow's database raises the incident without them."""

    def fail(*_, **__):
        raise ConnectionError("no database")

    monkeypatch.setattr(raiser, "read_xcom", fail)
    monkeypatch.setattr(raiser, "find_last_successful_run", fail)
    (incident,) = deliver(
        replace(RUN, roll_ups={"raise": {"check": False}}, states=RUN.states | {"raise": {-1: "skipped"}})
    )
    assert incident.fields["title"] == "customs: 1 of 4 tasks failed (check)"
    assert "PythonOperator" in incident.fields["description"]
    assert "exception" not in incident.fields["description"]


@pytest.mark.parametrize(("option", "lines"), [("0", []), ("2", ["  | second", "  | third"])])
def test_noted_run_has_as_many_lines_of_the_log_as_the_option_says(
    deliver, airflow, configure, option, lines
):
    """However many the task has kept, for example for a roll-up."""
    configure(include_log_lines=option)
    airflow.xcoms["check", 0, EXCEPTION_XCOM_KEY] = {"exception": "E: no", "log": "first\nsecond\nthird"}
    (incident,) = deliver(RUN)
    assert [line for line in incident.fields["description"].splitlines() if line.startswith("  |")] == lines


def test_reasons_that_are_not_kept_are_no_lost_processes(deliver, configure):
    """With remember_exceptions off, a missing reason says nothing."""
    configure(remember_exceptions="False")
    (incident,) = deliver(RUN)
    assert "left no exception" not in incident.fields["description"]


@pytest.mark.parametrize(
    ("why", "title"),
    [
        ("task_failure", "customs: the run failed"),
        ("all_tasks_deadlocked", "customs: the run failed"),
        ("timed_out", "customs: the run timed out"),
    ],
)
def test_run_without_failed_tasks_raises_an_incident_of_the_run(deliver, why, title):
    """A run that timed out, or whose tasks are not known, is an incident as well."""
    (incident,) = deliver(replace(RUN, why=why, states={}))
    assert incident.fields["title"] == title


def test_backfill_raises_none_by_default(deliver, caplog):
    """As from callbacks of the policy before: a route may raise it."""
    caplog.set_level(logging.INFO)
    assert deliver(replace(RUN, run_type="backfill")) == []
    assert "a backfill raises none by default" in caplog.text


def test_silences_routes_and_options_apply_as_everywhere(deliver, configure, monkeypatch, tmp_path):
    """The decision is the same as for a notifier, and templates have the variables that are known."""
    path = tmp_path / "routes.toml"
    text = "{{ dag.dag_id }} {{ run_id }} {{ ds }} {{ dag_run.run_type }} {{ reason }} {{ failure.task_ids | join }}"
    path.write_text(f'[[route]]\ndags = "customs"\ntags = "finance"\ntitle = "{text}"\npriority = "HIGH"\n')
    configure(
        routes_path=str(path), domain_workspace="Customs", dedup_key="{{ dag.owner }}", dedup_window_s="60"
    )
    (incident,) = deliver(RUN)
    assert incident.fields["title"] == "customs scheduled__2026-11-21 2026-11-21 scheduled task_failure check"
    assert (incident.fields["priority"], incident.fields["domain_workspace"]) == ("HIGH", "Customs")
    assert len(deliver(replace(RUN, run_id="b"))) == 1  # represented by the first
    until = (datetime.now(UTC) + timedelta(days=1)).isoformat()
    monkeypatch.setenv(
        "AIRFLOW_VAR_BZCTRL_SILENCES", f'[{{"dags": "quiet", "until": "{until}", "reason": "r"}}]'
    )
    occurrences = replace(RUN, dag_id="quiet")
    monkeypatch.setattr(raiser, "read_xcom", lambda *_, **__: None)
    assert len(deliver(occurrences)) == 1


def test_success_between_two_failures_ends_the_count(deliver, airflow, configure):
    """With consecutive_failures = 2, fail, success, fail raises none, and one more failure raises it."""
    configure(consecutive_failures="2")
    assert deliver(RUN) == []
    airflow.success = datetime(2026, 11, 22, tzinfo=UTC).timestamp()
    assert deliver(replace(RUN, run_id="b")) == []
    assert len(deliver(replace(RUN, run_id="c"))) == 1


def test_run_with_an_error_keeps_no_other_from_its_incident(deliver, monkeypatch, store, caplog):
    """It stays noted for the next delivery, and the log names it."""
    right = raiser.describe_failed_run
    monkeypatch.setattr(raiser, "describe_failed_run", lambda run: 1 / 0 if run.cleared else right(run))
    assert len(deliver(replace(RUN, cleared=1), RUN)) == 1
    assert "of customs raises no incident yet" in caplog.text
    monkeypatch.setattr(raiser, "describe_failed_run", right)
    assert len(deliver()) == 2


def test_runs_without_time_wait_for_the_next_delivery(deliver, store):
    """A delivery with a limit decides about as many as there is time for, and none twice."""
    budget = iter([True, True, False])
    runs = [replace(RUN, cleared=number) for number in range(4)]
    assert len(deliver(*runs, may_go_on=lambda: next(budget))) == 2
    assert count_undecided(store) == 2
    assert len(deliver()) == 4


def test_store_that_cannot_be_used_ends_the_step(airflow, store, monkeypatch):
    """The delivery reports it, and nothing is decided."""
    note(store, RUN)

    def fail(*_):
        raise StoreError("the disk is full")

    monkeypatch.setattr(raiser, "write", fail)
    with pytest.raises(StoreError):
        raise_incidents(store, lambda: True)
    assert count_undecided(store) == 1
