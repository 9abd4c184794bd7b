"""The command ``bzctrl check``, and how the results of all commands are printed."""

from __future__ import annotations

import json
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any, Literal, NamedTuple

import airflow
from airflow.providers.common.compat.sdk import AirflowNotFoundException

from bzctrl_provider.airflow_compat import airflow_version, find_database_error, find_hosts
from bzctrl_provider.best_effort import exception_text
from bzctrl_provider.cli.explain import read_silences, run_explain
from bzctrl_provider.exceptions import BzCtrlConfigError, BzCtrlError
from bzctrl_provider.hooks.bzctrl import BzCtrlHook
from bzctrl_provider.incidents.deployment import SILENCES_VARIABLE
from bzctrl_provider.outbox.delivery import SUPPLIED_FIELDS
from bzctrl_provider.outbox.runner import SCHEDULED_FOR_S, is_scheduled
from bzctrl_provider.outbox.writer import format_time
from bzctrl_provider.rules.routes import RoutesFile, find_dead_fields
from bzctrl_provider.rules.silences import parse_silences
from bzctrl_provider.settings import OPTIONS, settings
from bzctrl_provider.store import deliveries, failed_runs, incidents
from bzctrl_provider.store.database import StoreError, Transaction, database, find_misplacement
from bzctrl_provider.text import TEXT_CHARS, count, format_span, one_line

if TYPE_CHECKING:
    import argparse
    from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
    from typing import TextIO

Status = Literal["ok", "warning", "fault", "skipped", "held", "differed"]


class Finding(NamedTuple):
    """The result of one check.

    :param check: the name of the check.
    :param status: ``ok``, ``warning``, ``fault``, or ``skipped`` if it could not be made because of another fault; for a
        statement about BzCtrl ``held``, ``differed`` or ``skipped``.
    :param message: one sentence; for a warning and a fault, with the remedy.
    :param details: further lines, such as each of several faults.
    :param facts: figures for a monitoring system, plain JSON data.
    """

    check: str
    status: Status
    message: str
    details: Sequence[str] = ()
    facts: Mapping[str, Any] = {}

    def lines(self) -> Iterator[str]:
        """Yield the line of the check, and one for each detail."""
        yield f"{self.status:<8} {self.check:<11} {one_line(self.message, max_chars=TEXT_CHARS)}"
        for detail in self.details:
            yield f"           - {one_line(detail, max_chars=TEXT_CHARS)}"


def describe_error(error: BaseException) -> str:
    """Return the message of an error of this provider or of Airflow, redacted, on one line."""
    # The messages of these are sentences for users; of others, the type is needed as well.
    known = isinstance(error, BzCtrlError | StoreError | AirflowNotFoundException | ValueError | OSError)
    text = exception_text(str(error) if known and str(error) else error) or type(error).__name__
    return one_line(text, max_chars=TEXT_CHARS)


def show(report: Mapping[str, Any], lines: Iterable[str], arguments: argparse.Namespace, out: TextIO) -> int:
    """Print the report of a command: one JSON object with ``--json``, otherwise lines. Return the exit code."""
    for line in [json.dumps(report, ensure_ascii=False)] if arguments.json else lines:
        print(line, file=out, flush=True)
    return int(not report.get("ok", True))


def fail(message: str, arguments: argparse.Namespace, out: TextIO) -> int:
    """Print why a command was not executed, and return 1.

    :param message: the reason.
    :param arguments: those of the command.
    :param out: gets the message.
    """
    return show({"ok": False, "error": message}, [message], arguments, out)


OLDEST_AIRFLOW = (2, 11)
NEWEST_TESTED_AIRFLOW = (3, 3)

WAITS_TOO_LONG_S = 3600
"""A delivery runs each minute, and an incident whose attempts had no response waits at most one hour for the next."""

_DELIVER = "Create and unpause the delivery DAG, or run `bzctrl outbox deliver` each minute by cron."

_REJECTED = "Rejected incidents are never sent: `bzctrl outbox list` has the reasons. Create them by hand, and `bzctrl outbox discard` them."

_FAILED_RUNS_NEED: dict[failed_runs.Part, str] = {
    "scheduler": "No scheduler has loaded the provider's plugin{ago}: it notes no failed run. Install the provider where the scheduler runs, set incident_on_failed_run and database there, too, and restart it.",
    "delivery": f"No delivery has run{{ago}}: the incidents of failed runs wait. {_DELIVER}",
}
"""The parts of a deployment that incidents of failed runs need, and what is said if one was not at work lately, and for how long."""

_MAY_BE_IN_DATABASE = "Airflow's database, which cannot be read, may have it."


