from __future__ import annotations

import logging

import pytest

from bzctrl_provider.best_effort import best_effort


def test_error_of_the_block_is_logged_and_what_follows_runs(caplog):
    """An error ends the block, one line of the log names the work and the error, and the caller goes on."""
    with best_effort("the count of silences"):
        raise OSError("disk full")
    assert caplog.messages == ["Skipped the count of silences: OSError: disk full"]
    assert caplog.records[0].levelno == logging.WARNING


def test_end_of_the_process_is_not_held_up():
    """An exit, an interrupt and a stopped task are no errors of the work."""
    for stop in (SystemExit, KeyboardInterrupt, GeneratorExit):
        with pytest.raises(stop), best_effort("the count"):
            raise stop
