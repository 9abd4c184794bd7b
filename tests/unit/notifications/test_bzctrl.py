from __future__ import annotations

import asyncio
import datetime as dt
import json
import logging
import os
import re
from types import SimpleNamespace

import pytest
from airflow.exceptions import AirflowNotFoundException
from airflow.providers.common.compat.sdk import mask_secret
from jinja2.nativetypes import NativeEnvironment
from support import hostile
from support.bzctrl import ACC, KEY, LINK, PASSWORD, sent_todos, set_connection
from support.contexts import new_dag, new_run_context, new_task_context
from support.hostile import FORGED, RaisingInComparisons, Secretive, find_one
from support.store import add, begin_delivery, read

from bzctrl_provider import airflow_compat
from bzctrl_provider.exceptions import BzCtrlRejectedError, BzCtrlServerError
from bzctrl_provider.fields import TODO_FIELDS
from bzctrl_provider.hooks.bzctrl import BzCtrlHook
from bzctrl_provider.notifications import callback
from bzctrl_provider.notifications.bzctrl import BzCtrlNotifier, send_bzctrl_notification
from bzctrl_provider.notifications.callback import BackgroundDelivery
from bzctrl_provider.outbox import deliver_soon

pytestmark = pytest.mark.usefixtures("connection")


def test_notifier_without_arguments_writes_the_incident(bzctrl):
    """Title, reason, run, and the run's id as the tag are there without a single argument."""
    BzCtrlNotifier()(new_task_context())
    (todo,) = sent_todos(bzctrl)
    assert todo["todoType"] == "INCIDENT"
    assert todo["title"] == "customs: load failed"
    assert "OSError: disk full" in todo["description"]
    assert todo["orderID"] == "r"


def test_notifier_with_templates_renders_them(bzctrl):
    """With the variables of the context and with `failure`."""
    notifier = send_bzctrl_notification(
        todo_type="task",
        title="{{ run_id }}: {{ failure.task_ids | join }}",
        description="{{ exception }}",
        result="{{ 1 }}",
    )
    notifier(new_task_context())
    (todo,) = sent_todos(bzctrl)
    assert (todo["todoType"], todo["title"], todo["description"], todo["result"]) == (
        "TASK",
        "r: load",
        "disk full",
        "1",
    )


def test_notifier_without_templates_makes_no_environment(bzctrl):
    """It takes most of a callback's time; a DAG whose options for it are invalid raises its incident all the same."""
    context = new_task_context()
    context["dag"].get_template_env = lambda: 1 / 0
    BzCtrlNotifier(priority="HIGH", assignee=None, bzctrl_conn_id="bzctrl_default")(context)
    (todo,) = sent_todos(bzctrl)
    assert todo["priority"] == "HIGH"


def test_notifier_called_twice_renders_twice(bzctrl):
    """A DAG has one callback for all of its runs."""
    notifier = BzCtrlNotifier(title="run {{ run_id }}")
    notifier(new_task_context(run_id="first"))
    notifier(new_task_context(run_id="second"))
    assert [todo["title"] for todo in sent_todos(bzctrl)] == ["run first", "run second"]


def test_notifier_of_a_subclass_decides_in_notify(bzctrl):
    """A method of Airflow's class that a user overrides is called, and renders the templates."""

    class Notifier(BzCtrlNotifier):
        def notify(self, context):
            if context["run_id"] != "quiet":
                super().notify(context)

    notifier = Notifier(title="run {{ run_id }}")
    for run_id in ("quiet", "loud"):
        notifier(new_task_context(run_id=run_id))
    assert [todo["title"] for todo in sent_todos(bzctrl)] == ["run loud"]


def test_notifier_before_a_retry_raises_nothing(bzctrl):
    """Unless it has on_retry=True."""
    BzCtrlNotifier()(new_task_context(state="up_for_retry"))
    assert bzctrl.request_history == []
    BzCtrlNotifier(on_retry=True)(new_task_context(state="up_for_retry"))
    assert len(sent_todos(bzctrl)) == 1


def test_notifier_with_the_least_context_raises_one(bzctrl):
    """As on Airflow 3.0: a DAG, a run and a reason."""
    BzCtrlNotifier()({"dag": new_task_context()["dag"], "run_id": "r", "reason": "task_failure"})
    assert sent_todos(bzctrl)[0]["title"] == "customs: the run failed"