def run(arguments: argparse.Namespace, out: TextIO) -> int:
    """Print the result of each check; return 1 if there is a fault.

    :param arguments: those of the command.
    :param out: gets the report.
    """
    if arguments.explain or arguments.file:
        return show(*run_explain(arguments), arguments, out)
    report: dict[str, Any] = {"ok": True, "checks": []}
    for finding in check_all(arguments.conn_id or settings().conn_id):
        report["ok"] &= finding.status != "fault"
        report["checks"].append(finding._asdict())
        if not arguments.json:  # each at once: a server that says nothing keeps the next check waiting
            show(report, finding.lines(), arguments, out)
    return show(report, (), arguments, out)


def check_all(conn_id: str) -> Iterator[Finding]:
    """Yield the result of each check; never raise.

    :param conn_id: the connection.
    """
    # First, because it explains most of the others; whether it is a fault, the connection shows.
    error = find_database_error()
    connection = _guard("connection", lambda: check_connection(conn_id, is_all_read=not error))
    status: Status = "fault" if connection.status == "skipped" else "warning" if error else "ok"
    yield Finding("database", status, error or "Airflow's database can be read.")
    yield _guard("airflow", check_airflow)
    yield _guard("options", check_options)
    yield connection
    if connection.status == "ok":
        yield _guard("token", lambda: check_token(conn_id))
    else:
        why = "has a fault" if connection.status == "fault" else "is not known"
        yield Finding("token", "skipped", f"No token was requested: the connection {why}.")
    yield _guard("routes", check_routes)
    yield _guard("silences", lambda: check_silences(is_all_read=not error))
    yield _guard("outbox", lambda: check_outbox([] if error else find_hosts()))
    yield _guard("delivery", check_delivery)
    yield _guard("failed_runs", check_failed_runs)


def _guard(name: str, check: Callable[[], Finding]) -> Finding:
    """Return the result of a check; its error is a fault, and the next check is made."""
    try:
        return check()
    except Exception as exc:  # noqa: BLE001 - a secrets backend, a database or a storage that is down
        return Finding(name, "fault", describe_error(exc))


def check_airflow() -> Finding:
    """Check that this version of Airflow is supported."""
    version = airflow_version()
    oldest, newest = (".".join(map(str, one)) for one in (OLDEST_AIRFLOW, NEWEST_TESTED_AIRFLOW))
    found = f"Airflow {airflow.__version__} is"
    if version < OLDEST_AIRFLOW:
        return Finding("airflow", "fault", f"{found} not supported: install {oldest} or newer.")
    if version > NEWEST_TESTED_AIRFLOW:
        message = f"{found} newer than {newest}, the newest that this version of the provider is tested with."
        return Finding("airflow", "ok", message)
    return Finding("airflow", "ok", f"{found} supported ({oldest} to {newest}).")


def check_options() -> Finding:
    """Check the section ``[bzctrl]`` of Airflow's configuration."""
    options = settings()
    if options.errors:
        message = "Correct the section [bzctrl] of Airflow's configuration and restart all components; until then, the defaults of these options are used."
        return Finding("options", "fault", message, options.errors)
    changed = [name for name, row in OPTIONS.items() if getattr(options, name) != row.default]
    shown = f"changed: {', '.join(changed)}" if changed else "all have their defaults"
    return Finding("options", "ok", f"The options of [bzctrl] are valid; {shown}.")


def check_connection(conn_id: str, *, is_all_read: bool) -> Finding:
    """Check that an Airflow connection exists and is complete, without a request.

    :param is_all_read: whether Airflow's database can be read.
    """
    try:
        client = BzCtrlHook(conn_id).get_conn()
    except BzCtrlConfigError as exc:
        return Finding("connection", "fault", exc.headline, [str(error) for error in exc.errors])
    except AirflowNotFoundException:
        if is_all_read:
            raise
        return Finding("connection", "skipped", _MAY_BE_IN_DATABASE)
    message = f"{conn_id} is valid; todos will be created at {client.config.endpoints.create_url}."
    details = [
        f"It has no {name}: a todo without one of its own cannot be created."
        for name in SUPPLIED_FIELDS
        if name not in client.config.defaults
    ]
    return Finding("connection", "ok", message, details)


def check_token(conn_id: str) -> Finding:
    """Check that BzCtrl grants a token; nothing is created."""
    is_granted, message = BzCtrlHook(conn_id).test_connection()
    return Finding("token", "ok" if is_granted else "fault", message)


