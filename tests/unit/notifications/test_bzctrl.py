from __future__ import annotations

import asyncio
import datetime as dt
import json
import logging
import os
from types import SimpleNamespace

import pytest
from airflow.exceptions import AirflowNotFoundException

from bzctrl_provider.client import auth
from bzctrl_provider.client.api import BzCtrlClient
from bzctrl_provider.client.endpoints import Endpoints
from bzctrl_provider.exceptions import BzCtrlRejectedError, BzCtrlServerError, BzCtrlValidationError
from bzctrl_provider.fields import TODO_FIELDS
from bzctrl_provider.hooks.bzctrl import BzCtrlHook
from bzctrl_provider.notifications.bzctrl import BzCtrlNotifier, send_bzctrl_notification

ACC = Endpoints.from_environment("ACC")
PASSWORD = "Ex@mpl3!-password"


@pytest.fixture(autouse=True)
def connection(monkeypatch):
    auth.forget_tokens()
    extra = {"environment": "ACC", "domain_workspace": "EXA"}
    given = {"conn_type": "bzctrl", "login": "user@example.com", "password": PASSWORD, "extra": extra}
    monkeypatch.setenv("AIRFLOW_CONN_BZCTRL_DEFAULT", json.dumps(given))


@pytest.fixture
def bzctrl(requests_mock):
    requests_mock.post(ACC.token_url, json={"access_token": "made-up-token"})
    requests_mock.post(ACC.create_url, json={"taskLink": "https://www.bzctrl.com/app/#/todo/EXA-03"})
    return requests_mock


def sent(bzctrl):
    return [request.json() for request in bzctrl.request_history if request.url == ACC.create_url]


def new_context(state="failed", **more):
    """Return the context of a task's callback."""
    ti = SimpleNamespace(task_id="load", map_index=-1, state=state, try_number=1)
    # The serialized DAG of `airflow dags test` has no Jinja environment.
    dag = SimpleNamespace(dag_id="customs", owner="team", render_template_as_native_obj=False)
    task = SimpleNamespace(task_type="@task", upstream_task_ids=set())
    return {"dag": dag, "ti": ti, "task": task, "run_id": "r", "exception": OSError("disk full"), **more}


def test_a_failed_task_raises_an_incident_that_is_written_by_itself(bzctrl):
    """Without a single argument there are title, reason, run, and the run's id as the tag."""
    BzCtrlNotifier()(new_context())
    (todo,) = sent(bzctrl)
    assert todo["todoType"] == "INCIDENT"
    assert todo["title"] == "customs: load failed"
    assert "OSError: disk full" in todo["description"]
    assert todo["orderID"] == "r"


def test_every_field_can_be_given_and_is_rendered(bzctrl):
    """With the context's variables and with `failure`."""
    notifier = send_bzctrl_notification(
        todo_type="task",
        title="{{ run_id }}: {{ failure.task_ids | join }}",
        description="{{ exception }}",
        result="{{ 1 }}",
    )
    notifier(new_context())
    (todo,) = sent(bzctrl)
    assert (todo["todoType"], todo["title"], todo["description"], todo["result"]) == (
        "TASK",
        "r: load",
        "disk full",
        "1",
    )


def test_an_instance_that_is_used_twice_renders_twice(bzctrl):
    """A DAG's callback serves all its runs."""
    notifier = BzCtrlNotifier(title="run {{ run_id }}")
    notifier(new_context(run_id="first"))
    notifier(new_context(run_id="second"))
    assert [todo["title"] for todo in sent(bzctrl)] == ["run first", "run second"]


def test_a_task_that_will_be_tried_again_raises_nothing_yet(bzctrl):
    """Unless it is told to."""
    BzCtrlNotifier()(new_context(state="up_for_retry"))
    assert bzctrl.request_history == []
    BzCtrlNotifier(on_retry=True)(new_context(state="up_for_retry"))
    assert len(sent(bzctrl)) == 1


def test_the_context_of_a_failed_run_may_be_almost_empty(bzctrl):
    """As on Airflow 3.0: a DAG, a run and a reason."""
    BzCtrlNotifier()({"dag": new_context()["dag"], "run_id": "r", "reason": "task_failure"})
    assert sent(bzctrl)[0]["title"] == "customs: the run failed"