def test_notifier_with_a_failing_look_up_names_the_run(bzctrl):
    """A callback is the last chance, so it uses what is known."""
    context = new_task_context(reason="task_failure")
    context["dag"].task_ids = ["load"]
    context["ti"].get_task_states = lambda **_: 1 / 0
    BzCtrlNotifier()(context)
    assert sent_todos(bzctrl)[0]["title"] == "customs: the run failed"


def test_notifier_for_a_missed_deadline_is_awaited(bzctrl):
    """Airflow passes the context to the constructor and awaits the notifier, in the triggerer."""
    context = {"dag_run": {"dag_id": "customs", "dag_run_id": "r"}, "deadline": {"deadline_time": "07:00"}}

    async def alert():
        await BzCtrlNotifier(context=context, description="{{ dag_run.dag_run_id }} is late")

    asyncio.run(alert())
    (todo,) = sent_todos(bzctrl)
    assert todo["title"] == "customs: the deadline 07:00 was missed"
    assert todo["description"] == "r is late"
    assert todo["orderID"] == "r"


@pytest.mark.parametrize(
    ("run", "todos"),
    [
        ({"state": "failed", "end_date": "2026-11-30T06:59:00Z"}, 0),
        ({"state": "failed", "end_date": "2026-11-30T07:00:01Z"}, 1),
        ({"state": "success", "end_date": "2026-11-30T07:00:01Z"}, 1),
        ({"state": "running", "end_date": None}, 1),
        ({"state": "failed", "end_date": None}, 1),
    ],
)
@pytest.mark.parametrize("due", ["2026-11-30T07:00:00Z", dt.datetime(2026, 11, 30, 7, tzinfo=dt.UTC)])
def test_notifier_for_the_deadline_of_a_run_that_failed_in_time_raises_nothing(bzctrl, run, todos, due):
    """Airflow calls an alert also for a run that failed before its deadline; that is no late run."""
    context = {"dag_run": {"dag_id": "customs", "dag_run_id": "r", **run}, "deadline": {"deadline_time": due}}

    async def alert():
        await BzCtrlNotifier(context=context)

    asyncio.run(alert())
    assert len(sent_todos(bzctrl)) == todos


def test_notifier_for_a_missed_deadline_begins_no_wait_beyond_40_s(bzctrl):
    """A BzCtrl that asks for a minute ends the callback at once, instead of after several of them."""
    bzctrl.post(ACC.token_url, status_code=503, headers={"Retry-After": "60"})

    async def alert():
        await BzCtrlNotifier(context={"dag_run": {"dag_id": "customs", "dag_run_id": "r"}, "deadline": {}})

    with pytest.raises(BzCtrlServerError):
        asyncio.run(alert())
    assert len(bzctrl.request_history) == 1


@pytest.mark.parametrize("asynchronous", [False, True])
def test_notifier_rejected_incident_is_logged_and_raised(bzctrl, caplog, asynchronous):
    """With its whole payload, and without the secret that a template put into it."""
    from airflow.providers.common.compat.sdk import mask_secret

    mask_secret(PASSWORD)
    bzctrl.post(ACC.create_url, status_code=400, text="no")
    notifier = BzCtrlNotifier(
        title="lost", description=f"the password is {PASSWORD}", context=new_task_context()
    )

    async def alert():
        await notifier

    with pytest.raises(BzCtrlRejectedError), caplog.at_level(logging.ERROR):
        asyncio.run(alert()) if asynchronous else notifier(new_task_context())
    (record,) = [record for record in caplog.records if "No incident was raised" in record.message]
    assert '"title": "lost"' in record.message
    assert PASSWORD not in record.message


def test_notifier_failing_template_leaves_out_its_field(bzctrl, caplog):
    """The title is written from what failed; log and description name the fields and the reasons."""
    notifier = BzCtrlNotifier(
        title="{{ no_such_thing.at_all }}", priority="{{ nor_this.either }}", lrn="{{ run_id }}"
    )
    with caplog.at_level(logging.ERROR):
        notifier(new_task_context())
    (todo,) = sent_todos(bzctrl)
    assert todo["title"] == "customs: load failed"
    assert todo["lrn"] == "r"
    assert "priority" not in todo
    left_out = todo["description"].splitlines()[-1]
    assert left_out.startswith("Left out, because the template raises or the value is invalid: title (")
    assert "'no_such_thing' is undefined" in left_out
    assert "'nor_this' is undefined" in left_out
    assert sum("cannot be rendered" in record.message for record in caplog.records) == 2
    notifier(new_task_context())
    assert sent_todos(bzctrl)[-1]["description"].count("Left out") == 1


