"""Provoke every message of docs/troubleshooting.md, and compare it with the page.

``SEEN`` has a function for each message. After an intended change, this writes the new messages into the page: ``TROUBLESHOOTING=write make integration PYTEST='-k troubleshooting'``.
"""

from __future__ import annotations

import asyncio
import datetime as dt
import difflib
import json
import logging
import os
import re
import socket
import sqlite3
import subprocess
import sys
import warnings
from contextlib import closing
from pathlib import Path
from types import SimpleNamespace

import pytest
from airflow.models.connection import Connection
from airflow.providers.common.compat.sdk import DAG, task
from airflow.providers.common.sql.operators.sql import SQLCheckOperator
from sqlalchemy import update
from support.airflow_versions import VERSION
from support.authority import new_authority
from support.scripted_server import CREATED, TOKEN, Server, close, hang, reply
from support.store import add

from bzctrl_provider import plugin, policy
from bzctrl_provider.checks import checks_from_dbt, checks_from_gx
from bzctrl_provider.client.retry import Deadline
from bzctrl_provider.failed_runs.scheduler import Writer
from bzctrl_provider.failed_runs.scheduler import _write_into_store as write_failed_runs
from bzctrl_provider.failure import FailedTask, Failure, LazyFailure
from bzctrl_provider.hooks.bzctrl import BzCtrlHook
from bzctrl_provider.import_errors import reporter
from bzctrl_provider.notifications.bzctrl import BzCtrlNotifier
from bzctrl_provider.operators.bzctrl import (
    CreateTodoOperator,
    CreateTodosOperator,
    IncidentOnFailureOperator,
)
from bzctrl_provider.outbox import deliver
from bzctrl_provider.sandbox.__main__ import main as sandbox_command
from bzctrl_provider.settings import settings
from bzctrl_provider.store import schema
from bzctrl_provider.store.database import database, find_misplacement
from bzctrl_provider.store.failed_runs import FailedRun

PAGE = Path(__file__).parents[2] / "docs" / "troubleshooting.md"
MARKED = re.compile(r"<!-- seen: (?P<name>[\w-]+) -->\n```text\n(?P<text>.*?)\n```\n", re.DOTALL)

START = dt.datetime(2026, 1, 1, tzinfo=dt.UTC)
PASSWORD = "Ex@mpl3!-Siebenschläfer"
WEB_PAGE = b"<!DOCTYPE html><html><head><title>Sign in</title></head><body><h1>Sign in to continue</h1></body></html>"
NOT_FOUND = b"<html><head><title>404 Not Found</title></head><body><center>nginx</center></body></html>"


class TaskInstance(SimpleNamespace):
    def xcom_push(self, key, value):
        pass


