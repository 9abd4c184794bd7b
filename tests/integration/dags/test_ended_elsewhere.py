"""Callbacks of tasks that ended outside of their own process, with the requests and the code of Airflow itself."""

from __future__ import annotations

import logging
import runpy
from pathlib import Path
from types import SimpleNamespace

import pytest
from support.airflow_versions import VERSION

FILE = Path(__file__).parent / "files" / "callbacks.py"

BY_TRIGGER = "Its trigger ended the task as failed, without an exception."
LOST = "Its process ended without an exception, for example because it was killed or never started."


def end_by_trigger(ti, session):
    """Let the trigger of a deferred task end it; return the request for its callback that Airflow has stored."""
    from airflow.models.dag import DagModel
    from airflow.models.db_callback_request import DbCallbackRequest
    from airflow.models.trigger import Trigger
    from airflow.triggers.base import TaskFailedEvent

    if ti.dag_model is None:  # `dag.test()` makes none before Airflow 3.1
        ti.dag_model = DagModel(dag_id=ti.dag_id, fileloc=str(FILE))
        if VERSION >= (3, 0):
            ti.dag_model.relative_fileloc, ti.dag_model.bundle_name = FILE.name, "tests"
    trigger = Trigger(classpath="a.Trigger", kwargs={})
    session.add(trigger)
    session.flush()
    ti.state, ti.trigger_id = "deferred", trigger.id
    session.flush()
    Trigger.submit_event(trigger.id, TaskFailedEvent(), session=session)
    session.flush()
    return (
        session.query(DbCallbackRequest).order_by(DbCallbackRequest.id.desc()).first().get_callback_request()
    )


def lose(ti, session):
    """Return the request that the scheduler makes for a task whose process does not respond any more."""
    request = end_by_trigger(ti, session)
    if VERSION < (3, 0):
        ti.state = "running"
        session.flush()
        request.msg, request.task_callback_type = str({"DAG Id": ti.dag_id}), None
        return request
    from airflow.api_fastapi.execution_api.datamodels.taskinstance import DagRun, TIRunContext

    run = DagRun.model_validate(ti.dag_run, from_attributes=True)
    request.context_from_server = TIRunContext(
        dag_run=run, max_tries=0, variables=[], connections=[], xcom_keys_to_clear=[]
    )
    return request


def call_back(dag, request, session):
    """Run the callbacks of a request as the DAG processor does."""
    dagbag = SimpleNamespace(dags={dag.dag_id: dag})
    if VERSION < (3, 0):
        from airflow.dag_processing.processor import DagFileProcessor

        DagFileProcessor._execute_task_callbacks(dagbag, request, False, session=session)
    else:
        from airflow.dag_processing.processor import _execute_task_callbacks

        _execute_task_callbacks(dagbag, request, logging.getLogger(__name__))


@pytest.mark.parametrize(("end", "sentence"), [(end_by_trigger, BY_TRIGGER), (lose, LOST)])
def test_notifier_of_a_task_that_ended_elsewhere_says_how(run, bzctrl_sandbox, end, sentence):
    """A trigger ends a deferred task as failed: no process was killed. A lost process is still one."""
    from airflow.models.taskinstance import TaskInstance
    from airflow.utils.session import create_session

    dag_run, _ = run(FILE, "deferred")
    assert bzctrl_sandbox.todos == []
    dag = runpy.run_path(str(FILE))["deferred"]
    with create_session() as session:
        of_run = {"dag_id": dag.dag_id, "run_id": dag_run.run_id, "task_id": "load"}
        ti = session.query(TaskInstance).filter_by(**of_run).one()
        call_back(dag, end(ti, session), session)
    (todo,) = bzctrl_sandbox.todos
    assert todo["title"] == "deferred: load failed"
    assert f"  {sentence}" in todo["description"].splitlines()
    assert "Did not run: publish" in todo["description"].splitlines()