def test_notifier_failing_template_of_the_connection_raises(bzctrl, caplog):
    """Another BzCtrl must not get the incident: it is logged as the user wrote it, and the error is raised."""
    with pytest.raises(Exception, match="no_such_thing"), caplog.at_level(logging.ERROR):
        BzCtrlNotifier(title="lost", bzctrl_conn_id="{{ no_such_thing.at_all }}")(new_task_context())
    assert '"title": "lost"' in caplog.text
    assert bzctrl.request_history == []


def test_notifier_awaited_before_a_retry_raises_nothing(bzctrl):
    """A callback of a task in the triggerer behaves as in the worker."""

    async def alert():
        await BzCtrlNotifier(context=new_task_context(state="up_for_retry"))

    asyncio.run(alert())
    assert bzctrl.request_history == []


def test_notifier_unknown_field_is_refused():
    """A typing error is named, with the fields there are, while the DAG is parsed."""
    with pytest.raises(TypeError, match=r"prioriti.*priority"):
        BzCtrlNotifier(prioriti="HIGH")
    assert set(BzCtrlNotifier.template_fields) == {*TODO_FIELDS, "bzctrl_conn_id", "dedup_key"}


def test_notifier_invalid_option_is_noted_in_the_incident(bzctrl, configure):
    """People who read incidents see what the deployment's configuration has lost."""
    configure(dedup_window_s="1d", include_tag="finance")
    BzCtrlNotifier(description="written by the user")(new_task_context())
    (todo,) = sent_todos(bzctrl)
    assert todo["description"].startswith("written by the user\n\nInvalid options in [bzctrl]")
    assert "dedup_window_s must be a whole number of seconds" in todo["description"]
    assert "did you mean include_tags?" in todo["description"]


def of_a_run(state="failed", try_number=1, **more):
    """Return the context of a task whose run is known."""
    context = new_task_context(state=state, **more)
    context["ti"].__dict__.update(
        dag_id="customs", run_id=context["run_id"], try_number=try_number, max_tries=1
    )
    return context


def test_notifier_callback_called_twice_raises_one(bzctrl, store):
    """As Airflow does if it lost the worker: the outbox knows it once it is delivered, too; a clear is another failure."""
    for _ in range(2):
        BzCtrlNotifier()({**of_a_run(), "task_state_store": None})
    assert len(sent_todos(bzctrl)) == 1
    cleared = of_a_run()
    cleared["ti"].max_tries = 3
    BzCtrlNotifier()(cleared)
    assert len(sent_todos(bzctrl)) == 2


def test_notifier_of_a_lost_worker_names_its_task(store):
    """Airflow runs it in the DAG processor, with neither an exception nor a state in the context."""
    context = of_a_run(state=None, try_number=2)
    del context["exception"]
    for _ in range(2):
        BzCtrlNotifier()(context)
    assert [incident.fields["title"] for incident in read(store)] == ["customs: load failed"]
    waiting = of_a_run(state=None, try_number=1)
    del waiting["exception"]
    BzCtrlNotifier()(waiting)
    assert len(read(store)) == 1


def test_notifier_failure_in_templates_is_that_of_the_incident(bzctrl, variables):
    """Also if the worker was lost."""
    context = of_a_run(state=None, try_number=2)
    del context["exception"]
    BzCtrlNotifier(lrn="{{ failure.kind }} {{ failure.task_ids | join }}")(context)
    assert sent_todos(bzctrl)[0]["lrn"] == "task load"


def test_notifier_of_a_run_waits_for_no_retry(bzctrl, variables):
    """The task instance in its context may be one that never ran, which has tries left."""
    context = of_a_run(state=None, try_number=0, reason="task_failure")
    del context["exception"]
    BzCtrlNotifier()(context)
    assert len(sent_todos(bzctrl)) == 1


def test_notifier_with_two_connections_raises_two(bzctrl, store, monkeypatch):
    """One for acceptance and one for production, for example; also if repeated failures are one."""
    monkeypatch.setenv("AIRFLOW_CONN_OTHER", os.environ["AIRFLOW_CONN_BZCTRL_DEFAULT"])
    for window in (None, dt.timedelta(days=1)):
        for conn_id in ("bzctrl_default", "other"):
            context = of_a_run(run_id=f"window {window}")
            BzCtrlNotifier(bzctrl_conn_id=conn_id, dedup_window=window)(context)
    assert len(sent_todos(bzctrl)) == 4


