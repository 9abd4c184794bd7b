"""The command ``bzctrl check``, and how the results of all commands are printed."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass, field
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any, Literal

import airflow
from airflow.providers.common.compat.sdk import AirflowNotFoundException

from bzctrl_provider.airflow_compat import (
    airflow_version,
    find_database_error,
    find_hosts,
    read_server_variable,
    use_metadata_database,
)
from bzctrl_provider.best_effort import exception_text
from bzctrl_provider.cli.explain import run_explain
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
from bzctrl_provider.store.database import StoreError, database, find_misplacement
from bzctrl_provider.text import TEXT_CHARS, one_line

if TYPE_CHECKING:
    import argparse
    from collections.abc import Callable, Iterator, Mapping, Sequence
    from typing import TextIO

    from bzctrl_provider.store.database import Transaction

Status = Literal["ok", "warning", "fault", "skipped", "held", "differed"]


@dataclass(frozen=True, kw_only=True)
class Finding:
    """The result of one check.

    :param check: the name of the check.
    :param status: ``ok``, ``warning``, ``fault``, or ``skipped`` if it could not be made because of another fault; for a
        statement about BzCtrl ``held``, ``differed`` or ``skipped``.
    :param message: one sentence; for a warning and a fault, with the remedy.
    :param details: further lines, such as each of several faults.
    :param facts: plain JSON data about it.
    """

    check: str
    status: Status = "ok"
    message: str
    details: tuple[str, ...] = ()
    facts: Mapping[str, Any] = field(default_factory=dict)

    def lines(self) -> Iterator[str]:
        """Yield the line of the check, and one for each detail."""
        yield f"{self.status:<8} {self.check:<11} {one_line(self.message, max_chars=TEXT_CHARS)}"
        for detail in self.details:
            yield f"           - {one_line(detail, max_chars=TEXT_CHARS)}"

    def as_dict(self) -> dict[str, Any]:
        """Return the same as plain JSON data."""
        return asdict(self)


def describe_error(error: BaseException) -> str:
    """Return the message of an error of this provider or of Airflow, redacted, on one line."""
    # The messages of these are sentences for users; of others, the type is needed as well.
    known = isinstance(error, BzCtrlError | StoreError | AirflowNotFoundException | ValueError | OSError)
    text = exception_text(str(error) if known and str(error) else error) or type(error).__name__
    return one_line(text, max_chars=TEXT_CHARS)


def fail(message: str, arguments: argparse.Namespace, out: TextIO) -> int:
    """Print why a command was not executed, and return 1.

    :param message: the reason.
    :param arguments: those of the command.
    :param out: gets the message.
    """
    print(json.dumps({"ok": False, "error": message}) if arguments.json else message, file=out)
    return 1


def format_age(seconds: float) -> str:
    """Return a time span in its largest unit, such as ``12 min``.

    :param seconds: its length; less than 0 counts as 0.
    """
    for unit, length_s in (("d", 86_400), ("h", 3600), ("min", 60)):
        if seconds >= length_s:
            return f"{int(seconds // length_s)} {unit}"
    return f"{max(0, int(seconds))} s"


OLDEST_AIRFLOW = (2, 11)
NEWEST_TESTED_AIRFLOW = (3, 3)

WAITS_TOO_LONG = timedelta(hours=1)
"""A delivery runs each minute, and an incident whose attempts had no response waits at most one hour for the next."""

_FAILED_RUNS_NEED: dict[failed_runs.Part, str] = {
    "scheduler": "No scheduler has loaded the provider's plugin{}: it notes no failed run. Install the provider where the scheduler runs, "
    "set incident_on_failed_run and database there, too, and restart it.",
    "delivery": "No delivery has run{}: the incidents of failed runs wait. Create and unpause the delivery DAG, "
    "or run `bzctrl outbox deliver` each minute by cron.",
}
"""The parts of a deployment that incidents of failed runs need, and what is said if one was not at work lately, and for how long."""

_MAY_BE_IN_DATABASE = "Airflow's database, which cannot be read, may have it."


def run(arguments: argparse.Namespace, out: TextIO) -> int:
    """Print the result of each check; return 1 if there is a fault.

    :param arguments: those of the command.
    :param out: gets the report.
    """
    use_metadata_database()
    if arguments.explain or arguments.file:
        return run_explain(arguments, out)
    findings: list[Finding] = []
    for finding in check_all(arguments.conn_id or settings().conn_id, now=datetime.now(UTC)):
        findings.append(finding)
        if not arguments.json:
            print(*finding.lines(), sep="\n", file=out, flush=True)
    is_ok = all(finding.status != "fault" for finding in findings)
    if arguments.json:
        report = {"ok": is_ok, "checks": [finding.as_dict() for finding in findings]}
        print(json.dumps(report, ensure_ascii=False), file=out)
    return int(not is_ok)


def check_all(conn_id: str, *, now: datetime) -> Iterator[Finding]:
    """Yield the result of each check; never raise.

    :param conn_id: the connection.
    :param now: the present time, with a time zone.
    """
    database_error = find_database_error()
    connection = _guard("connection", lambda: check_connection(conn_id, is_all_read=not database_error))
    status: Status = "fault" if connection.status == "skipped" else "warning" if database_error else "ok"
    yield Finding(
        check="database", status=status, message=database_error or "Airflow's database can be read."
    )
    yield _guard("airflow", check_airflow)
    yield _guard("options", check_options)
    yield connection
    if connection.status == "ok":
        yield _guard("token", lambda: check_token(conn_id))
    else:
        why = "has a fault" if connection.status == "fault" else "is not known"
        message = f"No token was requested: the connection {why}."
        yield Finding(check="token", status="skipped", message=message)
    yield _guard("routes", check_routes)
    yield _guard("silences", lambda: check_silences(now, is_all_read=not database_error))
    yield _guard("outbox", lambda: check_outbox([] if database_error else find_hosts()))
    yield _guard("delivery", check_delivery)
    yield _guard("failed_runs", check_failed_runs)


def _guard(name: str, check: Callable[[], Finding]) -> Finding:
    """Return the result of a check; its error is a fault, and the next check is made."""
    try:
        return check()
    except Exception as exc:  # noqa: BLE001 - a secrets backend, a database or a storage that is down
        return Finding(check=name, status="fault", message=describe_error(exc))


def check_airflow() -> Finding:
    """Check that this version of Airflow is supported."""
    version = airflow_version()
    oldest, newest = (".".join(map(str, one)) for one in (OLDEST_AIRFLOW, NEWEST_TESTED_AIRFLOW))
    facts = {"version": airflow.__version__}
    if version < OLDEST_AIRFLOW:
        message = f"Airflow {airflow.__version__} is not supported: install {oldest} or newer."
        return Finding(check="airflow", status="fault", message=message, facts=facts)
    if version > NEWEST_TESTED_AIRFLOW:
        message = f"Airflow {airflow.__version__} is newer than {newest}, the newest that this version of the provider is tested with."
    else:
        message = f"Airflow {airflow.__version__} is supported ({oldest} to {newest})."
    return Finding(check="airflow", message=message, facts=facts)


def check_options() -> Finding:
    """Check the section ``[bzctrl]`` of Airflow's configuration."""
    options = settings()
    changed = [name for name, row in OPTIONS.items() if getattr(options, name) != row.default]
    facts = {"changed": changed}
    if options.errors:
        return Finding(
            check="options",
            status="fault",
            message="Correct the section [bzctrl] of Airflow's configuration and restart all components; until then, the defaults of these options are used.",
            details=options.errors,
            facts=facts,
        )
    shown = f"changed: {', '.join(changed)}" if changed else "all have their defaults"
    return Finding(check="options", message=f"The options of [bzctrl] are valid; {shown}.", facts=facts)