def test_a_run_whose_tasks_cannot_be_looked_up_is_told_all_the_same(bzctrl):
    """The last chance is used for what is known."""
    context = new_context(reason="task_failure")
    context["dag"].task_ids = ["load"]
    context["ti"].get_task_states = lambda **_: 1 / 0
    BzCtrlNotifier()(context)
    assert sent(bzctrl)[0]["title"] == "customs: the run failed"


def test_a_dags_callback_ends_before_airflow_ends_its_process(bzctrl, monkeypatch):
    """All attempts together get 40 of its 50 seconds."""
    limits_s = []
    create_todo = BzCtrlClient.create_todo
    monkeypatch.setattr(
        BzCtrlClient,
        "create_todo",
        lambda self, todo, *, limit_s: limits_s.append(limit_s) or create_todo(self, todo, limit_s=limit_s),
    )
    BzCtrlNotifier()({"dag": new_context()["dag"], "run_id": "r", "reason": "task_failure"})
    BzCtrlNotifier()(new_context())
    assert all(39 < limit_s <= 40 for limit_s in limits_s)
    assert len(limits_s) == 2


def test_a_missed_deadline_raises_an_incident_from_a_coroutine(bzctrl):
    """Airflow gives the context to the constructor and awaits the notifier, in the triggerer."""
    context = {"dag_run": {"dag_id": "customs", "dag_run_id": "r"}, "deadline": {"deadline_time": "07:00"}}

    async def alert():
        await BzCtrlNotifier(context=context, description="{{ dag_run.dag_run_id }} is late")

    asyncio.run(alert())
    (todo,) = sent(bzctrl)
    assert todo["title"] == "customs: the deadline 07:00 was missed"
    assert todo["description"] == "r is late"
    assert todo["orderID"] == "r"


@pytest.mark.parametrize("asynchronous", [False, True])
def test_a_lost_incident_is_in_the_log_and_raised(bzctrl, caplog, asynchronous):
    """With its whole payload, and without the secret that a template put into it."""
    from airflow.providers.common.compat.sdk import mask_secret

    mask_secret(PASSWORD)
    bzctrl.post(ACC.create_url, status_code=400, text="no")
    notifier = BzCtrlNotifier(title="lost", description=f"the password is {PASSWORD}", context=new_context())

    async def alert():
        await notifier

    with pytest.raises(BzCtrlRejectedError), caplog.at_level(logging.ERROR):
        asyncio.run(alert()) if asynchronous else notifier(new_context())
    (record,) = [record for record in caplog.records if "No incident was raised" in record.message]
    assert '"title": "lost"' in record.message
    assert PASSWORD not in record.message


def test_a_template_that_fails_costs_its_field_and_not_the_incident(bzctrl, caplog):
    """The title is written from what failed; log and description say what was left out, and why."""
    notifier = BzCtrlNotifier(
        title="{{ no_such_thing.at_all }}", priority="{{ nor_this.either }}", lrn="{{ run_id }}"
    )
    with caplog.at_level(logging.ERROR):
        notifier(new_context())
    (todo,) = sent(bzctrl)
    assert todo["title"] == "customs: load failed"
    assert todo["lrn"] == "r"
    assert "priority" not in todo
    left_out = todo["description"].splitlines()[-1]
    assert left_out.startswith("Left out, because the template fails: title (")
    assert "'no_such_thing' is undefined" in left_out
    assert "'nor_this' is undefined" in left_out
    assert sum("cannot be rendered" in record.message for record in caplog.records) == 2
    notifier(new_context())
    assert sent(bzctrl)[-1]["description"].count("Left out") == 1


def test_a_connection_whose_template_fails_is_no_detail(bzctrl, caplog):
    """Another BzCtrl must not get the incident: it is logged as the user wrote it, and the error is raised."""
    with pytest.raises(Exception, match="no_such_thing"), caplog.at_level(logging.ERROR):
        BzCtrlNotifier(title="lost", bzctrl_conn_id="{{ no_such_thing.at_all }}")(new_context())
    assert '"title": "lost"' in caplog.text
    assert bzctrl.request_history == []


def test_a_faulty_incident_names_its_faults(bzctrl):
    """As with the operator."""
    with pytest.raises(BzCtrlValidationError, match="impact"):
        BzCtrlNotifier(impact="urgent")(new_context())