def test_notifier_beside_another_raises_its_own(bzctrl, store):
    """And each try is one with on_retry=True."""
    BzCtrlNotifier(title="one")(of_a_run())
    BzCtrlNotifier(title="two")(of_a_run())
    on_retry = BzCtrlNotifier(title="each try", on_retry=True)
    on_retry(of_a_run(state="up_for_retry"))
    on_retry(of_a_run(try_number=2))
    assert [todo["title"] for todo in sent_todos(bzctrl)] == ["one", "two", "each try", "each try"]


def test_notifier_after_warnings_raises_another_for_the_failure(bzctrl, store):
    """A task that Cosmos warned of, or that called back at its start, and that fails in the same try is another incident."""
    notifier = BzCtrlNotifier()
    for more in ({"test_names": ["not_null"], "test_results": ["Got 1 result"]}, {}):
        context = of_a_run(state="running", **more)
        del context["exception"]
        notifier(context)
        notifier(context)
    notifier(of_a_run())
    assert [todo["title"] for todo in sent_todos(bzctrl)] == [
        "customs: load has 1 warning (not_null)",
        "customs: load is running",
        "customs: load failed",
    ]


def test_notifier_repeated_failure_raises_one(bzctrl, store, monkeypatch, caplog):
    """Across runs, for the callbacks of a task and of a DAG, also while the first one still waits."""
    notifier = BzCtrlNotifier(dedup_window=dt.timedelta(days=1))
    for run_id in ("r", "another run"):
        notifier(of_a_run(run_id=run_id))
    assert len(sent_todos(bzctrl)) == 1
    monkeypatch.setattr(callback, "may_wait", lambda *_: False)  # as from Airflow 3.1 on
    with caplog.at_level(logging.INFO):
        for run_id in ("r", "another run"):
            notifier(of_dag(run_id, clear_number=0))
    (waiting,) = read(store)
    assert waiting.fields["order_id"] == "r"
    assert f"No incident: the incident {waiting.identity} is open for the same failure since" in caplog.text


def test_notifier_that_raises_nothing_sees_to_what_waits(
    bzctrl, store, variables, configure, tmp_path, caplog
):
    """Suppressed by a window, a silence, a route or because it is there already, it has what others left delivered."""
    notifier = BzCtrlNotifier(dedup_window=dt.timedelta(days=1))
    silence = json.dumps([{"until": "2126-12-01T06:00Z"}])
    (tmp_path / "routes.toml").write_text("[[route]]\nignore = true\n")
    notifier(of_a_run())
    for number, (run_id, text, routes, part) in enumerate(
        [
            ("r", "", "", f"No incident: {KEY} ({LINK}) was created for it already."),
            ("another", "", "", f"No incident: {KEY} ({LINK}) is open for the same failure since 2"),
            ("silenced", silence, "", "No incident: silenced until"),
            ("ignored", "", str(tmp_path / "routes.toml"), "No incident: ignore = true in route 1"),
        ],
        2,
    ):
        configure(routes_path=routes)
        variables["bzctrl_silences"] = text
        add(store, f"left {number}", title=f"left {number}")
        with caplog.at_level(logging.INFO), pytest.MonkeyPatch.context() as patch:
            patch.setattr(callback, "_delivery", SimpleNamespace(request=deliver_soon))
            notifier(of_a_run(run_id=run_id))
        assert part in caplog.text
        assert read(store) == []
        assert [todo["title"] for todo in sent_todos(bzctrl)][1:] == [
            f"left {n}" for n in range(2, number + 1)
        ]


def test_notifier_of_a_task_delivers_at_once(bzctrl, store):
    """In the task's own process nothing follows the callback, so it delivers, and keeps the link for the task's page."""
    context = of_a_run()
    BzCtrlNotifier(title="now")(context)
    assert [todo["title"] for todo in sent_todos(bzctrl)] == ["now"]
    assert context["ti"].pushed == [("bzctrl_todo_link", LINK)]
    assert read(store) == []
    (delivered,) = read(store, "delivered")
    assert (delivered.key, delivered.link) == (KEY, LINK)


def test_notifier_of_an_operator_with_a_todo_keeps_its_link(bzctrl, store):
    """The page of a task has one link, and the todo that the task created itself is its own."""
    context = of_a_run()
    context["task"].todo_link = "https://bzctrl.example/own"
    BzCtrlNotifier()(context)
    assert len(sent_todos(bzctrl)) == 1
    assert context["ti"].pushed == []