def check_connection(conn_id: str, *, is_all_read: bool = True) -> Finding:
    """Check that an Airflow connection exists and is complete, without a request.

    :param is_all_read: whether Airflow's database can be read.
    """
    facts: dict[str, Any] = {"conn_id": conn_id}
    try:
        client = BzCtrlHook(conn_id).get_conn()
    except BzCtrlConfigError as exc:
        return Finding(
            check="connection",
            status="fault",
            message=exc.headline,
            details=tuple(map(str, exc.errors)),
            facts=facts,
        )
    except AirflowNotFoundException:
        if is_all_read:
            raise
        return Finding(check="connection", status="skipped", message=_MAY_BE_IN_DATABASE)
    facts |= {"token_url": client.endpoints.token_url, "create_url": client.endpoints.create_url}
    message = f"{conn_id} is valid; todos will be created at {client.endpoints.create_url}."
    details = tuple(
        f"It has no {name}: a todo without one of its own cannot be created."
        for name in SUPPLIED_FIELDS
        if name not in client.defaults
    )
    return Finding(check="connection", message=message, details=details, facts=facts)


def check_token(conn_id: str) -> Finding:
    """Check that BzCtrl grants a token; nothing is created."""
    is_granted, message = BzCtrlHook(conn_id).test_connection()
    return Finding(check="token", status="ok" if is_granted else "fault", message=message)


