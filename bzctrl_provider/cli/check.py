"""The command ``bzctrl check``."""

from __future__ import annotations

import json
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any

from bzctrl_provider._airflow_internals import read_server_variable, use_metadata_database
from bzctrl_provider.cli.explain import run_explain
from bzctrl_provider.cli.findings import Finding, describe_error
from bzctrl_provider.settings import OPTIONS, settings
from bzctrl_provider.version_compat import airflow_version

if TYPE_CHECKING:
    import argparse
    from collections.abc import Callable, Iterator, Mapping
    from typing import TextIO

OLDEST_AIRFLOW = (2, 11)
NEWEST_TESTED_AIRFLOW = (3, 3)

WAITS_TOO_LONG = timedelta(hours=1)
"""A delivery runs each minute, and an entry whose attempts had no response waits at most one hour for the next."""

_DETAILS_MAX = 100


def run(arguments: argparse.Namespace, out: TextIO) -> int:
    """Print the result of each check; return 1 if there is a fault.

    :param arguments: those of the command.
    :param out: gets the report.
    """
    use_metadata_database()
    if arguments.explain or arguments.file:
        return run_explain(arguments, out)
    findings: list[Finding] = []
    for finding in check_all(arguments.conn_id, now=datetime.now(UTC)):
        findings.append(finding)
        if not arguments.json:
            print(*finding.lines(), sep="\n", file=out, flush=True)
    faults = sum(finding.status == "fault" for finding in findings)
    if arguments.json:
        report = {"ok": not faults, "checks": [finding.as_dict() for finding in findings]}
        print(json.dumps(report, ensure_ascii=False), file=out)
    return int(faults > 0)


def check_all(conn_id: str | None, *, now: datetime) -> Iterator[Finding]:
    """Yield the result of each check; never raise.

    :param conn_id: the connection; None for that of the options.
    :param now: the present time, with a time zone.
    """
    yield _guard("airflow", check_airflow)
    yield _guard("options", check_options)
    connection = _guard("connection", lambda: check_connection(conn_id or settings().conn_id))
    yield connection
    if connection.status == "ok":
        yield _guard("token", lambda: check_token(conn_id or settings().conn_id))
    else:
        yield Finding(
            check="token", status="skipped", message="No token was requested: the connection has a fault."
        )
    yield _guard("routes", check_routes)
    yield _guard("silences", lambda: check_silences(now))
    yield _guard("spool", lambda: check_spool(now))


def _guard(name: str, check: Callable[[], Finding]) -> Finding:
    """Return the result of a check; its error is a fault, and the next check is made."""
    try:
        return check()
    except Exception as exc:  # noqa: BLE001 - a secrets backend, a database or a storage that is down
        return Finding(check=name, status="fault", message=describe_error(exc))


def check_airflow() -> Finding:
    """Check that this version of Airflow is supported."""
    import airflow

    version, oldest, newest = airflow_version(), _dotted(OLDEST_AIRFLOW), _dotted(NEWEST_TESTED_AIRFLOW)
    facts = {"version": airflow.__version__}
    if version < OLDEST_AIRFLOW:
        message = f"Airflow {airflow.__version__} is not supported: install {oldest} or newer."
        return Finding(check="airflow", status="fault", message=message, facts=facts)
    if version > NEWEST_TESTED_AIRFLOW:
        message = f"Airflow {airflow.__version__} is newer than {newest}, the newest that this version of the provider is tested with."
    else:
        message = f"Airflow {airflow.__version__} is supported ({oldest} to {newest})."
    return Finding(check="airflow", message=message, facts=facts)


def _dotted(version: tuple[int, int]) -> str:
    return ".".join(map(str, version))


def check_options() -> Finding:
    """Check the section ``[bzctrl]`` of Airflow's configuration."""
    options = settings()
    changed = [name for name, row in OPTIONS.items() if getattr(options, name) != row.default]
    facts = {"changed": changed}
    if options.problems:
        return Finding(
            check="options",
            status="fault",
            message="Correct the section [bzctrl] of Airflow's configuration and restart all components; until then, the defaults of these options are used.",
            details=options.problems,
            facts=facts,
        )
    shown = f"changed: {', '.join(changed)}" if changed else "all have their defaults"
    return Finding(check="options", message=f"The options of [bzctrl] are valid; {shown}.", facts=facts)


def check_connection(conn_id: str) -> Finding:
    """Check that an Airflow connection exists and is complete, without a request."""
    from bzctrl_provider.exceptions import BzCtrlConfigError
    from bzctrl_provider.hooks.bzctrl import BzCtrlHook
    from bzctrl_provider.spool.delivery import SUPPLIED_FIELDS

    facts: dict[str, Any] = {"conn_id": conn_id}
    try:
        client = BzCtrlHook(conn_id).get_conn()
    except BzCtrlConfigError as exc:
        return Finding(
            check="connection",
            status="fault",
            message=exc.headline,
            details=tuple(map(str, exc.faults)),
            facts=facts,
        )
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
    from bzctrl_provider.hooks.bzctrl import BzCtrlHook

    is_granted, message = BzCtrlHook(conn_id).test_connection()
    return Finding(check="token", status="ok" if is_granted else "fault", message=message)