def test_notifier_that_cannot_push_the_link_has_raised_the_incident(bzctrl, store, caplog):
    """The link is an addition: its failure costs nothing."""
    context = of_a_run()
    context["ti"].xcom_push = lambda **_: 1 / 0
    BzCtrlNotifier()(context)
    assert len(sent_todos(bzctrl)) == 1
    assert "Skipped the link of the incident as an XCom of the task: ZeroDivisionError" in caplog.text


@pytest.mark.parametrize("asynchronous", [False, True])
def test_notifier_without_bzctrl_leaves_the_incident_in_the_outbox(bzctrl, store, caplog, asynchronous):
    """Nothing is raised then, and the log says where the incident waits."""
    bzctrl.post(ACC.create_url, status_code=503)
    notifier = BzCtrlNotifier(title="late", context=new_task_context())

    async def alert():
        await notifier

    with caplog.at_level(logging.INFO):
        asyncio.run(alert()) if asynchronous else notifier(new_task_context())
    (incident,) = read(store)
    assert incident.fields["title"] == "late"
    assert f"written into the outbox as {incident.identity}" in caplog.text


def test_notifier_facts_of_a_storm_are_in_the_outbox(store, set_airflow_version):
    """The summary of a storm names DAG, run, address and reason of each."""
    set_airflow_version(3, 1)
    context = of_a_run(reason="task_failure")
    context["dag"].task_ids = ["load"]
    context["dag"].get_task = lambda task_id: SimpleNamespace(
        task_id=task_id, task_type="@task", upstream_task_ids=set()
    )
    context["ti"].get_task_states = lambda **_: {"r": {"load": "failed"}}
    context["ti"].xcom_pull = lambda **_: {"exception": "OSError: disk full\non /data"}
    BzCtrlNotifier()(context)
    (incident,) = read(store)
    assert incident.facts == {
        "what": "run",
        "dag_id": "customs",
        "run_id": "r",
        "run_url": "http://localhost:8080/dags/customs/runs/r",
        "reason": "OSError: disk full on /data",
    }


def of_dag(run_id="r", **dag_run):
    """Return the context of a DAG's callback, of a run that was cleared so many times."""
    context = {"dag": new_task_context()["dag"], "run_id": run_id, "reason": "task_failure"}
    return {**context, "dag_run": SimpleNamespace(**dag_run)} if dag_run else context


def test_notifier_of_a_run_counts_each_clear_as_a_failure_of_its_own(store):
    """A callback that is called twice is one incident; a run that was cleared and fails again is another."""
    for clear_number in (0, 0, 1):
        BzCtrlNotifier()(of_dag(clear_number=clear_number))
    assert len(read(store)) == 2


def test_notifier_of_a_run_that_it_does_not_know_loses_no_failure(store):
    """On Airflow 3.0 the context does not say how often a run was cleared."""
    for _ in range(2):
        BzCtrlNotifier()(of_dag())
    assert len(read(store)) == 2


def test_notifier_of_many_runs_writes_all_before_it_delivers(bzctrl, store, monkeypatch):
    """From Airflow 3.1, all callbacks of a DAG file run in one process: none waits, and its end delivers a storm."""
    monkeypatch.setattr(airflow_compat, "airflow_version", lambda: (3, 1))
    delivery = BackgroundDelivery(deliver_soon)
    delivery.quiet_s = 60
    monkeypatch.setattr(callback, "_delivery", delivery)
    for number in range(25):
        BzCtrlNotifier()(of_dag(f"run {number}", clear_number=0))
    assert len(read(store)) == 25
    assert bzctrl.request_history == []
    delivery.finish()
    assert read(store) == []
    (todo,) = sent_todos(bzctrl)
    assert todo["title"].startswith("25 DAG runs failed")


@pytest.mark.parametrize("version", [(2, 11), (3, 0), (3, 1)])
def test_notifier_of_a_run_leaves_the_delivery_to_its_dag(bzctrl, store, monkeypatch, version):
    """The process of a DAG's callback keeps one of the few places in which Airflow parses DAG files."""
    monkeypatch.setattr(airflow_compat, "airflow_version", lambda: version)
    monkeypatch.setattr(callback, "_delivery", None)
    begin_delivery(store, scheduled=True)
    BzCtrlNotifier()(of_dag(clear_number=0))
    assert len(read(store)) == 1
    assert bzctrl.request_history == []


def test_notifier_of_a_run_before_airflow_3_1_delivers_before_it_ends(bzctrl, store, monkeypatch):
    """Each callback has a process of its own there, which ends without waiting for a thread."""
    monkeypatch.setattr(airflow_compat, "airflow_version", lambda: (3, 0))
    monkeypatch.setattr(callback, "_delivery", None)
    for number in range(2):
        BzCtrlNotifier()(of_dag(f"run {number}", clear_number=0))
        assert len(sent_todos(bzctrl)) == number + 1
    assert read(store) == []


