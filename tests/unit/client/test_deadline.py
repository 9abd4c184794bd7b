from __future__ import annotations

import threading

from bzctrl_provider.client import retry
from bzctrl_provider.client.retry import Deadline


def test_remaining_s_time_passes_counts_down_to_zero(monkeypatch):
    """Each attempt and wait gets what is left of the call; never less than nothing."""
    monkeypatch.setattr(retry, "monotonic", iter([100.0, 103.0, 200.0]).__next__)
    deadline = Deadline(10.0)
    assert deadline.remaining_s() == 7.0
    assert deadline.remaining_s() == 0.0


def test_remaining_s_call_is_stopped_is_zero(monkeypatch):
    """A stopped call has no time for another attempt."""
    monkeypatch.setattr(retry, "monotonic", lambda: 0.0)
    stopped = threading.Event()
    deadline = Deadline(10.0, stopped=stopped)
    assert deadline.remaining_s() == 10.0
    stopped.set()
    assert deadline.remaining_s() == 0.0
