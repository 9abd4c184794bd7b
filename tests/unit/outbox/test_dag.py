from __future__ import annotations

import pytest
from airflow.providers.common.compat.sdk import AirflowException, AirflowSkipException

from bzctrl_provider.outbox import create_delivery_dag
from bzctrl_provider.outbox.delivery import DeliveryResult

CREATED = {"identity": "f", "key": "K-1", "link": "https://k.example/1"}
KEPT = {"identity": "g", "reason": "503"}
REJECTED = {"identity": "h", "reason": "422"}


@pytest.fixture
def noted():
    """Return the notes that the delivery DAG is at work."""
    return []


@pytest.fixture
def run(monkeypatch, noted):
    """Return what runs the task of the DAG with a result of the delivery."""
    monkeypatch.setattr("bzctrl_provider.outbox.runner.note_scheduled", lambda: noted.append(True))

    def execute(result):
        monkeypatch.setattr("bzctrl_provider.outbox.runner.deliver", lambda **_: result)
        return create_delivery_dag().get_task("deliver").execute({})

    return execute


def test_create_delivery_dag_runs_each_minute_and_once_at_a_time():
    """It starts by itself, makes up for no time that has passed, and has the tag that the policy leaves out."""
    dag = create_delivery_dag()
    assert (dag.dag_id, dag.max_active_runs, dag.catchup) == ("bzctrl_delivery", 1, False)
    assert dag.is_paused_upon_creation is False
    assert "bzctrl_delivery" in dag.tags
    assert str(getattr(dag.timetable, "summary", "* * * * *")) == "* * * * *"
    assert dag.get_task("deliver").retries == 0


def test_create_delivery_dag_takes_arguments_of_a_dag():
    """An id, a schedule, tags beside its own."""
    dag = create_delivery_dag("other", schedule=None, tags=["team"], default_args={"queue": "q"})
    assert (dag.dag_id, dag.get_task("deliver").queue) == ("other", "q")
    assert {"team", "bzctrl_delivery"} <= set(dag.tags)


@pytest.mark.filterwarnings("default")
def test_create_delivery_dag_is_left_out_by_the_policy(configure):
    """An incident about the delivery would wait for the delivery."""
    from bzctrl_provider.policy import dag_policy
    from bzctrl_provider.settings import settings

    configure(incident_on_failed_run="True")
    dag = create_delivery_dag()
    dag_policy(dag)
    assert not dag.get_task("deliver").on_failure_callback
    assert not settings().applies_to(dag.dag_id, dag.tags)


def test_delivery_task_returns_what_was_created(run):
    """As plain JSON."""
    assert run(DeliveryResult(created=[CREATED]))["created"] == [CREATED]


def test_delivery_task_notes_that_it_is_at_work_even_if_it_fails(run, noted):
    """Callbacks leave the delivery to it also while BzCtrl is away."""
    with pytest.raises(AirflowException):
        run(DeliveryResult(kept=[KEPT]))
    assert noted


def test_delivery_task_warns_of_a_file_for_several_machines(run, monkeypatch, caplog):
    """With an executor that has remote workers, the log says that a file is the wrong place."""
    monkeypatch.setattr("bzctrl_provider.store.database._executors", lambda: ["CeleryExecutor"])
    run(DeliveryResult(created=[CREATED]))
    assert caplog.text.count("the executor CeleryExecutor runs tasks on other machines") == 1
    assert "set database in the section [bzctrl]" in caplog.text


def test_delivery_task_without_work_is_skipped(run):
    """So that the runs that did something can be seen."""
    for result, reason in (
        (DeliveryResult(), "Nothing waits"),
        (DeliveryResult(busy=True), "Another process delivers"),
    ):
        with pytest.raises(AirflowSkipException, match=reason):
            run(result)


def test_delivery_task_fails_for_what_is_kept_or_rejected(run):
    """The error has each reason once, with the incidents, as many as somebody reads."""
    kept = [KEPT | {"identity": f"g{number}"} for number in range(30)]
    result = DeliveryResult(created=[CREATED], kept=kept, rejected=[REJECTED])
    with pytest.raises(AirflowException) as caught:
        run(result)
    lines = str(caught.value).splitlines()
    assert lines[0] == "30 stay in the outbox, 1 were rejected, 1 were created."
    names = ", ".join(f"g{number}" for number in range(20))
    assert lines[1:] == ["- h: 422", f"- {names} and 10 more: 503"]
    kept = [KEPT | {"reason": f"{number}"} for number in range(30)]
    with pytest.raises(AirflowException) as caught:
        run(DeliveryResult(kept=kept))
    assert str(caught.value).splitlines()[-2:] == ["- g: 19", "- and 10 more reasons"]