def test_notifier_of_a_deadline_is_written_once(bzctrl, store):
    """The triggerer runs an alert again after a restart; two deadlines of a run are two incidents."""

    async def alert(name):
        deadline = {"id": name, "deadline_time": "07:00"}
        await BzCtrlNotifier(
            context={"dag_run": {"dag_id": "customs", "dag_run_id": "r"}, "deadline": deadline}
        )

    for name in ("first", "first", "second"):
        asyncio.run(alert(name))
    assert len(read(store)) == 2


def test_notifier_of_missed_slas_raises_one_that_names_the_late_tasks(
    bzctrl, store, configure, caplog, set_airflow_version
):
    """Airflow 2 passes five arguments, again at each check until no callback raises: one incident, and never an exception."""
    set_airflow_version(3, 0)  # whose callbacks of a DAG deliver themselves, as those of Airflow 2 do
    dag = new_dag()
    slas = [
        SimpleNamespace(task_id=task_id, execution_date=dt.datetime(2026, 11, day, tzinfo=dt.UTC))
        for task_id, day in (("load", 30), ("check", 30), ("check", 29))
    ]
    notifier = BzCtrlNotifier(
        description="Late: {{ slas | map(attribute='task_id') | sort | unique | join }}"
    )
    for late in (slas, slas[::-1], slas[:1]):
        notifier(dag, "load", "", late, [])
    first, second = sent_todos(bzctrl)
    assert first["title"] == "customs: 2 tasks are late (check, load)"
    assert (first["description"], first["orderID"]) == (
        "Late: checkload",
        "scheduled__2026-11-30T00:00:00+00:00",
    )
    assert second["title"] == "customs: 1 task is late (load)"
    BzCtrlNotifier()(dag, "load", "", slas, [])
    assert "\nLog of load: http" in sent_todos(bzctrl)[-1]["description"]
    configure(database="sqlite:////dev/null/bzctrl.db")
    bzctrl.post(ACC.create_url, status_code=500)
    notifier(dag, "load", "", slas[1:], [])
    assert "No incident was raised in BzCtrl" in caplog.text
    assert "Skipped the incident of missed SLAs" in caplog.text


def test_notifier_invalid_window_is_refused():
    """While the DAG is parsed: in the callback it would cost the incident."""
    with pytest.raises(
        ValueError, match=r"dedup_window: must be a timedelta, such as timedelta\(days=1\), not 3600"
    ):
        BzCtrlNotifier(dedup_window=3600)


def test_notifier_without_a_connection_writes_into_the_outbox(store, monkeypatch, caplog):
    """A connection that Airflow does not have can be made later; the incident says that nothing was sent."""

    def missing(_, conn_id):
        raise AirflowNotFoundException(f"The conn_id `{conn_id}` isn't defined")

    monkeypatch.setattr(BzCtrlHook, "get_connection", missing)
    BzCtrlNotifier(title="late", bzctrl_conn_id="made_later")(new_task_context())
    (incident,) = read(store)
    assert (incident.bzctrl_conn_id, incident.unanswered) == ("made_later", ())
    assert "Airflow has no connection 'made_later'" in caplog.text


@pytest.mark.parametrize("asynchronous", [False, True])
def test_notifier_whose_store_cannot_be_used_sends_directly(bzctrl, caplog, asynchronous):
    """A store that cannot be used costs no incident; if BzCtrl fails, too, the log has the whole payload."""

    async def alert():
        await BzCtrlNotifier(title="lost", context=new_task_context())

    def call():
        asyncio.run(alert()) if asynchronous else BzCtrlNotifier(title="lost")(new_task_context())

    call()
    assert len(sent_todos(bzctrl)) == 1
    assert "The store /dev/null/bzctrl.db cannot be used" in caplog.text
    assert "The incident is sent directly instead." in caplog.text
    bzctrl.post(ACC.create_url, status_code=500)
    with pytest.raises(BzCtrlServerError):
        call()
    assert '"title": "lost"' in caplog.text


def test_notifier_invalid_literals_are_one_error_of_the_dag():
    """Each is named with its allowed values while the DAG is parsed, and not on the night of the failure."""
    with pytest.raises(ValueError, match="Fix the following") as caught:
        BzCtrlNotifier(priority="urgent", impact="{{ params.impact }}", assignee="me", dedup_window="1d")
    assert [line.partition(":")[0] for line in str(caught.value).splitlines()[1:]] == [
        "- dedup_window",
        "- priority",
        "- assignee",
    ]


