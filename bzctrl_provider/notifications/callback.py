"""One call of a notifier: from Airflow's context to the incident in the outbox, which is delivered beside the next calls.

Only a callback loads this module, and with it everything that a callback needs: a DAG file that names the notifier is
parsed without it, and ``plugin`` loads it once in the DAG processor.

If the store cannot be used, the incident is sent directly. All callbacks of one DAG file run in one process, which Airflow ends
after 50 seconds. Those that it has not called then are lost, so the first ones must not wait for a BzCtrl that does not
respond: all of them share 10 seconds.
"""

from __future__ import annotations

import asyncio
import atexit
import logging
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from functools import cache
from typing import TYPE_CHECKING, Any

from bzctrl_provider.airflow_compat import airflow_at_least
from bzctrl_provider.exceptions import BzCtrlTransportError
from bzctrl_provider.failure.lookup import describe_callback, kind_of
from bzctrl_provider.failure.model import LazyFailure
from bzctrl_provider.incidents.decide import decide
from bzctrl_provider.incidents.fill import Renderer, Wishes, read_parameters
from bzctrl_provider.incidents.occurrence import is_test_run, read_callback
from bzctrl_provider.links.bzctrl import push_incident_link
from bzctrl_provider.outbox.runner import deliver_soon, is_scheduled
from bzctrl_provider.outbox.writer import NotRaised, log_incident, write
from bzctrl_provider.rules.field_checks import leave_out_of_format
from bzctrl_provider.store.database import StoreError
from bzctrl_provider.text import safe_repr

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping

    from airflow.providers.common.compat.sdk import Context
    from jinja2 import Environment

    from bzctrl_provider.hooks.bzctrl import BzCtrlHook
    from bzctrl_provider.store.incidents import Incident

log = logging.getLogger(__name__)

_TEMPLATES_CHARS = 10**6
"""Of one template in an identity, which is a hash of them."""


class Callback:
    """Call of a ``BzCtrlNotifier`` with a context.

    :param notifier: a copy of the notifier, whose attributes are the parameters of this call.
    :param context: with which Airflow calls it.
    :param templates: the fields as the DAG has them.
    :param jinja_env: renders the templates; default: that of the DAG.
    """

    def __init__(
        self,
        notifier: Any,
        context: Context,
        *,
        templates: Mapping[str, Any],
        jinja_env: Environment | None = None,
    ) -> None:
        self._notifier = notifier
        self._context = context
        self._templates = templates
        self._renderer = Renderer(notifier, context, jinja_env)
        # The templates and the incident share one failure, so that Airflow is asked for it once.
        self._failure = LazyFailure(context, describe_callback)
        self._left_out: list[str] = []
        self._unstored: Incident | None = None

    def render_fields(self) -> None:
        """Render the parameters of the notifier, for which ``failure`` is a variable."""
        if self._context.get("dag") is None:
            # Airflow 2 reads the key while it renders, also if an alert's context has no DAG.
            self._context["dag"] = None  # type: ignore[typeddict-item]  # as get_template_env takes it
        self._context["failure"] = self._failure  # type: ignore[typeddict-unknown-key]  # a variable of our own
        self._left_out = self._renderer.render_fields()

    def raise_incident(self) -> None:
        """Raise the incident for which the templates are rendered."""
        decision = self._decide()
        if self._unstored is not None:
            created: Mapping[str, Any] = send(self._unstored)
        else:
            created = self._see_to_what_waits(decision)
        if is_in_task(self._context):
            push_incident_link(self._context, created.get("link"))

    async def araise_incident(self) -> None:
        """Do the same in the triggerer, whose event loop stays free meanwhile."""
        # In a thread of our own: a database may be slow.
        await asyncio.get_running_loop().run_in_executor(_writer(), self._decide)
        if self._unstored is not None:
            await asend(self._unstored)
        elif airflow_at_least(3, 3):
            # Before, a thread that looks up a connection in the triggerer can stop its channel to Airflow.
            deliver_beside()

    def _decide(self) -> Incident | NotRaised:
        notifier = self._notifier
        occurrence = read_callback(
            self._context,
            self._failure,
            each_try=notifier.on_retry,
        )
        wishes = Wishes(
            values=read_parameters(notifier),
            render=self._renderer.render,
            link_to_run=notifier.link_to_run,
            routes=notifier.routes,
            left_out=self._left_out,
            templates=self._name_templates(),
        )
        decision = decide(occurrence, wishes, record=self._write)
        if isinstance(decision, NotRaised):
            log.log(logging.WARNING if decision.outcome == "tested" else logging.INFO, "%s", decision)
        elif self._unstored is None:
            log.info(
                "The incident was written into the outbox as %s; a delivery creates it.", decision.identity
            )
        return decision

    def _name_templates(self) -> list[str]:
        # Two notifiers of one callback are two incidents. Of an object only the type: its repr may have an address, which is
        # another one in the next process.
        return [
            f"{name}={safe_repr(value, max_chars=_TEMPLATES_CHARS)}"
            for name, value in sorted(self._templates.items())
        ]

    def _write(self, incident: Incident) -> Incident | NotRaised:
        """Write an incident into the outbox; if the store cannot be used, note that it has to be sent."""
        try:
            return write(incident)
        except StoreError as exc:
            log.error("%s The incident is sent directly instead.", exc)  # noqa: TRY400 - its frames say nothing more
            self._unstored = incident
            return incident

    def _see_to_what_waits(self, decision: Incident | NotRaised) -> Mapping[str, Any]:
        """Have all delivered that waits, also if nothing was written; return the todo, as far as it is known yet."""
        todos = {}
        incident = decision.first if isinstance(decision, NotRaised) else decision
        if incident is not None and may_wait(self._context):
            todos = deliver_soon()
        else:
            deliver_beside()
        if incident is None:
            return {}
        return todos.get(incident.identity, {"key": incident.key, "link": incident.link})