def test_a_coroutine_waits_for_the_retry_too(bzctrl):
    """A task's callback in the triggerer would behave as in the worker."""

    async def alert():
        await BzCtrlNotifier(context=new_context(state="up_for_retry"))

    asyncio.run(alert())
    assert bzctrl.request_history == []


def test_a_field_that_does_not_exist_is_refused_when_the_dag_is_built():
    """A typing error is named, with the fields there are."""
    with pytest.raises(TypeError, match=r"prioriti.*priority"):
        BzCtrlNotifier(prioriti="HIGH")
    assert set(BzCtrlNotifier.template_fields) == {*TODO_FIELDS, "bzctrl_conn_id", "dedup_key"}


def test_notifier_invalid_option_is_noted_in_the_incident(bzctrl, configure):
    """People who read incidents see what the deployment's configuration has lost."""
    configure(dedup_window_s="1d", include_tag="finance")
    BzCtrlNotifier(description="written by the user")(new_context())
    (todo,) = sent(bzctrl)
    assert todo["description"].startswith("written by the user\n\nInvalid options in [bzctrl]")
    assert "dedup_window_s must be a whole number of seconds" in todo["description"]
    assert "did you mean include_tags?" in todo["description"]


def of_a_run(state="failed", try_number=1, **more):
    """Return the context of a task whose run is known."""
    context = new_context(state=state, **more)
    context["ti"].__dict__.update(dag_id="customs", run_id="r", try_number=try_number, max_tries=1)
    return context


def test_a_callback_that_airflow_calls_twice_raises_one_incident(bzctrl, variables):
    """As it does where it lost the worker; the state store, which hangs there, is not touched."""
    notifier = BzCtrlNotifier()
    for _ in range(2):
        notifier({**of_a_run(), "task_state_store": None})
    assert len(sent(bzctrl)) == 1
    cleared = of_a_run()
    cleared["ti"].max_tries = 3
    notifier(cleared)
    assert len(sent(bzctrl)) == 2


def test_the_callback_of_a_lost_worker_tells_of_its_task(bzctrl, variables):
    """Airflow runs it in the DAG processor, with neither an exception nor a state in the context."""
    context = of_a_run(state=None, try_number=2)
    del context["exception"]
    for _ in range(2):
        BzCtrlNotifier()(context)
    (todo,) = sent(bzctrl)
    assert todo["title"] == "customs: load failed"
    waiting = of_a_run(state=None, try_number=1)
    del waiting["exception"]
    BzCtrlNotifier()(waiting)
    assert len(sent(bzctrl)) == 1


def test_templates_are_told_what_the_incident_tells(bzctrl, variables):
    """`failure` in a field is that of the callback, also where the worker was lost."""
    context = of_a_run(state=None, try_number=2)
    del context["exception"]
    BzCtrlNotifier(lrn="{{ failure.kind }} {{ failure.task_ids | join }}")(context)
    assert sent(bzctrl)[0]["lrn"] == "task load"


def test_a_failed_run_waits_for_no_retry(bzctrl, variables):
    """The task instance in its context may be one that never ran, which has tries left."""
    context = of_a_run(state=None, try_number=0, reason="task_failure")
    del context["exception"]
    BzCtrlNotifier()(context)
    assert len(sent(bzctrl)) == 1


def test_two_connections_are_two_incidents(bzctrl, variables, monkeypatch):
    """One for acceptance, say, and one for production; also where repeated failures are one."""
    monkeypatch.setenv("AIRFLOW_CONN_OTHER", os.environ["AIRFLOW_CONN_BZCTRL_DEFAULT"])
    for window in (None, dt.timedelta(days=1)):
        for conn_id in ("bzctrl_default", "other"):
            BzCtrlNotifier(bzctrl_conn_id=conn_id, dedup_window=window)(
                of_a_run(try_number=1 if window else 2)
            )
            variables.update({name: "{}" for name in variables if "callback" in name})
    assert len(sent(bzctrl)) == 4


def test_what_a_roll_up_has_told_is_not_told_again(bzctrl, set_airflow_version):
    """The deployment's policy knows the tasks before one; a failure elsewhere is told."""
    set_airflow_version(3, 1)  # whose contexts this one has
    context = of_a_run(reason="task_failure")
    task = SimpleNamespace(task_type="@task", upstream_task_ids=set())
    context["dag"].task_ids, context["dag"].get_task = ["check", "other"], lambda _: task
    context["ti"].get_task_states = lambda **_: {"r": {"check": "failed", "other": states["other"]}}
    notifier = BzCtrlNotifier()
    notifier.covered_task_ids = frozenset({"check"})
    states = {"other": "success"}
    notifier(context)
    assert sent(bzctrl) == []
    states["other"] = "failed"
    notifier(context)
    assert len(sent(bzctrl)) == 1