def test_notifier_invalid_literal_of_a_deadline_is_left_out(bzctrl):
    """A deadline's callback is made in the triggerer, after the failure, so that an error would cost the incident."""

    async def alert():
        context = {
            "dag_run": {"dag_id": "customs", "dag_run_id": "r"},
            "deadline": {"deadline_time": "07:00"},
        }
        await BzCtrlNotifier(context=context, priority="urgent", dedup_window="1d")

    asyncio.run(alert())
    (todo,) = sent_todos(bzctrl)
    assert "priority" not in todo
    assert "priority (must be HIGH, MEDIUM or LOW, not 'urgent')" in todo["description"]


def test_notifier_value_that_is_invalid_after_rendering_is_left_out(bzctrl, caplog):
    """Description and log name the field and its allowed values; the incident is worth more than its field."""
    notifier = BzCtrlNotifier(
        priority="{{ 'urgent' }}", reminder_date="{{ 'soon' }}", assignee="{{ 'nobody' }}", lrn="{{ run_id }}"
    )
    with caplog.at_level(logging.ERROR):
        notifier(new_task_context())
    (todo,) = sent_todos(bzctrl)
    assert todo["title"] == "customs: load failed"
    assert todo["lrn"] == "r"
    assert {"priority", "reminderDate"}.isdisjoint(todo)
    assert todo["assignee"] == todo["reporter"]
    for text in (todo["description"], caplog.text):
        assert "priority (must be HIGH, MEDIUM or LOW, not 'urgent')" in text
        assert "reminder_date (" in text
        assert "assignee (" in text


@pytest.mark.parametrize("template", ["{{ failure }}", "{{ exception }}"])
def test_notifier_native_rendering_makes_text_of_objects(bzctrl, template):
    """With render_template_as_native_obj=True, a template of one variable returns the object itself."""
    context = new_task_context()
    context["dag"].get_template_env = lambda **_: NativeEnvironment()
    context["dag"].render_template_as_native_obj = True
    BzCtrlNotifier(title=template)(context)
    (todo,) = sent_todos(bzctrl)
    assert (
        todo["title"]
        == {"{{ failure }}": "customs: load failed", "{{ exception }}": "OSError: disk full"}[template]
    )
    assert "Left out" not in todo["description"]


MARKS_OF_A_TEST = [{"dag_run": SimpleNamespace(triggering_user_name="dag_test")}, {"test_mode": True}]
"""Of ``DAG.test()`` from Airflow 3.1 on, and of ``airflow tasks test`` in 2.11."""


@pytest.mark.parametrize("asynchronous", [False, True])
@pytest.mark.parametrize("mark", MARKS_OF_A_TEST, ids=["DAG.test", "tasks test"])
def test_notifier_in_a_test_run_only_logs(bzctrl, configure, caplog, mark, asynchronous):
    """The log has the incident and the option that makes it be sent."""
    context = new_task_context(**mark)

    async def alert():
        await BzCtrlNotifier(context=context, priority="HIGH")

    with caplog.at_level(logging.WARNING):
        asyncio.run(alert()) if asynchronous else BzCtrlNotifier(priority="HIGH")(context)
    assert bzctrl.request_history == []
    assert "in_test_runs = True" in caplog.text
    assert '"title": "customs: load failed"' in caplog.text
    configure(in_test_runs="True")
    BzCtrlNotifier()(context)
    assert len(sent_todos(bzctrl)) == 1


def test_notifier_in_a_run_without_a_mark_of_a_test_sends(bzctrl):
    """An incident too many is better than one too few: no name of a user or of a run but Airflow's own is a mark."""
    real = [
        {"dag_run": SimpleNamespace(triggering_user_name=None)},
        {"dag_run": SimpleNamespace(triggering_user_name="test")},
        {"dag_run": SimpleNamespace(run_id="dag_test")},
        {"test_mode": False},
        {"test_mode": "True"},
        {},
    ]
    for number, mark in enumerate(real, 1):
        BzCtrlNotifier()(new_task_context(**mark))
        assert len(sent_todos(bzctrl)) == number


