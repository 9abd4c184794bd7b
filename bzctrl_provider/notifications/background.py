"""The delivery of the outbox by the process that has just written into it, beside its next callbacks."""

from __future__ import annotations

import atexit
import logging
import threading
import time
from typing import TYPE_CHECKING, Any

from bzctrl_provider.failure_lookup import kind_of
from bzctrl_provider.incidents.occurrence import is_test_run
from bzctrl_provider.outbox.runner import deliver_soon, is_scheduled
from bzctrl_provider.version_compat import airflow_at_least

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

log = logging.getLogger(__name__)


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
