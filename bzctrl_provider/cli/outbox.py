"""The commands ``bzctrl outbox list``, ``bzctrl outbox deliver`` and ``bzctrl outbox discard``."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING, Any

from bzctrl_provider.airflow_compat import find_database_error
from bzctrl_provider.cli.check import describe_error, fail, show
from bzctrl_provider.outbox.delivery import BESIDE, CANNOT_BE_USED
from bzctrl_provider.outbox.runner import deliver
from bzctrl_provider.outbox.writer import format_time
from bzctrl_provider.store import deliveries, failed_runs, incidents, problems
from bzctrl_provider.store.database import StoreError, Transaction, database
from bzctrl_provider.text import LINE_CHARS, NAME_CHARS, TEXT_CHARS, count, cut, format_span, one_line

if TYPE_CHECKING:
    import argparse
    from collections.abc import Iterator, Mapping
    from typing import TextIO

    from bzctrl_provider.store.incidents import Incident, State

_SHOWN_STATES: tuple[State, ...] = ("waiting", "sending", "rejected")


def run_list(arguments: argparse.Namespace, out: TextIO) -> int:
    """Print what waits or was rejected, the oldest first; return 1 if the store cannot be used.

    :param arguments: those of the command.
    :param out: gets the report.
    """
    try:
        store = database()
        with store.transaction() as tx:
            found = incidents.list_of(tx, *_SHOWN_STATES, limit=arguments.limit)
            items = [_as_dict(tx, incident) for incident in found]
            noted, _ = failed_runs.count_undecided(tx)
            more = incidents.count(tx, *_SHOWN_STATES)[0] - len(items)
    except StoreError as exc:
        return fail(str(exc), arguments, out)
    report = {"address": str(store), "entries": items, "more": max(0, more), "failed_runs": noted}
    return show(report, _list_lines(report), arguments, out)


def _list_lines(report: Mapping[str, Any]) -> Iterator[str]:
    for item in report["entries"]:
        shown = (item["bzctrl_conn_id"], item["title"], item["reason"] or "not tried yet")
        yield "  ".join((f"{item['state']:<8}", item["identity"], f"{format_span(item['age_s']):>6}", *shown))
    if report["more"]:
        yield f"and {report['more']} more"
    elif not report["entries"]:
        yield f"The outbox in {one_line(report['address'], max_chars=TEXT_CHARS)} is empty."
    if report["failed_runs"]:
        yield f"{count(report['failed_runs'], 'failed run')} noted: the next delivery raises their incidents."


def _as_dict(tx: Transaction, incident: Incident) -> dict[str, Any]:
    return {
        "state": incident.state,
        "identity": incident.identity,
        "age_s": max(0, int(tx.now - incident.written_at)),
        "bzctrl_conn_id": one_line(incident.bzctrl_conn_id, max_chars=NAME_CHARS),
        "title": one_line(str(incident.fields.get("title") or ""), max_chars=NAME_CHARS),
        "reason": one_line(_find_why(tx, incident), max_chars=LINE_CHARS),
        "fields": incident.fields,  # for a person who creates a rejected one by hand
    }


def _find_why(tx: Transaction, incident: Incident) -> str:
    """Return why an incident waits or was rejected; empty if it was not tried yet."""
    # After a failure that concerns the connection, the incidents themselves have no reason.
    since = tx.now if incident.reason else incident.written_at
    for name in (incident.bzctrl_conn_id, BESIDE):
        pause = deliveries.find_pause(tx, name)
        if incident.state == "waiting" and pause and since < pause.until:
            why = pause.reason.rpartition(CANNOT_BE_USED)[2].removeprefix("bzctrl_provider.exceptions.")
            time = format_time(pause.until)[11:] if tx.now < pause.until else "by the next delivery"
            return f"waits for the connection: {cut(why, LINE_CHARS - 70)}, next attempt {time}"
    return incident.reason


def run_deliver(arguments: argparse.Namespace, out: TextIO) -> int:
    """Deliver now, also what has failed a short time ago; return 1 if an incident stays or was rejected.

    :param arguments: those of the command.
    :param out: gets the report.
    """
    if error := find_database_error():
        print(error, file=sys.stderr)
    try:
        result = deliver(bzctrl_conn_id=arguments.conn_id, ignore_pauses=True)
    except Exception as exc:  # noqa: BLE001 - a database or a configuration with an error, which is the report
        return fail(f"The outbox was not delivered: {describe_error(exc)}", arguments, out)
    report = {"ok": not (result.busy or result.kept or result.rejected), **result.as_dict()}
    return show(report, _delivery_lines(report), arguments, out)


def _delivery_lines(report: Mapping[str, Any]) -> Iterator[str]:
    if report["busy"]:
        yield "Nothing was sent: another process delivers. Run the command again in a minute."
        return
    outcomes = ("created", "kept", "rejected")
    for outcome in outcomes:
        for item in report[outcome]:
            texts = [item[name] or "-" for name in ("key", "link", "identity", "reason") if name in item]
            yield "  ".join((f"{outcome:<8}", *(one_line(text, max_chars=TEXT_CHARS) for text in texts)))
    yield ", ".join(f"{len(report[outcome])} {outcome}" for outcome in outcomes)


def run_discard(arguments: argparse.Namespace, out: TextIO) -> int:
    """Delete incidents that wait or were rejected; return 1 if one of them is not there.

    :param arguments: those of the command.
    :param out: gets the report.
    """
    try:
        with database().transaction() as tx:
            done = {identity: incidents.discard(tx, identity) for identity in arguments.identity}
            # In the same transaction: the window of an incident that is gone would leave out the next one.
            for identity in filter(done.get, done):
                problems.release(tx, identity)
    except StoreError as exc:
        return fail(str(exc), arguments, out)
    report = {"ok": all(done.values()), "discarded": list(filter(done.get, done))}
    lines = (f"{'discarded' if done[identity] else 'not there'} {identity}" for identity in done)
    return show(report, lines, arguments, out)