@pytest.mark.parametrize(
    ("parameters", "linked"),
    [
        ({}, True),
        ({"link_to_run": False}, False),
        ({"description": "d"}, False),
        ({"description": "d", "link_to_run": True}, True),
    ],
)
def test_notifier_link_to_run_decides_about_the_address(bzctrl, parameters, linked):
    """A generated description has the address of the run by default, and one of the user's own on request."""
    BzCtrlNotifier(**parameters)(new_task_context())
    description = bzctrl.request_history[-1].json()["description"]
    assert bool(re.search(r"\n(Airflow|Run): http\S+$", description)) is linked


def test_notifier_owner_that_is_an_address_is_the_assignee(bzctrl):
    """The owner of the DAG comes before the assignee of the connection, and after the notifier's own."""
    dag = new_dag()
    dag.owner = "customs@example.com"
    BzCtrlNotifier()(new_task_context(dag=dag))
    BzCtrlNotifier(assignee="mine@example.com")(new_task_context(dag=dag))
    assert [todo["assignee"] for todo in sent_todos(bzctrl)] == [
        "customs@example.com",
        "mine@example.com",
    ]


def failing_notifier(**fields):
    """Return one whose todo BzCtrl refuses, so that its payload is in the log."""
    return BzCtrlNotifier(order_id="o", **{"title": "lost", "description": "d", **fields})


async def _awaited(notifier):
    await notifier


@pytest.mark.security
@pytest.mark.parametrize("asynchronous", [False, True])
def test_notifier_lost_incident_is_one_line_without_secrets(bzctrl, monkeypatch, caplog, asynchronous):
    """It has no forged line and no password, not even one that JSON escapes."""
    set_connection(monkeypatch, password=hostile.PASSWORD)
    mask_secret(hostile.PASSWORD)
    bzctrl.post(ACC.create_url, status_code=400)
    notifier = failing_notifier(
        description=f"Zoll 橙 {hostile.PASSWORD}{FORGED}", category=[hostile.PASSWORD]
    )
    if asynchronous:
        notifier.context = new_run_context()
    with pytest.raises(Exception, match="400"), caplog.at_level(logging.ERROR):
        asyncio.run(_awaited(notifier)) if asynchronous else notifier(new_run_context())
    line = find_one(caplog.records, "It would have been")
    assert line.isprintable()
    assert "Zoll 橙 ***" in line
    logged = json.loads(line.partition("been: ")[2])
    assert logged["category"] == ["***"]
    for secret in (hostile.PASSWORD, json.dumps(hostile.PASSWORD)[1:-1], "mpl3"):
        assert secret not in caplog.text


@pytest.mark.security
@pytest.mark.parametrize("value", [Secretive(), RaisingInComparisons(), {("a",): RaisingInComparisons()}])
def test_notifier_object_in_field_is_left_out(bzctrl, caplog, value):
    """The incident is raised without its field, and log and description only have the object's type."""
    notifier = BzCtrlNotifier(order_id="o", title="kept", description="d")
    notifier.lrn = value
    with caplog.at_level(logging.ERROR):
        notifier.notify(new_run_context())
    (todo,) = sent_todos(bzctrl)
    assert todo["title"] == "kept"
    assert "lrn" not in todo
    for text in (caplog.text, todo["description"]):
        assert "lrn (must be text, not an object of type" in text or "lrn (cannot be read" in text
        assert "hunter2" not in text


@pytest.mark.security
def test_notifier_template_in_exception_is_data(bzctrl):
    """A template in it is not rendered, half a surrogate pair and control characters do not lose the incident."""
    text = "{{ conn.bzctrl_default.password }} caf\udce9 \x00\x1b[31m <script>"
    BzCtrlNotifier()(new_task_context(exception=ValueError(text)))
    BzCtrlNotifier(title="{{ exception }}", description="{{ failure.exception }}")(
        new_task_context(exception=ValueError("{{ 7 * 7 }} {% raw %}"))
    )
    first, second = sent_todos(bzctrl)
    assert "{{ conn.bzctrl_default.password }} caf\ufffd \ufffd\ufffd[31m <script>" in first["description"]
    assert (second["title"], second["description"]) == (
        "{{ 7 * 7 }} {% raw %}",
        "ValueError: {{ 7 * 7 }} {% raw %}",
    )


@pytest.mark.security
def test_notifier_unreadable_exception_raises_an_incident(bzctrl):
    """The incident has the type of the exception."""

    class UnreadableError(Exception):
        def __str__(self):
            raise RuntimeError("hunter2")

    BzCtrlNotifier()(new_task_context(exception=UnreadableError()))
    (todo,) = sent_todos(bzctrl)
    assert "Unreadable" in todo["description"]
    assert "hunter2" not in todo["description"]