@cache
def _writer() -> ThreadPoolExecutor:
    return ThreadPoolExecutor(max_workers=1, thread_name_prefix="bzctrl-outbox")


class BackgroundDelivery:
    """Deliver in one daemon thread, when no callback has written for a moment, or the process ends.

    So the callbacks of one process are all written before any of them is delivered, and a storm of them is delivered as
    one. Airflow ends such a process with ``os._exit``, but calls the functions of ``atexit`` before.

    :param deliver: delivers what waits, in a bounded time; raises nothing.
    :param quiet_s: the seconds without a new request after which the delivery begins.
    :param quiet_after_s: the seconds after which it begins in any case.
    :param join_s: the seconds that the end of the process waits for a delivery.
    """

    def __init__(
        self,
        deliver: Callable[[], object],
        *,
        quiet_s: float = 0.3,
        quiet_after_s: float = 10.0,
        join_s: float = 20.0,
    ) -> None:
        self._deliver = deliver
        self._quiet_s = quiet_s
        self._quiet_after_s = quiet_after_s
        self._join_s = join_s
        self._changed = threading.Condition()
        self._thread: threading.Thread | None = None
        self._is_requested = False
        self._is_ending = False

    def request(self) -> None:
        """Have what waits delivered, and return at once."""
        with self._changed:
            self._is_requested = True
            self._changed.notify()
            # A thread of the process that this one was forked from is not alive here.
            if self._thread is not None and self._thread.is_alive():
                return
            self._thread = threading.Thread(target=self._run, name="bzctrl-delivery", daemon=True)
            self._thread.start()
        atexit.unregister(self.finish)
        atexit.register(self.finish)

    def finish(self) -> None:
        """Deliver at once what was requested, and wait for it for a bounded time."""
        with self._changed:
            self._is_ending = True
            self._changed.notify()
            thread = self._thread
        if thread is not None:
            thread.join(self._join_s)

    def _run(self) -> None:
        while self._is_wanted():
            self._deliver()

    def _is_wanted(self) -> bool:
        """Wait until nobody has requested a delivery for a moment; return False if nobody has at all."""
        with self._changed:
            if not self._is_requested:
                self._thread = None
                return False
            ends_at = time.monotonic() + self._quiet_after_s
            while self._is_requested and not self._is_ending and time.monotonic() < ends_at:
                self._is_requested = False
                self._changed.wait(self._quiet_s)
            self._is_requested = False
            # An interpreter that has ended its threads by itself starts no others, which a delivery needs.
            return threading.main_thread().is_alive()