class Lab:
    """A BzCtrl with scripted responses over https, the connection `bzctrl_acc`, and the mistakes of users."""

    def __init__(self, folder, monkeypatch, caplog, capsys):
        self.folder, self.monkeypatch, self.caplog, self.capsys = folder, monkeypatch, caplog, capsys
        tls, self.ca_bundle = new_authority(folder)
        self.server = Server(tls=tls)
        self.connect()

    def stop(self):
        self.server.stop()

    def connect(self, conn_id="bzctrl_acc", *, extra=None, **changes):
        """Define a connection, by default a valid one; a value of None removes the field."""
        if not isinstance(extra, str):
            extra = {"domain_workspace": "EXA-CON-BUS-WOR", "ca_bundle": self.ca_bundle, **(extra or {})}
            extra = {name: value for name, value in extra.items() if value is not None}
        given = {
            "conn_type": "bzctrl",
            "host": f"https://127.0.0.1:{self.server.port}",
            "login": "user@example.com",
            "password": PASSWORD,
            "extra": extra,
            **changes,
        }
        given = {name: value for name, value in given.items() if value is not None}
        self.monkeypatch.setenv(f"AIRFLOW_CONN_{conn_id.upper()}", json.dumps(given))
        return self

    def when(self, *, token=TOKEN, create=CREATED):
        """Set the responses of BzCtrl."""
        self.server.token, self.server.create = [token], [create]
        return self

    def task(self, **fields):
        """Run a task that creates a todo; return its error, as the task's log ends with it."""
        usual = {"title": "Totals differ", "description": "By EUR 12.50.", "order_id": "ORDER 777"}
        with DAG("customs", schedule=None, start_date=START):
            operator = CreateTodoOperator(task_id="create", bzctrl_conn_id="bzctrl_acc")
        # Set afterwards: an invalid field that a DAG file has is refused while it is parsed.
        for name, value in {**usual, **fields}.items():
            setattr(operator, name, value)
        return self.run(operator)

    def tasks(self, todos, **more):
        """Run a task that creates several."""
        more = {"order_id": "ORDER 777", "bzctrl_conn_id": "bzctrl_acc", **more}
        return self.run(CreateTodosOperator(task_id="create", todos=todos, **more))

    def run(self, operator):
        context = {"ti": TaskInstance()}

        def rendered_and_executed():
            operator.render_template_fields(context)
            operator.execute(context)

        return self.error(rendered_and_executed)

    def error(self, call, *arguments):
        """Return the error of a call in one line, as Airflow and Python write it."""
        try:
            call(*arguments)
        except Exception as exc:
            return f"{type(exc).__name__}: {exc}"
        return "no error"

    def logged(self, level=logging.WARNING):
        """Return what the provider has logged."""
        return "\n".join(
            record.getMessage()
            for record in self.caplog.records
            if record.name.startswith("bzctrl_provider") and record.levelno >= level
        )

    def warned(self, **fields):
        """Run a task that succeeds, and return its warnings."""
        error = self.task(**fields)
        assert error == "no error"
        return self.logged()

    def dag_file(self, operator, *following, **parameters):
        """Parse a DAG file with an operator and tasks after it; return its import error as the UI shows it."""

        def read():
            with DAG("customs", schedule=None, start_date=START):
                operator(**parameters) >> [task() for task in following]

        return self.error(read)

    def callback(self, notifier=None, *, level=logging.ERROR, **fields):
        """Run the callback of a failed task; return the log after the task's own error."""
        # Outside of a task, Airflow 3.0 cannot read Variables, and would say so first.
        self.monkeypatch.setattr("bzctrl_provider.incidents.deployment._read_text", lambda: None)
        notifier = notifier or BzCtrlNotifier(bzctrl_conn_id="bzctrl_acc", **fields)
        with DAG("customs", schedule=None, start_date=START) as dag:
            totals = SQLCheckOperator(task_id="totals", conn_id="dwh", sql="SELECT 1")
        context = {
            "dag": dag,
            "task": totals,
            "ti": TaskInstance(task_id="totals", map_index=-1, state="failed", try_number=1),
            "run_id": "manual__2026-11-21",
            "exception": ValueError("the totals differ by 12.50"),
        }
        error = self.error(lambda: notifier(context))
        return "\n".join(filter(None, [self.logged(level), "" if error == "no error" else error]))

    def store(self, url=None):
        """Configure the database of the store."""
        url = url or f"sqlite:///{self.folder}/lib/bzctrl.db"
        self.monkeypatch.setenv("AIRFLOW__BZCTRL__DATABASE", url)
        settings.cache_clear()
        return self

    def used(self):
        """Use the store, and return the error."""

        def use():
            with database(timeout_s=1).transaction():
                pass

        return self.error(use)

    def kept(self, **fields):
        """Deliver one incident with these fields; return the warnings."""
        identity = "6f1ed002ab5595859014ebf0951522d9"
        given = {"title": "Totals differ", "order_id": "ORDER 777", **fields}
        add(database(), identity, conn_id="made_later", **given)
        deliver()
        return self.logged()

    def sandbox(self, *arguments):
        """Start the sandbox with invalid options; return its error."""
        assert sandbox_command(arguments) == 1
        return self.capsys.readouterr().err.strip()

    def elsewhere(self):
        """Return an address of this machine at which nothing listens."""
        with socket.create_server(("127.0.0.1", 0)) as taken:
            return f"http://127.0.0.1:{taken.getsockname()[1]}"


def refused(status, **answer):
    return reply(status, answer)