def check_routes() -> Finding:
    """Check the routes file."""
    path = settings().routes_path
    if path is None:
        message = "There is no routes file: routes_path in the section [bzctrl] is empty."
        return Finding(check="routes", message=message)
    loaded = RoutesFile(path).load()
    facts: dict[str, Any] = {"path": path, "errors": list(loaded.errors)}
    if loaded.routes is None:
        return Finding(
            check="routes",
            status="fault",
            message=f"Correct {path}. A process that has read no good version of it yet uses the defaults.",
            details=loaded.errors,
            facts=facts,
        )
    number = len(loaded.routes)
    return Finding(
        check="routes",
        message=f"{path} is valid; {number} {'route' if number == 1 else 'routes'}.",
        details=tuple(find_dead_fields(loaded.routes)),
        facts={**facts, "routes": number},
    )


def check_silences(now: datetime, *, is_all_read: bool = True) -> Finding:
    """Check the Variable with the silences.

    :param now: the present time, with a time zone.
    :param is_all_read: whether Airflow's database can be read.
    """
    text = read_server_variable(SILENCES_VARIABLE)
    if text is None and not is_all_read:
        return Finding(check="silences", status="skipped", message=_MAY_BE_IN_DATABASE)
    silences = parse_silences(text if text is None or isinstance(text, str) else json.dumps(text))
    active = sum(now < silence.until for silence in silences.silences)
    facts = {"active": active, "ended": len(silences.silences) - active}
    if silences.errors:
        return Finding(
            check="silences",
            status="fault",
            message=f"Correct the Variable {SILENCES_VARIABLE}; until then, these silences do not apply, and the incidents are raised.",
            details=silences.errors,
            facts=facts,
        )
    state = f"is valid; {active} active, {facts['ended']} ended" if silences.silences else "has no silences"
    return Finding(check="silences", message=f"The Variable {SILENCES_VARIABLE} {state}.", facts=facts)


