from __future__ import annotations

import pytest
from airflow.providers.common.compat.sdk import AirflowException, AirflowSkipException

from bzctrl_provider.spool import create_delivery_dag
from bzctrl_provider.spool.delivery import DeliveryResult
from bzctrl_provider.spool.schedule import is_scheduled

CREATED = {"file": "f", "key": "K-1", "link": "https://k.example/1"}
KEPT = {"file": "g", "reason": "503"}
REJECTED = {"file": "rejected/h", "reason": "422"}


@pytest.fixture
def run(monkeypatch, configure, tmp_path):
    """Return what runs the task of the DAG with a result of the delivery."""
    configure(spool_path=str(tmp_path))

    def execute(result):
        monkeypatch.setattr("bzctrl_provider.spool.dag.deliver", lambda **_: result)
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

    configure(incident_on_failed_run="True")
    dag = create_delivery_dag()
    dag_policy(dag)
    assert not dag.on_failure_callback


def test_delivery_task_returns_what_was_created(run):
    """As plain JSON."""
    assert run(DeliveryResult(created=[CREATED]))["created"] == [CREATED]


def test_delivery_task_marks_the_spool_even_if_it_fails(run):
    """Callbacks leave the delivery to it also while BzCtrl is away."""
    assert not is_scheduled()
    with pytest.raises(AirflowException):
        run(DeliveryResult(kept=[KEPT]))
    assert is_scheduled()


@pytest.mark.parametrize(
    ("result", "reason"),
    [(DeliveryResult(), "Nothing waits"), (DeliveryResult(busy=True), "Another process delivers")],
    ids=["empty", "busy"],
)
def test_delivery_task_without_work_is_skipped(run, result, reason):
    """So that the runs that did something can be seen."""
    with pytest.raises(AirflowSkipException, match=reason):
        run(result)


def test_delivery_task_fails_for_what_is_kept_or_rejected(run):
    """The error names the files, as many as somebody reads."""
    result = DeliveryResult(created=[CREATED], kept=[KEPT] * 30, rejected=[REJECTED])
    with pytest.raises(AirflowException) as caught:
        run(result)
    lines = str(caught.value).splitlines()
    assert lines[0] == "30 stay in the spool, 1 were rejected, 1 were created."
    assert lines[1:3] == ["- rejected/h: 422", "- g: 503"]
    assert lines[-1] == "- and 11 more"