def check_routes() -> Finding:
    """Check the routes file."""
    path = settings().routes_path
    if path is None:
        return Finding(
            check="routes", message="There is no routes file: routes_path in the section [bzctrl] is empty."
        )
    from bzctrl_provider.routes import RoutesFile, find_dead_fields

    loaded = RoutesFile(path).load()
    facts: dict[str, Any] = {"path": path, "faults": [str(fault) for fault in loaded.faults[:_DETAILS_MAX]]}
    if loaded.faults or loaded.routes is None:
        return Finding(
            check="routes",
            status="fault",
            message=f"Correct {path}. A process that has read no good version of it yet uses the defaults.",
            details=tuple(map(str, loaded.faults[:_DETAILS_MAX])),
            facts=facts,
        )
    number = len(loaded.routes)
    return Finding(
        check="routes",
        message=f"{path} is valid; {number} {'route' if number == 1 else 'routes'}.",
        details=tuple(map(str, find_dead_fields(loaded.routes)[:_DETAILS_MAX])),
        facts={**facts, "routes": number},
    )


def check_silences(now: datetime) -> Finding:
    """Check the Variable with the silences.

    :param now: the present time, with a time zone.
    """
    from bzctrl_provider.silences import parse_silences
    from bzctrl_provider.silencing import SILENCES_VARIABLE

    text = read_server_variable(SILENCES_VARIABLE)
    silences = parse_silences(text if text is None or isinstance(text, str) else json.dumps(text))
    active = sum(now < silence.until for silence in silences.silences)
    facts = {"active": active, "ended": len(silences.silences) - active}
    if silences.faults:
        return Finding(
            check="silences",
            status="fault",
            message=f"Correct the Variable {SILENCES_VARIABLE}; until then, these silences do not apply, and the incidents are raised.",
            details=silences.faults[:_DETAILS_MAX],
            facts=facts,
        )
    if not silences.silences:
        return Finding(
            check="silences", message=f"The Variable {SILENCES_VARIABLE} has no silences.", facts=facts
        )
    message = f"The Variable {SILENCES_VARIABLE} is valid; {active} active, {facts['ended']} ended."
    return Finding(check="silences", message=message, facts=facts)


def check_spool(now: datetime) -> Finding:
    """Check that the spool can be written, and that nothing waits too long or was rejected.

    :param now: the present time, with a time zone.
    """
    from bzctrl_provider.spool.inspection import inspect_spool
    from bzctrl_provider.spool.outbox import open_store, spool_path

    address = spool_path()
    if address is None:
        return Finding(
            check="spool",
            message="There is no spool: spool_path in the section [bzctrl] is off. An incident that cannot be sent is in the log only.",
        )
    store = open_store(address)
    try:
        inspection = inspect_spool(store)
    except Exception as exc:  # noqa: BLE001 - each storage has errors of its own
        return Finding(
            check="spool",
            status="fault",
            message=f"{address} cannot be read: {describe_error(exc)}. Make it a folder that all components may read and write, or "
            "correct spool_path in the section [bzctrl].",
            facts={"address": address},
        )
    oldest_s = inspection.oldest_s(now)
    facts: dict[str, Any] = {
        "address": address,
        "waiting": inspection.waiting_count,
        "oldest_s": oldest_s,
        "rejected": inspection.rejected_count,
        "unusable": inspection.unusable_count,
    }
    faults = list(_spool_faults(facts))
    try:
        store.check_writable()
    except Exception as exc:  # noqa: BLE001 - each storage has errors of its own
        faults.insert(
            0,
            f"It cannot be written: {describe_error(exc)}. Make it a folder that all components may write to, "
            "make room on its disk, or set spool_path in the section [bzctrl].",
        )
    state = _spool_state(facts)
    if faults:
        return Finding(
            check="spool",
            status="fault",
            message=f"{address}: {state}.",
            details=tuple(faults),
            facts=facts,
        )
    return Finding(check="spool", message=f"{address} can be written; {state}.", facts=facts)


def _spool_faults(facts: Mapping[str, Any]) -> Iterator[str]:
    if facts["oldest_s"] is not None and facts["oldest_s"] > WAITS_TOO_LONG.total_seconds():
        yield (
            "The oldest waits for more than an hour: `bzctrl spool list` has the reason, `bzctrl spool deliver` sends all "
            "now, and the delivery DAG does so each minute."
        )
    if facts["rejected"]:
        yield (
            "Rejected entries are never sent: `bzctrl spool list` has the reasons. Correct the files in rejected/ and move "
            "them back, or delete them."
        )
    if facts["unusable"]:
        yield "Files with the name of an entry cannot be read: `bzctrl spool list` has the reasons."


def _spool_state(facts: Mapping[str, Any]) -> str:
    from bzctrl_provider.cli.ages import format_age

    oldest = f" (the oldest for {format_age(facts['oldest_s'])})" if facts["oldest_s"] is not None else ""
    unusable = f", {facts['unusable']} unusable" if facts["unusable"] else ""
    return f"{facts['waiting']} waiting{oldest}, {facts['rejected']} rejected{unusable}"
