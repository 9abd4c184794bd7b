"""The way of an incident from a callback into the outbox, and from there to BzCtrl as soon as that holds nothing up."""

from __future__ import annotations

import asyncio
import logging
from concurrent.futures import ThreadPoolExecutor
from functools import cache
from typing import TYPE_CHECKING, Any

from bzctrl_provider.best_effort import best_effort
from bzctrl_provider.notifications.background import BackgroundDelivery
from bzctrl_provider.outbox import writer
from bzctrl_provider.outbox.runner import deliver_soon, is_scheduled
from bzctrl_provider.store.database import StoreError
from bzctrl_provider.text import web_address

if TYPE_CHECKING:
    from collections.abc import Mapping

    from bzctrl_provider.outbox.writer import Repeats, Written
    from bzctrl_provider.store.incidents import Incident

log = logging.getLogger(__name__)

LINK_XCOM_KEY = "bzctrl_todo_link"


def write(incident: Incident, *, repeats: Repeats | None = None, forget: str | None = None) -> Written | None:
    """Write an incident into the outbox, unless it is not to be raised.

    :return: None if the store cannot be used, which the log says.
    """
    try:
        written = writer.write(incident, repeats=repeats, forget=forget)
    except StoreError as exc:
        log.error("%s The incident is sent directly instead.", exc)  # noqa: TRY400 - its frames say nothing more
        return None
    log.info(_describe(incident, written))
    return written


def _describe(incident: Incident, written: Written) -> str:
    if written.verdict.wait:
        return f"No incident is raised yet: {written.verdict.wait}."
    known = written.incident or incident
    name = web_address(known.link) or known.key
    if written.verdict.first:
        return f"{name or 'The incident ' + known.identity} was raised for the same failure: no other one is raised."
    if written.is_new:
        return f"The incident was written into the outbox as {incident.identity}; a delivery creates it."
    if name:
        return f"This incident was created before as {name}."
    return f"The outbox has this incident already, as {known.identity}."


async def awrite(incident: Incident) -> Written | None:
    """Do the same from a coroutine, in a thread of our own: a database may be slow."""
    return await asyncio.get_running_loop().run_in_executor(_writer(), write, incident)


@cache
def _writer() -> ThreadPoolExecutor:
    return ThreadPoolExecutor(max_workers=1, thread_name_prefix="bzctrl-outbox")


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
