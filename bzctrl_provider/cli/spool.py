"""The commands ``bzctrl spool list`` and ``bzctrl spool deliver``."""

from __future__ import annotations

import json
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

from bzctrl_provider._airflow_internals import use_metadata_database
from bzctrl_provider.cli.findings import describe_error, format_age
from bzctrl_provider.limits import LINE_CHARS, NAME_CHARS, TEXT_CHARS
from bzctrl_provider.spool.inspection import inspect_spool
from bzctrl_provider.spool.outbox import open_store, spool_path
from bzctrl_provider.spool.runner import replay_spool
from bzctrl_provider.text import one_line

if TYPE_CHECKING:
    import argparse
    from collections.abc import Iterator
    from typing import TextIO

    from bzctrl_provider.spool.delivery import DeliveryResult
    from bzctrl_provider.spool.inspection import Item


def run_list(arguments: argparse.Namespace, out: TextIO) -> int:
    """Print the entries of the spool, the oldest first; return 1 if it cannot be read.

    :param arguments: those of the command.
    :param out: gets the report.
    """
    use_metadata_database()
    address = spool_path()
    try:
        inspection = inspect_spool(open_store(address)) if address is not None else None
    except Exception as exc:  # noqa: BLE001 - each storage has errors of its own, which are the report
        return _fail(f"The spool {address} cannot be read: {describe_error(exc)}", arguments, out)
    now = datetime.now(UTC)
    items = [_as_dict(item, now) for item in inspection.items[: arguments.limit]] if inspection else []
    more = inspection.count - len(items) if inspection else 0
    if arguments.json:
        report = {"address": address, "entries": items, "more": more}
        print(json.dumps(report, ensure_ascii=False), file=out)
    else:
        print(*_list_lines(address, items, more), sep="\n", file=out)
    return 0


def _list_lines(address: str | None, items: list[dict[str, Any]], more: int) -> Iterator[str]:
    for item in items:
        age = "-" if item["age_s"] is None else format_age(item["age_s"])
        shown = (item["bzctrl_conn_id"] or "-", item["title"] or "-", item["reason"] or "not tried yet")
        yield "  ".join((f"{item['state']:<8}", item["file"], f"{age:>6}", *shown))
    if more:
        yield f"and {more} more"
    if address is None:
        yield "There is no spool: spool_path in the section [bzctrl] is off."
    elif not items:
        yield f"The spool {one_line(address, max_chars=TEXT_CHARS)} is empty."


def _as_dict(item: Item, now: datetime) -> dict[str, Any]:
    entry = item.entry
    return {
        "state": item.state,
        "file": one_line(item.name, max_chars=NAME_CHARS),
        "age_s": max(0, int((now - entry.spooled_at).total_seconds())) if entry else None,
        "bzctrl_conn_id": one_line(entry.bzctrl_conn_id, max_chars=NAME_CHARS) if entry else None,
        "title": one_line(str(entry.fields.get("title") or ""), max_chars=NAME_CHARS) if entry else None,
        "reason": one_line(item.reason, max_chars=LINE_CHARS),
    }


def run_deliver(arguments: argparse.Namespace, out: TextIO) -> int:
    """Deliver the spool now; return 1 if an entry stays or was rejected.

    :param arguments: those of the command.
    :param out: gets the report.
    """
    use_metadata_database()
    try:
        result = replay_spool(bzctrl_conn_id=arguments.conn_id)
    except Exception as exc:  # noqa: BLE001 - a storage or a configuration with an error, which is the report
        return _fail(f"The spool was not delivered: {describe_error(exc)}", arguments, out)
    code = int(bool(result.busy or result.kept or result.rejected))
    if arguments.json:
        print(json.dumps({"ok": not code, **result.as_dict()}, ensure_ascii=False), file=out)
    else:
        print(*_delivery_lines(result), sep="\n", file=out)
    return code


def _delivery_lines(result: DeliveryResult) -> Iterator[str]:
    if result.busy:
        yield "Nothing was sent: another process delivers the spool. Run the command again in a minute."
        return
    rows: list[tuple[str, *tuple[str | None, ...]]] = [
        *(("created ", todo["key"], todo["link"], todo["file"]) for todo in result.created),
        *(("kept    ", one["file"], one["reason"]) for one in result.kept),
        *(("rejected", one["file"], one["reason"]) for one in result.rejected),
    ]
    for state, *texts in rows:
        yield "  ".join((state, *(one_line(text or "-", max_chars=TEXT_CHARS) for text in texts)))
    yield f"{len(result.created)} created, {len(result.kept)} kept, {len(result.rejected)} rejected"


def _fail(message: str, arguments: argparse.Namespace, out: TextIO) -> int:
    print(json.dumps({"ok": False, "error": message}) if arguments.json else message, file=out)
    return 1
