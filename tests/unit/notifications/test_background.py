from __future__ import annotations

import atexit
import subprocess
import sys
import threading

import pytest

from bzctrl_provider.notifications.callback import BackgroundDelivery


@pytest.fixture
def deliveries():
    """Return the names of the threads that have delivered."""
    return []


def new_delivery(deliveries, **options):
    def deliver():
        deliveries.append(threading.current_thread().name)

    delivery = BackgroundDelivery(deliver)
    vars(delivery).update(options)
    return delivery


def test_background_delivery_waits_until_nobody_writes(deliveries):
    """Requests that follow one another are one delivery, in a thread of its own."""
    delivery = new_delivery(deliveries, quiet_s=60)
    for _ in range(60):
        delivery.request()
    assert deliveries == []
    delivery.finish()
    assert deliveries == ["bzctrl-delivery"]


def test_background_delivery_begins_in_quiet(deliveries):
    """Nothing has to end for it."""
    delivery = new_delivery(deliveries, quiet_s=0)
    delivery.request()
    delivery._thread and delivery._thread.join(10)
    assert deliveries == ["bzctrl-delivery"]
    delivery.request()
    delivery.finish()
    assert len(deliveries) == 2


def test_background_delivery_without_quiet_begins_after_a_time(deliveries):
    """Also if a process writes all the time."""
    delivery = new_delivery(deliveries, quiet_s=60, quiet_after_s=0)
    delivery.request()
    delivery._thread and delivery._thread.join(10)
    assert len(deliveries) == 1


def test_background_delivery_that_hangs_does_not_hold_the_process():
    """The end of the process waits for a bounded time."""
    released = threading.Event()
    delivery = BackgroundDelivery(released.wait)
    delivery.quiet_s, delivery.join_s = 0, 0.01
    delivery.request()
    delivery.finish()
    assert delivery._thread.is_alive()
    released.set()
    delivery._thread.join(10)
    atexit.unregister(delivery.finish)


@pytest.mark.parametrize(
    ("end", "printed"),
    [("atexit._run_exitfuncs(); os._exit(0)", "delivered\n"), ("sys.exit()", "")],
    ids=["of Airflow's process", "of an interpreter"],
)
def test_background_delivery_at_the_end_of_the_process(end, printed):
    """Airflow's processes end like this, and deliver what they have written; an interpreter cannot start threads then."""
    program = f"""
import atexit, os, sys
from bzctrl_provider.notifications.callback import BackgroundDelivery
BackgroundDelivery.quiet_s = 60
BackgroundDelivery(lambda: print("delivered", flush=True)).request()
{end}
"""
    done = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, timeout=60, check=True
    )
    assert done.stdout == printed


def test_background_delivery_finished_without_a_request_does_nothing(deliveries):
    """A process in which no callback wrote anything has no thread."""
    new_delivery(deliveries).finish()
    assert deliveries == []