_delivery = BackgroundDelivery(deliver_soon)


def deliver_beside() -> None:
    """Have what waits delivered while this process goes on, unless the delivery DAG does it."""
    if not is_scheduled():
        _delivery.request()


def is_in_task(context: Mapping[str, Any]) -> bool:
    """Return whether this is the task's own process; after a lost worker, there is no exception, or only a text."""
    is_of_task = kind_of(context, in_callback=True) == "task"
    return is_of_task and isinstance(context.get("exception"), BaseException)


def may_wait(context: Mapping[str, Any]) -> bool:
    """Return whether the callback itself delivers: no other one waits for it, or nothing follows it."""
    if is_in_task(context) or is_test_run(context):
        return True
    # Airflow 2 ends the process of a DAG's callback without waiting for a thread.
    return not airflow_at_least(3, 1) and not is_scheduled()


LIMIT_S = 10.0
_PERIOD_S = 60.0


class WaitingTime:
    """Time that the callbacks of this process may still wait for BzCtrl in all: 10 seconds.

    They begin with the first callback, and again after a minute, because a triggerer runs for months.

    :param clock: returns seconds, as ``time.monotonic`` does.
    """

    def __init__(self, *, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._began_at = float("-inf")

    def renew(self) -> None:
        """Begin again, as a new process does; for tests."""
        self._began_at = float("-inf")

    def remaining_s(self) -> float:
        """Return the remaining seconds.

        :raises BzCtrlTransportError: if none remain.
        """
        now = self._clock()
        if now - self._began_at >= _PERIOD_S:
            self._began_at = now
        remaining_s = self._began_at + LIMIT_S - now
        if remaining_s <= 0:
            raise BzCtrlTransportError(
                f"The incident was not sent: the callbacks of this process have waited {LIMIT_S:.0f} s for BzCtrl in "
                "all, and Airflow ends a process that waits too long. From the outbox it would be sent later: correct the "
                "option database in the section [bzctrl]."
            )
        return remaining_s


budget = WaitingTime()
"""Of this process."""


def send(incident: Incident) -> dict[str, Any]:
    """Create the todo of an incident within the remaining time of this process.

    :return: as ``CreatedTodo.as_dict()``.
    :raises Exception: if it was not created, or the connection is missing or invalid. The log then has its fields.
    """
    with _logged_if_lost(incident):
        limit_s = budget.remaining_s()
        hook = _new_hook(incident.bzctrl_conn_id)
        fields = leave_out_of_format(incident.fields, hook.get_conn().message_format)
        return hook.create_todo(fields, limit_s=limit_s).as_dict()


async def asend(incident: Incident) -> dict[str, Any]:
    """Do the same from a coroutine; the event loop and its own threads stay free meanwhile."""
    with _logged_if_lost(incident):
        limit_s = budget.remaining_s()
        create = _new_hook(incident.bzctrl_conn_id).acreate_todo(incident.fields, limit_s=limit_s)
        try:
            # The limit of the hook does not bound the look-up of the connection.
            created = await asyncio.wait_for(create, limit_s + 1)
        except TimeoutError:
            raise BzCtrlTransportError(
                f"BzCtrl did not respond to the callbacks of this process within {limit_s:.0f} s.",
                outcome_unknown=True,
            ) from None
        return created.as_dict()


@contextmanager
def _logged_if_lost(incident: Incident) -> Iterator[None]:
    try:
        yield
    except Exception:
        log_incident(incident.fields)
        raise


def _new_hook(bzctrl_conn_id: str) -> BzCtrlHook:
    # Only here: it loads the client, which a callback that writes into the outbox does not need.
    from bzctrl_provider.hooks.bzctrl import BzCtrlHook

    return BzCtrlHook(bzctrl_conn_id)