# --- the mistakes, by the section of the page -----------------------------------------------------------------------


@task
def load():
    pass


def provider_missing(lab):
    command = [sys.executable, "-I", "-S", "-c", "from bzctrl_provider.operators import bzctrl"]
    return subprocess.run(
        command, capture_output=True, text=True, check=False, timeout=60
    ).stderr.splitlines()[-1]


def connection_type_missing(lab):
    # Of a provider that is not there, because this one is.
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # Airflow warns of itself
        works, said = Connection(conn_id="bzctrl_acc", conn_type="bzctrl_that_is_not_there").test_connection()
    assert not works
    return said.replace("bzctrl_that_is_not_there", "bzctrl")


def policy_option(lab):
    lab.monkeypatch.setenv("AIRFLOW__BZCTRL__DEDUP_WINDOW_S", "1h")
    settings.cache_clear()
    lab.caplog.clear()
    try:
        policy.dag_policy(SimpleNamespace(dag_id="customs", tags=[], tasks=[], on_failure_callback=None))
    finally:
        settings.cache_clear()
    (record,) = [record for record in lab.caplog.records if record.levelname == "ERROR"]
    return record.getMessage()


def no_name(lab):
    lab.monkeypatch.setenv("NO_PROXY", "*")
    return lab.connect(host="https://bzctrl.invalid").task()


def proxy_refuses(lab):
    class Proxy(Server):
        def _answer(self, connection):
            if self._receive(connection):
                connection.sendall(b"HTTP/1.1 407 Proxy Authentication Required\r\n\r\n")
            return False

    proxy = Proxy()
    lab.monkeypatch.setenv("HTTPS_PROXY", f"http://user:{PASSWORD}@127.0.0.1:{proxy.port}")
    for name in ("NO_PROXY", "no_proxy"):
        lab.monkeypatch.delenv(name, raising=False)
    try:
        return lab.connect(host="https://bzctrl.invalid").task()
    finally:
        proxy.stop()


def no_tls(lab):
    class ClearText(Server):
        def _answer(self, connection):
            connection.recv(65536)
            connection.sendall(reply(400))
            return False

    server = ClearText()
    try:
        return lab.connect(host=f"https://127.0.0.1:{server.port}").task()
    finally:
        server.stop()


def not_up(lab):
    look_up = socket.getaddrinfo
    lab.monkeypatch.setattr(
        socket,
        "getaddrinfo",
        lambda host, *more, **options: look_up(
            "127.0.0.1" if host == "bzctrl.example.com" else host, *more, **options
        ),
    )
    lab.monkeypatch.setenv("NO_PROXY", "*")
    port = lab.elsewhere().rpartition(":")[2]
    return lab.connect(host=f"https://bzctrl.example.com:{port}").task()


def store_locked(lab):
    """Use a file that another process keeps locked."""
    lab.store().used()
    with closing(sqlite3.connect(lab.folder / "lib" / "bzctrl.db", isolation_level=None)) as other:
        other.execute("BEGIN IMMEDIATE")
        return lab.used()


def store_of_a_newer_release(lab):
    with lab.store() and database().transaction() as tx:
        tx.connection.execute(update(schema.schema).values(version=schema.VERSION + 1))
    return lab.used()


def store_in_a_file(lab):
    """Deliver by the delivery DAG of a deployment whose tasks run on other machines."""
    lab.monkeypatch.setenv("AIRFLOW__CORE__EXECUTOR", "CeleryExecutor")
    lab.store()
    return find_misplacement()


def roll_up_queued(lab):
    """Run the last try of a roll-up while BzCtrl is away."""
    failure = Failure(
        kind="checks", checks=1, tasks=(FailedTask(task_id="totals"),), dag_id="customs", run_id="r"
    )
    context = {"ti": TaskInstance(try_number=1, max_tries=0), "failure": LazyFailure({}, lambda _: failure)}
    operator = IncidentOnFailureOperator(
        task_id="raise_incident", bzctrl_conn_id="bzctrl_acc", order_id="ORDER 777"
    )
    lab.store().when(token=reply(503))
    operator.execute(context)
    return lab.logged(logging.ERROR)