def check_routes() -> Finding:
    """Check the routes file."""
    path = settings().routes_path
    if path is None:
        message = "There is no routes file: routes_path in the section [bzctrl] is empty."
        return Finding("routes", "ok", message)
    loaded = RoutesFile(path).load()
    if loaded.routes is None:
        message = f"Correct {path}. A process that has read no good version of it yet uses the defaults."
        return Finding("routes", "fault", message, loaded.errors)
    message = f"{path} is valid; {count(len(loaded.routes), 'route')}."
    return Finding("routes", "ok", message, list(find_dead_fields(loaded.routes)))


def check_silences(*, is_all_read: bool) -> Finding:
    """Check the Variable with the silences.

    :param is_all_read: whether Airflow's database can be read.
    """
    text = read_silences()
    if text is None and not is_all_read:
        return Finding("silences", "skipped", _MAY_BE_IN_DATABASE)
    silences, errors = parse_silences(text)
    if errors:
        message = f"Correct the Variable {SILENCES_VARIABLE}; until then, these silences do not apply, and the incidents are raised."
        return Finding("silences", "fault", message, errors)
    now = datetime.now(UTC)
    active = sum(now < silence.until for silence in silences)
    state = f"is valid; {active} active, {len(silences) - active} ended" if silences else "has no silences"
    return Finding("silences", "ok", f"The Variable {SILENCES_VARIABLE} {state}.")


def check_outbox(hosts: Sequence[str]) -> Finding:
    """Check that the store can be used, fits the deployment, and that nothing waits too long or was rejected.

    :param hosts: those of Airflow's running components.
    """
    store = database()
    with store.transaction() as tx:
        waiting, oldest = incidents.count(tx, "waiting", "sending")
        rejected, _ = incidents.count(tx, "rejected")
        delay = _find_delay(tx, waiting, oldest)
        oldest_s = tx.now - oldest if oldest else None
    faults = list(filter(None, (delay, _REJECTED if rejected else "", find_misplacement(hosts))))
    age = f" (the oldest for {format_span(oldest_s)})" if oldest_s is not None else ""
    message = f"{store} can be used; {waiting} waiting{age}, {rejected} rejected."
    facts = {"address": str(store), "waiting": waiting, "oldest_s": oldest_s, "rejected": rejected}
    return Finding("outbox", "fault" if faults else "ok", message, faults, facts)


def _find_delay(tx: Transaction, waiting: int, oldest: float | None) -> str:
    """Return why what waits is not delivered in time; empty if it is."""
    if oldest is None:
        return ""
    since = f"{waiting} {'waits' if waiting == 1 else 'wait'} since {format_time(oldest)}"
    began_at, _ = deliveries.find_deliveries(tx)
    if tx.now - max(began_at, oldest) > SCHEDULED_FOR_S:
        span = f" for {format_span(tx.now - began_at)}" if began_at else ""
        return f"{since}, and no delivery has run{span}. {_DELIVER}"
    if tx.now - oldest > WAITS_TOO_LONG_S:
        return f"{since}: `bzctrl outbox list` has the reasons, and `bzctrl outbox deliver` sends all now."
    return ""


def check_delivery() -> Finding:
    """Check that the delivery DAG runs if ``incident_on_import_error`` needs it; a command in cron leaves no other trace."""
    if is_scheduled():
        return Finding("delivery", "ok", "The delivery DAG has begun a delivery in the last 5 minutes.")
    if settings().incident_on_import_error:
        message = f"incident_on_import_error is on, and no delivery DAG has begun a delivery in the last 5 minutes: incidents about broken DAG files wait. {_DELIVER}"
        return Finding("delivery", "warning", message)
    message = "No delivery DAG has begun a delivery in the last 5 minutes, and incident_on_import_error, which needs one, is off."
    return Finding("delivery", "ok", message)


def check_failed_runs() -> Finding:
    """Check that ``incident_on_failed_run`` has both that it needs: the listener in the scheduler, and deliveries."""
    if not settings().incident_on_failed_run:
        message = "incident_on_failed_run is off: failed runs raise no incident by themselves."
        return Finding("failed_runs", "ok", message)
    faults = []
    with database().transaction() as tx:
        number, oldest = failed_runs.count_undecided(tx)
        for part, fault in _FAILED_RUNS_NEED.items():
            at = failed_runs.find_heartbeat(tx, part)
            if at is None or tx.now - at > SCHEDULED_FOR_S:
                faults.append(fault.format(ago="" if at is None else f" for {format_span(tx.now - at)}"))
        age = "" if oldest is None else f" (the oldest for {format_span(tx.now - oldest)})"
    runs = "run waits" if number == 1 else "runs wait"
    message = f"incident_on_failed_run is on; {number} failed {runs} for a delivery{age}."
    return Finding("failed_runs", "fault" if faults else "ok", message, faults)