def test_two_notifiers_of_one_callback_are_two_incidents(bzctrl, variables):
    """And each try is one, where a notifier is told to raise on retries."""
    BzCtrlNotifier(title="one")(of_a_run())
    BzCtrlNotifier(title="two")(of_a_run())
    on_retry = BzCtrlNotifier(title="each try", on_retry=True)
    on_retry(of_a_run(state="up_for_retry"))
    on_retry(of_a_run(try_number=2))
    assert [todo["title"] for todo in sent(bzctrl)] == ["one", "two", "each try", "each try"]


def test_a_failure_that_repeats_is_one_incident(bzctrl, variables):
    """Across runs, for the callback of a task and of a DAG."""
    notifier = BzCtrlNotifier(dedup_window=dt.timedelta(days=1))
    context = of_a_run()
    notifier(context)
    context["ti"].run_id = "another run"
    notifier(context)
    assert len(sent(bzctrl)) == 1
    of_dag = {"dag": context["dag"], "run_id": "r", "reason": "task_failure"}
    notifier(dict(of_dag))
    notifier(dict(of_dag))
    assert len(sent(bzctrl)) == 2


@pytest.mark.parametrize("asynchronous", [False, True])
def test_what_cannot_be_sent_waits_in_the_spool(bzctrl, tmp_path, monkeypatch, caplog, asynchronous):
    """Where there is a spool; nothing is raised then, and the log says where it waits."""
    monkeypatch.setenv("AIRFLOW__BZCTRL__SPOOL_PATH", str(tmp_path))
    bzctrl.post(ACC.create_url, status_code=503)
    notifier = BzCtrlNotifier(title="late", context=new_context())

    async def alert():
        await notifier

    asyncio.run(alert()) if asynchronous else notifier(new_context())
    (file,) = tmp_path.glob("*.json")
    assert json.loads(file.read_text())["todo"]["title"] == "late"
    assert file.name in caplog.text


def test_a_window_that_is_no_timedelta_is_refused_when_the_dag_is_read():
    """In the callback it would cost the incident."""
    with pytest.raises(ValueError, match=r"timedelta\(days=1\), not 3600"):
        BzCtrlNotifier(dedup_window=3600)


def test_what_has_no_connection_yet_waits_in_the_spool(tmp_path, monkeypatch):
    """A connection that Airflow does not know can be made later; nothing was sent, and the file says so."""
    monkeypatch.setenv("AIRFLOW__BZCTRL__SPOOL_PATH", str(tmp_path))

    def missing(_, conn_id):
        raise AirflowNotFoundException(f"The conn_id `{conn_id}` isn't defined")

    monkeypatch.setattr(BzCtrlHook, "get_connection", missing)
    BzCtrlNotifier(title="late", bzctrl_conn_id="made_later")(new_context())
    (file,) = tmp_path.glob("*.json")
    spooled = json.loads(file.read_text())
    assert spooled["bzctrl_conn_id"] == "made_later"
    assert "Airflow has no connection 'made_later'" in spooled["reason"]
    assert spooled["outcome_unknown"] is False


def test_what_would_be_refused_again_is_not_spooled(bzctrl, tmp_path, monkeypatch):
    """A faulty todo is raised, with its payload in the log."""
    monkeypatch.setenv("AIRFLOW__BZCTRL__SPOOL_PATH", str(tmp_path))
    with pytest.raises(BzCtrlValidationError):
        BzCtrlNotifier(impact="urgent")(new_context())
    assert list(tmp_path.iterdir()) == []


def test_a_spool_that_fails_hides_nothing(bzctrl, tmp_path, monkeypatch):
    """What went wrong with BzCtrl is raised."""
    (tmp_path / "file").touch()
    monkeypatch.setenv("AIRFLOW__BZCTRL__SPOOL_PATH", str(tmp_path / "file" / "no folder"))
    bzctrl.post(ACC.create_url, status_code=500)
    with pytest.raises(BzCtrlServerError):
        BzCtrlNotifier()(new_context())