def import_error_without_a_store(lab):
    plugin._logged.clear()
    lab.monkeypatch.setattr(reporter, "report", reporter.Reporter().report)
    lab.monkeypatch.setenv("AIRFLOW__BZCTRL__INCIDENT_ON_IMPORT_ERROR", "True")
    lab.store("sqlite:////proc/bzctrl.db")
    plugin.on_new_dag_import_error("/dags/customs.py", "ModuleNotFoundError: No module named 'pandas'")
    return lab.logged(logging.ERROR)


def failed_run_without_a_store(lab):
    lab.store("sqlite:////proc/bzctrl.db")
    lab.caplog.clear()
    writer = Writer(write_failed_runs)
    writer.add([FailedRun(dag_id="customs", run_id="scheduled__2026-11-21", why="task_failure")])
    writer.finish()
    first, *_, lost = [record.getMessage() for record in lab.caplog.records if record.levelname == "ERROR"]
    return f"{first}\n{lost}"


def sandbox_port_in_use(lab):
    with socket.create_server(("127.0.0.1", 0)) as taken:
        return lab.sandbox("--port", str(taken.getsockname()[1]))


def callback_of_a_deadline(lab):
    notifier = BzCtrlNotifier(
        bzctrl_conn_id="from_the_database", title="late", context={"dag_run": {}, "deadline": {}}
    )

    async def wait():
        await notifier

    return lab.error(lambda: asyncio.run(wait()))


def dbt_artifact(schema, **result):
    results = [{"unique_id": "test.shop.amounts", **result}]
    return {
        "metadata": {"dbt_schema_version": f"https://schemas.getdbt.com/dbt/{schema}.json"},
        "results": results,
    }


