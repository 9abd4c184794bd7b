"""The way of an incident from a callback into the spool, and from there to BzCtrl as soon as that holds nothing up."""

from __future__ import annotations

import asyncio
import logging
from concurrent.futures import ThreadPoolExecutor
from functools import cache
from typing import TYPE_CHECKING, Any

from bzctrl_provider.best_effort import best_effort
from bzctrl_provider.notifications.background import BackgroundDelivery
from bzctrl_provider.spool import deliver_soon, write_entry
from bzctrl_provider.spool.schedule import is_scheduled
from bzctrl_provider.text import web_address

if TYPE_CHECKING:
    from collections.abc import Mapping

    from bzctrl_provider.spool import Entry, WriteResult

log = logging.getLogger(__name__)

LINK_XCOM_KEY = "bzctrl_todo_link"


def write(entry: Entry) -> WriteResult | None:
    """Write an incident into the spool.

    :return: None if the spool cannot be written, which the log says.
    """
    try:
        written = write_entry(entry)
    except OSError as exc:
        log.error("%s The incident is sent directly instead.", exc)  # noqa: TRY400 - its frames say nothing more
        return None
    if not written.already:
        log.info("The incident was written into the spool as %s; a delivery creates it.", written.address)
    elif written.link or written.key:
        log.info("This incident was created before as %s.", web_address(written.link) or written.key)
    else:
        log.info("The spool has this incident already, as %s.", written.address)
    return written


async def awrite(entry: Entry) -> WriteResult | None:
    """Do the same from a coroutine, in a thread of our own: a disk or an object store may be slow."""
    return await asyncio.get_running_loop().run_in_executor(_writer(), write, entry)


@cache
def _writer() -> ThreadPoolExecutor:
    return ThreadPoolExecutor(max_workers=1, thread_name_prefix="bzctrl-spool")


def deliver_beside() -> None:
    """Have what waits delivered while this process goes on, unless the delivery DAG does it."""
    if not is_scheduled():
        _delivery.request()


_delivery = BackgroundDelivery(deliver_soon)


def push_link(context: Mapping[str, Any], link: object) -> None:
    """Keep the link of an incident as an XCom of the task that failed; never raise."""
    address = web_address(link)
    # An operator of this provider has a link of its own.
    if address is None or getattr(context.get("task"), "todo_link", None):
        return
    with best_effort("the link of the incident as an XCom of the task"):
        context["ti"].xcom_push(key=LINK_XCOM_KEY, value=address)