def check_outbox(hosts: Sequence[str]) -> Finding:
    """Check that the store can be used, fits the deployment, and that nothing waits too long or was rejected.

    :param hosts: those of Airflow's running components.
    """
    store = database()
    with store.transaction() as tx:
        waiting, oldest = incidents.count(tx, "waiting", "sending")
        rejected, _ = incidents.count(tx, "rejected")
        faults = list(_find_waiting(tx, waiting, oldest))
        oldest_s = tx.now - oldest if oldest else None
    if rejected:
        faults.append(
            "Rejected incidents are never sent: `bzctrl outbox list` has the reasons. Create them by hand, and "
            "`bzctrl outbox discard` them."
        )
    if misplacement := find_misplacement(hosts):
        faults.append(misplacement)
    age = f" (the oldest for {format_age(oldest_s)})" if oldest_s is not None else ""
    return Finding(
        check="outbox",
        status="fault" if faults else "ok",
        message=f"{store} can be used; {waiting} waiting{age}, {rejected} rejected.",
        details=tuple(faults),
        facts={"address": str(store), "waiting": waiting, "oldest_s": oldest_s, "rejected": rejected},
    )


def _find_waiting(tx: Transaction, waiting: int, oldest: float | None) -> Iterator[str]:
    """Yield why what waits is not delivered in time."""
    if oldest is None:
        return
    since = f"{waiting} {'waits' if waiting == 1 else 'wait'} since {format_time(oldest)}"
    began_at = deliveries.find_deliveries(tx).began_at
    if tx.now - max(began_at, oldest) > SCHEDULED_FOR_S:
        no_delivery = (
            f"no delivery has run for {format_age(tx.now - began_at)}" if began_at else "no delivery has run"
        )
        yield (
            f"{since}, and {no_delivery}. Create and unpause the delivery DAG, or run `bzctrl outbox deliver` each minute by "
            "cron."
        )
    elif tx.now - oldest > WAITS_TOO_LONG.total_seconds():
        yield f"{since}: `bzctrl outbox list` has the reasons, and `bzctrl outbox deliver` sends all now."


def check_delivery() -> Finding:
    """Check that the delivery DAG runs if ``incident_on_import_error`` needs it; a command in cron leaves no other trace."""
    is_needed, is_at_work = settings().incident_on_import_error, is_scheduled()
    facts = {"needed": is_needed, "scheduled": is_at_work}
    if is_at_work:
        message = "The delivery DAG has begun a delivery in the last 5 minutes."
    elif is_needed:
        message = "incident_on_import_error is on, and no delivery DAG has begun a delivery in the last 5 minutes: incidents about broken DAG files wait. Create and unpause the delivery DAG, or run `bzctrl outbox deliver` each minute by cron."
        return Finding(check="delivery", status="warning", message=message, facts=facts)
    else:
        message = "No delivery DAG has begun a delivery in the last 5 minutes, and incident_on_import_error, which needs one, is off."
    return Finding(check="delivery", message=message, facts=facts)


def check_failed_runs() -> Finding:
    """Check that ``incident_on_failed_run`` has both that it needs: the listener in the scheduler, and deliveries."""
    if not settings().incident_on_failed_run:
        message = "incident_on_failed_run is off: failed runs raise no incident by themselves."
        return Finding(check="failed_runs", message=message, facts={"needed": False})
    with database().transaction() as tx:
        number, oldest = failed_runs.count_undecided(tx)
        ages = {part: _age(tx, failed_runs.find_heartbeat(tx, part)) for part in _FAILED_RUNS_NEED}
        oldest_s = _age(tx, oldest)
    return Finding(
        check="failed_runs",
        status="fault" if any(map(_is_gone, ages.values())) else "ok",
        message=f"incident_on_failed_run is on; {number} failed {'run waits' if number == 1 else 'runs wait'} for a delivery"
        + ("." if oldest_s is None else f" (the oldest for {format_age(oldest_s)})."),
        details=tuple(
            _FAILED_RUNS_NEED[part].format("" if age is None else f" for {format_age(age)}")
            for part, age in ages.items()
            if _is_gone(age)
        ),
        facts={
            "needed": True,
            "waiting": number,
            **{f"{part}_s": age for part, age in ages.items()},
        },
    )


def _age(tx: Transaction, at: float | None) -> float | None:
    return None if at is None else tx.now - at


def _is_gone(age_s: float | None) -> bool:
    return age_s is None or age_s > SCHEDULED_FOR_S