SEEN = {
    # the provider is not there, or the deployment's options are wrong
    "provider-missing": provider_missing,
    "connection-type-missing": connection_type_missing,
    "policy-option": policy_option,
    # the DAG file
    "behind-the-roll-up": lambda lab: lab.dag_file(IncidentOnFailureOperator, load, task_id="raise_incident"),
    "on-unknown-outcome": lambda lab: lab.dag_file(
        CreateTodoOperator, task_id="create", on_unknown_outcome="ignore"
    ),
    "max-workers": lambda lab: lab.dag_file(CreateTodosOperator, task_id="create", todos=[], max_workers=100),
    "dedup-of-many": lambda lab: lab.dag_file(
        CreateTodosOperator, task_id="create", todos=[], dedup_window=dt.timedelta(days=1)
    ),
    "dedup-window": lambda lab: lab.dag_file(CreateTodoOperator, task_id="create", dedup_window=3600),
    "unknown-argument": lambda lab: lab.dag_file(CreateTodoOperator, task_id="create", prioriy="HIGH"),
    "unknown-argument-of-the-notifier": lambda lab: lab.dag_file(BzCtrlNotifier, prioriy="HIGH"),
    # the connection
    "connection-missing": lambda lab: lab.task(bzctrl_conn_id="bzctrl_prod"),
    "connection-of-another-type": lambda lab: lab.connect(conn_type="postgres").task(),
    "connection-empty": lambda lab: lab.connect(
        host=None, login=None, password=None, extra={"ca_bundle": None}
    ).task(),
    "connection-contradicts-itself": lambda lab: lab.connect(
        host="https://bzctrl.example.com:8443", schema="http", port=443, extra={"verify": False}
    ).task(),
    "connection-extras": lambda lab: lab.connect(
        extra={
            "environment": "UAT",
            "timeout_s": "soon",
            "max_attempts": 0,
            "verify": "perhaps",
            "ca_bundle": "/etc/ssl/nowhere.pem",
            "message_format": "xml",
            "in_progress_spelling": "doing",
            "allow_http": "on request",
            "reporter": "Jane Doe",
            "assignee": ["jane@example.com"],
        }
    ).task(),
    "connection-extra-no-json": lambda lab: lab.connect(host=None, extra="environment=ACC").task(),
    "connection-clear-text": lambda lab: lab.connect(host="http://bzctrl.example.com").task(),
    "connection-host": lambda lab: lab.connect(
        host="https://bzctrl.example.com/bzctrl-core-api/oauth/token"
    ).task(),
    "connection-unknown-extra": lambda lab: lab.connect(extra={"enviroment": "ACC"}).warned(),
    # templates
    "template-undefined": lambda lab: lab.task(title="{{ nothing }}"),
    "template-failure": lambda lab: lab.task(description="{{ failure.taks }}"),
    "template-macro": lambda lab: lab.task(title="{{ in_euros(12.5) }}"),
    "template-none": lambda lab: lab.warned(lrn="{{ none }}"),
    # the todo
    "todo-values": lambda lab: lab.task(
        todo_type="bug",
        financial_impact="EUR 1.234,50",
        impact="urgent",
        likelihood="often",
        status="open",
        priority="now",
        assignee="Jane Doe",
        reporter="jane@",
        category={"a": 1},
        reminder_date="21/11/2026",
        order_id=" ",
    ),
    "todo-of-the-other-type": lambda lab: lab.task(todo_type="TASK", impact="HIGH"),
    "todo-where": lambda lab: lab.task(domain="EXA-CON-BUS"),
    "todo-without-text": lambda lab: lab.task(title=" ", description=None),
    "todo-unknown-field": lambda lab: lab.error(
        BzCtrlHook("bzctrl_acc").create_todo,
        {"todo_type": "INCIDENT", "title": "t", "description": "d", "orderID": "ORDER 777"},
    ),
    "todo-no-mapping": lambda lab: lab.tasks("{{ [1] }}"),
    # refused
    "wrong-password": lambda lab: lab.when(
        token=refused(401, error="unauthorized", error_description="Bad credentials")
    ).task(),
    "token-refused": lambda lab: lab.when(create=refused(401, error="unauthorized")).task(),
    "refused-400": lambda lab: lab.when(
        create=refused(400, error="Bad Request", error_description="unknown domainWorkSpace EXA-CON-BUS-WOR")
    ).task(),
    "refused-403": lambda lab: lab.when(create=refused(403, error="Forbidden")).task(),
    "refused-404": lambda lab: lab.when(token=reply(404, NOT_FOUND)).task(),
    "refused-413": lambda lab: lab.when(create=reply(413, b"Request Entity Too Large")).task(),
    "refused-429": lambda lab: lab.when(create=reply(429, b"", ["Retry-After: 30"])).task(),
    "refused-redirect": lambda lab: lab.when(
        token=reply(302, b"", ["Location: https://login.example.com/sso?from=bzctrl"])
    ).task(),
    # not reached
    "not-running": lambda lab: lab.connect(host=lab.elsewhere()).task(),
    "not-up": not_up,
    "no-name": no_name,
    "no-token-in-time": lambda lab: lab.connect(extra={"timeout_s": 0.3}).when(token=hang).task(),
    "no-answer-in-time": lambda lab: lab.connect(extra={"timeout_s": 0.3}).when(create=hang).task(),
    "connection-broke": lambda lab: lab.when(create=close).task(),
    "certificate-unknown": lambda lab: lab.connect(extra={"ca_bundle": None}).task(),
    "certificate-of-another-host": lambda lab: lab.connect(
        host=f"https://localhost:{lab.server.port}"
    ).task(),
    "no-tls": no_tls,
    "tls-only": lambda lab: lab.connect(host=f"http://127.0.0.1:{lab.server.port}").task(),
    "proxy": proxy_refuses,
    # out of order
    "server-500": lambda lab: lab.when(create=refused(500, error="Internal Server Error")).task(),
    "server-503": lambda lab: lab.when(create=reply(503, b"<html><h1>Maintenance</h1></html>")).task(),
    "retried": lambda lab: lab.when(create=reply(503, b"", ["Retry-After: 30"])).task() and lab.logged(),
    "server-token-500": lambda lab: lab.when(token=refused(500, error="Internal Server Error")).task(),
    "web-page-for-a-token": lambda lab: lab.when(token=reply(200, WEB_PAGE)).task(),
    "no-token-in-it": lambda lab: lab.when(token=reply(200, {"status": "ok"})).task(),
    "web-page-for-a-todo": lambda lab: lab.when(create=reply(200, WEB_PAGE)).task(),
    "error-for-a-todo": lambda lab: lab.when(
        create=reply(200, b'{"status": 500, "error": "Internal Server Error"}')
    ).task(),
    "no-link": lambda lab: lab.when(create=reply(200, {"title": "Totals differ"})).warned(),
    "unknown-outcome": lambda lab: (
        lab.when(create=hang).connect(extra={"timeout_s": 0.3}).task() and lab.logged()
    ),
    "unknown-outcome-fail": lambda lab: lab.when(create=refused(502)).task(on_unknown_outcome="fail"),
    # many
    "many-table": lambda lab: (
        lab.tasks(
            [
                {"title": "one"},
                {"title": "two", "impact": "urgent"},
                {"titel": "three"},
                {"title": "four", "impact": "urgent"},
            ],
            description="d",
            max_workers=1,
        )
        and lab.logged()
    ),
    "many": lambda lab: lab.tasks(
        [{"title": "one"}, {"title": "two", "impact": "urgent"}], description="d", max_workers=1
    ),
    "many-refused": lambda lab: lab.when(token=refused(401)).tasks(
        [{"title": "one"}, {"title": "two"}], description="d"
    ),
    # callbacks and the outbox
    "callback-queued": lambda lab: (
        lab.store().when(token=reply(503)).callback(level=logging.INFO).splitlines()[0]
    ),
    "callback-not-queued": lambda lab: (
        lab.store("sqlite:////proc/bzctrl.db").when(token=reply(503)).callback()
    ),
    "callback-template": lambda lab: lab.store().callback(title="{{ nothing }}"),
    "callback-without-brackets": lambda lab: lab.callback(BzCtrlNotifier),
    "callback-of-a-deadline": callback_of_a_deadline,
    "roll-up-queued": roll_up_queued,
    "outbox-connection": lambda lab: lab.store().kept(),
    "outbox-connection-incomplete": lambda lab: (
        lab.store().connect("made_later", extra={"domain_workspace": None}).kept()
    ),
    "outbox-todo": lambda lab: lab.store().connect("made_later").kept(impact="urgent", description=""),
    # the database of the provider
    "database-url": lambda lab: lab.store("bzctrl.db").used(),
    "database-driver": lambda lab: lab.store("mysql+nowhere://bzctrl:secret@db.example.com/bzctrl").used(),
    "database-away": lambda lab: lab.store("postgresql+psycopg2://bzctrl:secret@127.0.0.1:1/bzctrl").used(),
    "database-file": lambda lab: lab.store("sqlite:////proc/bzctrl.db").used(),
    "database-locked": store_locked,
    "database-newer": store_of_a_newer_release,
    "database-in-a-file": store_in_a_file,
    "failed-run-database": failed_run_without_a_store,
    "import-error-database": import_error_without_a_store,
    # results of other tools
    "checks-no-xcom": lambda _: checks_from_gx(None)["description"],
    "checks-no-file": lambda lab: checks_from_dbt(lab.folder / "target" / "run_results.json")["description"],
    "checks-version": lambda lab: lab.error(checks_from_dbt, dbt_artifact("run-results/v7")),
    "checks-other-artifact": lambda lab: lab.error(checks_from_dbt, dbt_artifact("manifest/v12")),
    "checks-manifest": lambda _: checks_from_dbt(
        dbt_artifact("run-results/v6", status="fail"), dbt_artifact("manifest/v21")
    )["description"].splitlines()[-1],
    "checks-compiled": lambda lab: lab.error(
        checks_from_dbt, dbt_artifact("run-results/v6", status="success")
    ),
    "checks-damaged": lambda lab: lab.error(checks_from_dbt, dbt_artifact("run-results/v6", failures=1)),
    "checks-incomplete": lambda lab: lab.error(
        checks_from_gx, {"success": False, "expectations": [], "statistics": {"evaluated_expectations": 2}}
    ),
    # the sandbox
    "sandbox-port": sandbox_port_in_use,
    "sandbox-options": lambda lab: lab.sandbox("--port", "99999", "--username", "user"),
    "sandbox-data": lambda lab: lab.sandbox("--port", "0", "--data", "/nowhere/todos.sqlite"),
}

