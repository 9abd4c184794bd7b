"""The commands ``bzctrl spool list`` and ``bzctrl spool deliver``."""

from __future__ import annotations

import json
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

from bzctrl_provider._airflow_internals import use_metadata_database
from bzctrl_provider.cli.ages import format_age
from bzctrl_provider.cli.findings import describe_error
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

_TITLE_CHARS = 80
_NAME_CHARS = 100
_REASON_CHARS = 200
_ADDRESS_CHARS = 2000


def run_list(arguments: argparse.Namespace, out: TextIO) -> int:
    """Print the entries of the spool, the oldest first; return 1 if it cannot be read.

    :param arguments: those of the command.
    :param out: gets the report.
    """
    use_metadata_database()
    address = spool_path()
    try:
        inspection = inspect_spool(open_store(address)) if address is not None else None
    except Exception as exc:  # noqa: BLE001 - each storage has errors of its own
        return _fail(f"The spool {address} cannot be read: {describe_error(exc)}", arguments, out)
    items = inspection.items if inspection else ()
    shown, now = items[: arguments.limit], datetime.now(UTC)
    more = inspection.count - len(shown) if inspection else 0
    if arguments.json:
        entries = [_as_dict(item, now) for item in shown]
        print(
            json.dumps({"address": address, "entries": entries, "more": more}, ensure_ascii=False), file=out
        )
        return 0
    for item in shown:
        print(_line(item, now), file=out)
    if more:
        print(f"and {more} more", file=out)
    if address is None:
        print("There is no spool: spool_path in the section [bzctrl] is off.", file=out)
    elif not items:
        print(f"The spool {one_line(address, max_chars=_ADDRESS_CHARS)} is empty.", file=out)
    return 0


def _as_dict(item: Item, now: datetime) -> dict[str, Any]:
    entry = item.entry
    return {
        "state": item.state,
        "file": one_line(item.name, max_chars=_NAME_CHARS),
        "age_s": max(0, int((now - entry.spooled_at).total_seconds())) if entry else None,
        "bzctrl_conn_id": one_line(entry.bzctrl_conn_id, max_chars=_NAME_CHARS) if entry else None,
        "title": one_line(str(entry.fields.get("title") or ""), max_chars=_TITLE_CHARS) if entry else None,
        "reason": one_line(item.reason, max_chars=_REASON_CHARS),
    }


def _line(item: Item, now: datetime) -> str:
    shown = _as_dict(item, now)
    age = "-" if shown["age_s"] is None else format_age(shown["age_s"])
    columns = (
        f"{shown['state']:<8}",
        f"{shown['file']}",
        f"{age:>6}",
        shown["bzctrl_conn_id"] or "-",
        shown["title"] or "-",
        shown["reason"] or "not tried yet",
    )
    return "  ".join(columns)


def run_deliver(arguments: argparse.Namespace, out: TextIO) -> int:
    """Deliver the spool now; return 1 if an entry stays or was rejected.

    :param arguments: those of the command.
    :param out: gets the report.
    """
    use_metadata_database()
    try:
        result = replay_spool(bzctrl_conn_id=arguments.conn_id)
    except Exception as exc:  # noqa: BLE001 - each storage has errors of its own
        return _fail(f"The spool was not delivered: {describe_error(exc)}", arguments, out)
    code = int(bool(result.busy or result.kept or result.rejected))
    if arguments.json:
        print(json.dumps({"ok": not code, **result.as_dict()}, ensure_ascii=False), file=out)
    else:
        for line in _delivery_lines(result):
            print(line, file=out)
    return code


def _delivery_lines(result: DeliveryResult) -> Iterator[str]:
    if result.busy:
        yield "Nothing was sent: another process delivers the spool. Run the command again in a minute."
        return
    for todo in result.created:
        yield "  ".join(("created ", *map(_field, (todo["key"], todo["link"], todo["file"]))))
    for state, left in (("kept", result.kept), ("rejected", result.rejected)):
        for one in left:
            yield "  ".join((f"{state:<8}", *map(_field, (one["file"], one["reason"]))))
    yield f"{len(result.created)} created, {len(result.kept)} kept, {len(result.rejected)} rejected"


def _field(text: str | None) -> str:
    return one_line(text, max_chars=_ADDRESS_CHARS) if text else "-"


def _fail(message: str, arguments: argparse.Namespace, out: TextIO) -> int:
    print(json.dumps({"ok": False, "error": message}) if arguments.json else message, file=out)
    return 1
