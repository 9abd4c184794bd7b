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
from typing import TYPE_CHECKING, Any

from bzctrl_provider.airflow_compat import airflow_at_least
from bzctrl_provider.best_effort import exception_text
from bzctrl_provider.exceptions import BzCtrlTransportError
from bzctrl_provider.failure.lookup import describe_callback, kind_of
from bzctrl_provider.failure.model import LazyFailure, as_text
from bzctrl_provider.fields import TODO_FIELDS, keep_text
from bzctrl_provider.incidents.decide import decide
from bzctrl_provider.incidents.fill import TEMPLATED, Wishes, read_parameters
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

    from bzctrl_provider.client.todo import CreatedTodo
    from bzctrl_provider.hooks.bzctrl import BzCtrlHook
    from bzctrl_provider.store.incidents import Incident

log = logging.getLogger(__name__)


class Callback:
    """A call of a ``BzCtrlNotifier`` with a context.

    :param notifier: a copy of the notifier, whose attributes are the parameters of this call.
    :param context: with which Airflow calls it.
    """

    def __init__(self, notifier: Any, context: Context) -> None:
        self._notifier = notifier
        self._context = context
        # Two notifiers of one callback are two incidents, also if only the ends of long templates differ. Of an object only
        # the type: its repr may have an address, which is another one in the next process.
        self._templates = [
            f"{name}={safe_repr(getattr(notifier, name), max_chars=10**6)}" for name in TODO_FIELDS
        ]
        self._jinja_env: Environment | None = None
        # The templates and the incident share one failure, so that Airflow is asked for it once.
        self._failure = LazyFailure(context, describe_callback)
        self._unstored: Incident | None = None

    def raise_incident(self) -> None:
        """Raise the incident of the call."""
        # Rendered first: the incident has a note for each template that raises.
        left_out = self._render_parameters()
        link = self._deliver(self._decide(left_out))
        if is_in_task(self._context):
            push_incident_link(self._context, link)

    async def araise_incident(self) -> None:
        """Do the same in the triggerer, whose event loop stays free meanwhile."""
        left_out = self._render_parameters()
        # In a thread of our own: a database may be slow.
        await asyncio.get_running_loop().run_in_executor(_writer, self._decide, left_out)
        if self._unstored is not None:
            await asend(self._unstored)
        elif airflow_at_least(3, 3):
            # Before, a thread that looks up a connection in the triggerer can stop its channel to Airflow.
            deliver_beside()

    def _decide(self, left_out: list[str]) -> Incident | NotRaised:
        notifier = self._notifier
        wishes = Wishes(
            values=read_parameters(notifier),
            render=self._render,
            link_to_run=notifier.link_to_run,
            routes=notifier.routes,
            left_out=left_out,
            templates=self._templates,
        )
        occurrence = read_callback(self._context, self._failure, each_try=notifier.on_retry)
        decision = decide(occurrence, wishes, record=self._write)
        if isinstance(decision, NotRaised):
            log.log(logging.WARNING if decision.outcome == "tested" else logging.INFO, "%s", decision)
        elif self._unstored is None:
            log.info(
                "The incident was written into the outbox as %s; a delivery creates it.", decision.identity
            )
        return decision

    def _render_parameters(self) -> list[str]:
        """Render the parameters of the notifier, and return those whose template raises, each with its error.

        A callback is the last chance, and the incident is worth more than its field.

        :raises Exception: the template of the connection raises: another BzCtrl must not get the incident.
        """
        context: Any = self._context
        # Airflow 2 reads the key while it renders, also if an alert's context has no DAG.
        context.setdefault("dag", None)
        context["failure"] = self._failure
        left_out = []
        for name in TEMPLATED:
            value = getattr(self._notifier, name)
            try:
                setattr(self._notifier, name, as_text(self._render(name, value)))
            except Exception as exc:
                if name == "bzctrl_conn_id":
                    log_incident({field: getattr(self._notifier, field) for field in TODO_FIELDS})
                    raise
                error = exception_text(exc)
                log.error(  # noqa: TRY400 - its frames may show secrets
                    "The template of %s cannot be rendered, so the incident is raised without it. %s",
                    name,
                    error,
                )
                left_out.append(f"{name} ({error})")
                setattr(self._notifier, name, None)
        return left_out

    def _render(self, name: str, value: Any) -> Any:
        """Render the value of one parameter, also without a DAG, and with that of ``airflow dags test``, which has no environment."""
        # To make Jinja's environment takes most of a callback's time, and each callback of a DAG is a process of its own.
        is_word = isinstance(value, str) and value.replace("-", "_").isidentifier()
        if value is None or is_word:
            return value
        dag = self._context.get("dag")
        if self._jinja_env is None:
            self._jinja_env = self._notifier.get_template_env(
                dag=dag if hasattr(dag, "get_template_env") else None
            )
        jinja_env = keep_text(self._jinja_env, name, value, dag=dag)
        return self._notifier.render_template(value, self._context, jinja_env, set())

    def _write(self, incident: Incident) -> Incident | NotRaised:
        """Write an incident into the outbox; if the store cannot be used, note that it has to be sent."""
        try:
            return write(incident)
        except StoreError as exc:
            log.error("%s The incident is sent directly instead.", exc)  # noqa: TRY400 - its frames say nothing more
            self._unstored = incident
            return incident

    def _deliver(self, decision: Incident | NotRaised) -> str | None:
        """Have all delivered that waits, also if nothing was written; return the link of the todo, if it is known yet."""
        if self._unstored is not None:
            return send(self._unstored).link
        incident = decision.first if isinstance(decision, NotRaised) else decision
        if incident is None or not may_wait(self._context):
            deliver_beside()
            return None
        todo = deliver_soon().get(incident.identity)
        return todo["link"] if todo else incident.link