OTHERWISE_ON = {
    "unknown-argument": {(2, 11)},  # another error, with the same text
    "connection-extra-no-json": {(3, 0), (3, 1)},  # it is a missing connection there
}


@pytest.fixture
def lab(tmp_path, monkeypatch, caplog, capsys):
    monkeypatch.setattr(Deadline, "wait", lambda *_: None)
    caplog.set_level(logging.INFO)
    lab = Lab(tmp_path, monkeypatch, caplog, capsys)
    yield lab
    lab.stop()


def normalised(text, folder):
    """Replace host, time and file, which differ in each run, by examples."""
    for pattern, made_up in {
        r"https://(127\.0\.0\.1|localhost):\d+": "https://bzctrl.example.com",
        r"for 'localhost'": "for 'bzctrl.example.com'",
        r"http://127\.0\.0\.1:\d+": "http://127.0.0.1:8137",
        r"at 127\.0\.0\.1, port \d+": "at 127.0.0.1, port 8137",
        r"bzctrl\.invalid": "bzctrl.example.com",
        r"nothing came for 0\.\d+ s": "nothing came for 30 s",
        # Which of the two it is depends on who is quicker.
        r"\[Errno 104\] Connection reset by peer": "Remote end closed connection without response",
        r"https://bzctrl\.example\.com:\d{5}": "https://bzctrl.example.com",
        r"http://localhost:8080/dags/[^\s\\\"]+": "https://airflow.example.com/…",
        r"airflow\.sdk\.exceptions\.": "airflow.exceptions.",
        r"\d{4}-\d\d-\d\d \d\d:\d\d:\d\d UTC": "2026-11-21 19:15:00 UTC",
        r"\b[0-9a-f]{32}\b": "6f1ed002ab5595859014ebf0951522d9",
        r"before \d\d:\d\d:\d\d UTC": "before 19:16:00 UTC",
        re.escape(str(folder)): "/var",
    }.items():
        text = re.sub(pattern, made_up, text)
    return text


