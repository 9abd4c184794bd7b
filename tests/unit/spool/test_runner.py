from __future__ import annotations

import fcntl
import os
import time

import pytest
from support.spool import BzCtrlInMemory, new_entry

from bzctrl_provider.exceptions import BzCtrlAuthError, BzCtrlTransportError
from bzctrl_provider.spool import deliver, deliver_soon, replay_spool, runner, write_entry


@pytest.fixture
def folder(tmp_path, configure, monkeypatch):
    configure(spool_path=str(tmp_path))
    monkeypatch.setattr(runner, "_LOCK_WAIT_S", 0.1)
    monkeypatch.setattr(runner, "_budget", runner._Budget())
    return tmp_path


@pytest.fixture
def bzctrl(monkeypatch):
    """Put a BzCtrl in memory into the place of all connections; it keeps the arguments of the last one."""
    bzctrl = BzCtrlInMemory()

    def connect(conn_id, **arguments):
        bzctrl.arguments = arguments
        return bzctrl

    monkeypatch.setattr("bzctrl_provider.spool.sender.Sender", connect)
    return bzctrl


@pytest.fixture
def locked(folder):
    """Lock the spool, as another process at work does."""
    descriptor = os.open(folder / ".lock", os.O_RDWR | os.O_CREAT)
    fcntl.flock(descriptor, fcntl.LOCK_EX)
    yield
    os.close(descriptor)


def test_deliver_with_a_limit_below_one_is_refused(folder):
    """It would do nothing."""
    with pytest.raises(ValueError, match="1 or more, not 0"):
        deliver(limit=0)


@pytest.mark.parametrize("function", [deliver, replay_spool])
def test_deliver_of_a_relative_path_is_an_error(configure, function):
    """Each process has its own working directory; the error has the remedy, also for a value of earlier versions."""
    configure(spool_path="off")
    with pytest.raises(
        ValueError, match=r"The spool off is not an absolute path: set spool_path .* or remove it"
    ):
        function()


def test_deliver_of_a_path_delivers_that_one(folder, bzctrl, tmp_path_factory):
    """The spool of another machine, for example."""
    other = tmp_path_factory.mktemp("other")
    write_entry(new_entry(), path=other)
    assert deliver().created == []
    assert len(deliver(path=other).created) == 1


def test_deliver_of_a_path_that_cannot_be_listed_is_an_error(folder, tmp_path):
    """To take it for empty would hide the incidents in it."""
    (tmp_path / "file").write_text("not a folder")
    with pytest.raises(OSError):
        deliver(path=tmp_path / "file")


def test_deliver_while_another_delivers_is_busy(folder, bzctrl, locked):
    """Nothing is sent twice."""
    write_entry(new_entry())
    result = deliver()
    assert (result.busy, result.created, bzctrl.created) == (True, [], [])


def test_deliver_with_limit_s_starts_nothing_after_it(folder, bzctrl):
    """The next run goes on."""
    write_entry(new_entry())
    result = deliver(limit_s=-1)
    assert (len(result.kept), bzctrl.created) == (1, [])


def test_deliver_soon_sends_one_at_first_and_ends_in_time(folder, bzctrl):
    """The first request shows how long one takes; all end within 5 seconds."""
    for number in range(4):
        write_entry(new_entry(number))
    assert len(deliver_soon()) == 4
    assert bzctrl.batches == [1, 3]
    assert 0 < bzctrl.arguments["ends_at"] - time.monotonic() <= 5


def test_deliver_soon_while_another_delivers_returns_at_once(folder, bzctrl, locked):
    """The other one delivers it, or the next."""
    write_entry(new_entry())
    assert deliver_soon() == {}
    assert bzctrl.created == []


def test_deliver_soon_after_a_failed_connection_does_not_try(folder, bzctrl):
    """Nobody tries for a minute."""
    write_entry(new_entry())
    bzctrl.errors = [BzCtrlTransportError("not connected")]
    deliver_soon()
    assert deliver_soon() == {}
    assert bzctrl.batches == [1]


def test_deliver_soon_with_a_silent_bzctrl_does_not_pause_the_delivery_dag(folder, bzctrl):
    """A task that has 5 seconds for it is no reason for those to wait that have more."""
    write_entry(new_entry())
    bzctrl.login_error = BzCtrlTransportError("no response within 5 s")
    assert deliver_soon() == deliver_soon() == {}
    assert bzctrl.logins == 1
    bzctrl.login_error = None
    assert len(deliver().created) == 1


def test_deliver_soon_with_refused_credentials_pauses_everybody(folder, bzctrl):
    """BzCtrl may lock the account."""
    write_entry(new_entry())
    bzctrl.login_error = BzCtrlAuthError("refused")
    deliver_soon()
    assert len(deliver().kept) == 1
    assert bzctrl.logins == 1


def test_deliver_soon_without_time_for_all_keeps_the_next_processes_from_it(folder, bzctrl, monkeypatch):
    """Each of the processes of a storm would wait for a slow BzCtrl, one after the other."""
    for number in range(3):
        write_entry(new_entry(number))
    passed = []
    monotonic = time.monotonic
    monkeypatch.setattr(runner.time, "monotonic", lambda: monotonic() + sum(passed))
    bzctrl.before = lambda: passed.append(4)
    assert len(deliver_soon()) == 1
    monkeypatch.setattr(runner, "_budget", runner._Budget())  # of another process
    assert deliver_soon() == {}
    assert bzctrl.batches == [1]
    assert len(deliver().created) == 2


def test_deliver_soon_whose_pause_cannot_be_written_does_not_raise(folder, bzctrl, monkeypatch, caplog):
    """The next process tries again."""
    write_entry(new_entry())
    bzctrl.login_error = BzCtrlTransportError("no response")

    def fail(*_, **__):
        raise OSError("the disk is full")

    monkeypatch.setattr("bzctrl_provider.spool.ledger.Ledger.pause_beside", fail)
    assert deliver_soon() == {}
    assert "the disk is full" in caplog.text


def test_deliver_soon_spends_five_seconds_of_a_process_and_minute(folder, bzctrl, monkeypatch):
    """Sixty callbacks in one process wait no longer than one."""
    write_entry(new_entry())
    now = 1000.0
    budget = runner._Budget()
    assert budget.remaining_s(now) == 5
    budget.spend(4.8)
    monkeypatch.setattr(runner, "_budget", budget)
    monkeypatch.setattr(runner.time, "monotonic", lambda: now + 59)
    assert deliver_soon() == {}
    assert bzctrl.batches == []
    assert budget.remaining_s(now + 60) == 5


@pytest.mark.parametrize("path", ["/proc/spool", "relative", "nosuchscheme://bucket"])
def test_deliver_soon_without_a_usable_spool_does_not_raise(folder, configure, path):
    """The callback has already said what is wrong with it."""
    configure(spool_path=path)
    assert deliver_soon() == {}