_writer = ThreadPoolExecutor(max_workers=1, thread_name_prefix="bzctrl-outbox")


class BackgroundDelivery:
    """A delivery in one daemon thread, when no callback has written for a moment, or the process ends.

    So the callbacks of one process are all written before any of them is delivered, and a storm of them is delivered as
    one. Airflow ends such a process with ``os._exit``, but calls the functions of ``atexit`` before.

    :param deliver: delivers what waits, in a bounded time; raises nothing.
    """

    quiet_s = 0.3
    """The seconds without a new request after which the delivery begins."""
    quiet_after_s = 10.0
    """The seconds after which it begins in any case."""
    join_s = 20.0
    """The seconds that the end of the process waits for a delivery."""

    def __init__(self, deliver: Callable[[], object]) -> None:
        self._deliver = deliver
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
            thread.join(self.join_s)

    def _run(self) -> None:
        while self._is_wanted():
            self._deliver()

    def _is_wanted(self) -> bool:
        """Wait until nobody has requested a delivery for a moment; return False if nobody has at all."""
        with self._changed:
            if not self._is_requested:
                self._thread = None
                return False
            ends_at = time.monotonic() + self.quiet_after_s
            while self._is_requested and not self._is_ending and time.monotonic() < ends_at:
                self._is_requested = False
                self._changed.wait(self.quiet_s)
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
    has_exception = isinstance(context.get("exception"), BaseException)
    return has_exception and kind_of(context, in_callback=True) == "task"


def may_wait(context: Mapping[str, Any]) -> bool:
    """Return whether the callback itself delivers: no other one waits for it, or nothing follows it."""
    if is_in_task(context) or is_test_run(context):
        return True
    # Airflow 2 and 3.0 end the process of a DAG's callback without waiting for a thread.
    return not airflow_at_least(3, 1) and not is_scheduled()


LIMIT_S = 10.0
_PERIOD_S = 60.0


class WaitingTime:
    """The time that the callbacks of this process may still wait for BzCtrl in all: 10 seconds.

    They begin with the first callback, and again after a minute, because a triggerer runs for months.

    :param clock: returns seconds, as ``time.monotonic`` does.
    """

    def __init__(self, *, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
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


def send(incident: Incident) -> CreatedTodo:
    """Create the todo of an incident within the remaining time of this process.

    :raises Exception: if it was not created, or the connection is missing or invalid. The log then has its fields.
    """
    with _direct_hook(incident) as (hook, limit_s):
        fields = leave_out_of_format(incident.fields, hook.get_conn().config.message_format)
        return hook.create_todo(fields, limit_s=limit_s)


async def asend(incident: Incident) -> None:
    """Do the same from a coroutine; the event loop and its own threads stay free meanwhile."""
    with _direct_hook(incident) as (hook, limit_s):
        await hook.acreate_todo(incident.fields, limit_s=limit_s)


@contextmanager
def _direct_hook(incident: Incident) -> Iterator[tuple[BzCtrlHook, float]]:
    """Yield the hook of an incident with its seconds; if the block raises, the incident is logged."""
    # Only here: it loads the client, which a callback that writes into the outbox does not need.
    from bzctrl_provider.hooks.bzctrl import BzCtrlHook

    try:
        limit_s = budget.remaining_s()
        yield BzCtrlHook(incident.bzctrl_conn_id), limit_s
    except Exception:
        log_incident(incident.fields)
        raise