def on_the_page():
    return {match["name"]: match["text"] for match in MARKED.finditer(PAGE.read_text())}


@pytest.mark.parametrize("name", SEEN)
def test_message_when_provoked_equals_the_page(lab, name):
    """The message is on the page literally, and contains no secret."""
    if VERSION in OTHERWISE_ON.get(name, ()):
        pytest.skip("this version of Airflow has another message")
    text = normalised(SEEN[name](lab), lab.folder)
    assert PASSWORD not in text + lab.caplog.text
    assert "no error" not in text
    if os.environ.get("TROUBLESHOOTING") == "write":
        write(name, text)
    said = on_the_page().get(name, "")
    assert text == said, "\n".join(
        difflib.unified_diff(said.splitlines(), text.splitlines(), "page", "seen", lineterm="")
    )


def write(name, text):
    page = PAGE.read_text()
    block = re.compile(rf"(<!-- seen: {name} -->\n```text\n).*?(\n```\n)", re.DOTALL)
    PAGE.write_text(block.sub(lambda match: match[1] + text + match[2], page))


def test_page_has_each_message_once():
    """Each message on the page is provoked by a test, and each provoked one is on the page once."""
    names = [match["name"] for match in MARKED.finditer(PAGE.read_text())]
    assert sorted(names) == sorted(SEEN)
    assert PAGE.read_text().count("```text") == len(SEEN)


def test_page_begins_with_eight_frequent_problems():
    """Each message of the first table is part of a message below, so that it is one that users see."""
    _, _, rest = PAGE.read_text().partition("\n## The eight most frequent problems\n")
    table, _, below = rest.partition("\n## ")
    rows = [row for row in table.splitlines() if row.startswith("| `")]
    assert len(rows) == 8
    assert PAGE.read_text().index("\n## ") == PAGE.read_text().index(
        "\n## The eight most frequent problems\n"
    )
    for row in rows:
        message, *_ = row.strip("| ").split(" | ")
        for part in re.findall(r"`([^`]+)`", message):
            assert part in below, part
