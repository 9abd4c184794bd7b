from __future__ import annotations

import time
from concurrent.futures import ThreadPoolExecutor

import pytest
from support.outbox import DAY, BzCtrlInMemory, add, new_incident, read

from bzctrl_provider.exceptions import BzCtrlAuthError, BzCtrlTransportError
from bzctrl_provider.failed_runs import raiser
from bzctrl_provider.outbox import deliver, deliver_soon, runner, write
from bzctrl_provider.outbox.runner import is_scheduled, note_scheduled
from bzctrl_provider.store import deliveries, failed_runs
from bzctrl_provider.store.database import StoreError
from bzctrl_provider.store.failed_runs import FailedRun


@pytest.fixture(autouse=True)
def _budget(monkeypatch, used_store):
    monkeypatch.setattr(runner, "budget", runner.Budget())


@pytest.fixture
def bzctrl(monkeypatch):
    """Put a BzCtrl in memory into the place of all connections; it keeps the arguments of the last one."""
    bzctrl = BzCtrlInMemory()

    def connect(conn_id, **arguments):
        bzctrl.arguments = arguments
        return bzctrl

    monkeypatch.setattr("bzctrl_provider.outbox.runner.BzCtrlSender", connect)
    return bzctrl


@pytest.fixture
def taken(store):
    """Let another process deliver."""
    with store.transaction() as tx:
        deliveries.take_lease(tx, "other", for_s=60)


def forget_budget(monkeypatch):
    monkeypatch.setattr(runner, "budget", runner.Budget())


def test_deliver_with_a_limit_below_one_is_refused():
    """It would do nothing."""
    with pytest.raises(ValueError, match="1 or more, not 0"):
        deliver(limit=0)


def test_deliver_sends_batches_of_sixty_four(store, bzctrl):
    """So many may be in doubt after a kill, and so few commits does a delivery of many need."""
    add(store, *range(70), todo_type="TASK")
    assert len(deliver().created) == 70
    assert bzctrl.batches == [64, 6]
    assert bzctrl.arguments == {}, "no time at which its requests have to end"


def test_deliver_while_another_delivers_is_busy(store, bzctrl, taken, clock):
    """Nothing is sent twice; after the lease of a process that has ended, another one delivers."""
    add(store, 1)
    result = deliver()
    assert (result.busy, result.created, bzctrl.created) == (True, [], [])
    clock.now += 60
    assert len(deliver().created) == 1


def test_deliver_with_limit_s_starts_nothing_after_it(store, bzctrl):
    """The next run goes on."""
    add(store, 1)
    result = deliver(limit_s=-1)
    assert (len(result.kept), bzctrl.created) == (1, [])


def test_deliver_gives_the_lease_back_after_an_error(store, bzctrl):
    """An error of the store in the middle keeps nobody from delivering for a minute."""
    add(store, 1)

    def fail():
        raise StoreError("dropped")

    bzctrl.check = lambda _: fail()
    with pytest.raises(StoreError, match="dropped"):
        deliver()
    del bzctrl.check
    assert len(deliver().created) == 1


def test_deliver_renews_its_lease_during_a_long_request(store, bzctrl, clock, monkeypatch):
    """A request that takes longer than the lease does not let another process send the same."""
    monkeypatch.setattr(runner, "LEASE_S", 0.04)
    add(store, 1)
    renewed = []
    renew = deliveries.renew_lease

    def note(tx, holder, *, for_s):
        renewed.append(renew(tx, holder, for_s=60))
        return renewed[-1]

    monkeypatch.setattr(deliveries, "renew_lease", note)

    def wait_for_renewals():
        clock.now += 59
        before = len(renewed)
        ends_at = time.monotonic() + 30
        while len(renewed) < before + 2:
            assert time.monotonic() < ends_at
        clock.now += 59
        assert deliver().busy

    bzctrl.before = wait_for_renewals
    assert len(deliver().created) == 1


def test_deliver_soon_sends_one_at_first_and_ends_in_time(store, bzctrl):
    """The first request shows how long one takes; all end within 20 seconds, or the caller's limit."""
    add(store, *range(4))
    assert len(deliver_soon()) == 4
    assert bzctrl.batches == [1, 3]
    assert 0 < bzctrl.arguments["ends_at"] - time.monotonic() <= 20
    add(store, 5)
    deliver_soon(limit_s=3)
    assert 0 < bzctrl.arguments["ends_at"] - time.monotonic() <= 3


def test_deliver_soon_without_work_or_time_does_nothing(store, bzctrl, monkeypatch):
    """If nothing waits, or less than half a second is left, no lease is taken."""
    monkeypatch.setattr(deliveries, "take_lease", pytest.fail)
    assert deliver_soon() == {}
    add(store, 1)
    assert deliver_soon(limit_s=0.4) == {}


def test_deliver_soon_while_another_delivers_returns_at_once(store, bzctrl, taken):
    """The other one delivers it: it looks again before it gives the lease back."""
    add(store, 1)
    assert deliver_soon() == {}
    assert bzctrl.created == []


def test_deliver_soon_after_a_failed_connection_does_not_try(store, bzctrl, clock):
    """Nobody tries it for a minute."""
    add(store, 1)
    bzctrl.errors = [BzCtrlTransportError("not connected")] * 2
    deliver_soon()
    assert deliver_soon() == {}
    assert bzctrl.batches == [1]
    clock.now += 60
    deliver_soon()
    assert bzctrl.batches == [1, 1]


def test_deliver_soon_uses_other_connections_than_a_paused_one(store, bzctrl):
    """Refused credentials of one team keep nobody from delivering for another one."""
    add(store, 1)
    bzctrl.login_error = BzCtrlAuthError("refused")
    deliver_soon()
    bzctrl.login_error = None
    add(store, 2, conn_id="b")
    assert list(deliver_soon()) == [new_incident(2, conn_id="b").identity]
    assert bzctrl.titles == ["T002"]


def test_deliver_soon_with_a_silent_bzctrl_does_not_pause_the_delivery_dag(store, bzctrl):
    """A task that has little time for it is no reason for those to wait that have more."""
    add(store, 1)
    bzctrl.login_error = BzCtrlTransportError("no response within 5 s")
    assert deliver_soon() == deliver_soon() == {}
    assert bzctrl.logins == 1
    bzctrl.login_error = None
    assert len(deliver().created) == 1


def test_deliver_soon_with_refused_credentials_pauses_everybody(store, bzctrl):
    """BzCtrl may lock the account."""
    add(store, 1)
    bzctrl.login_error = BzCtrlAuthError("refused")
    deliver_soon()
    assert len(deliver().kept) == 1
    assert bzctrl.logins == 1


def test_deliver_soon_without_time_for_all_keeps_the_next_processes_from_it(store, bzctrl, monkeypatch):
    """Each of the processes of a storm would wait for a slow BzCtrl, one after the other."""
    add(store, *range(3))
    passed = []
    monotonic = time.monotonic
    monkeypatch.setattr(runner.time, "monotonic", lambda: monotonic() + sum(passed))
    bzctrl.before = lambda: passed.append(12)
    assert len(deliver_soon()) == 1
    forget_budget(monkeypatch)  # of another process
    assert deliver_soon() == {}
    assert bzctrl.batches == [1]
    assert len(deliver().created) == 2


def test_deliver_soon_without_a_store_does_not_raise(bzctrl, monkeypatch, caplog):
    """At any step at which the store fails, the callback goes on, and the log says that the delivery follows later."""

    def fail(*_, **__):
        raise StoreError("the disk is full")

    for name in ("find_usable", "take_lease"):
        with monkeypatch.context() as patched:
            patched.setattr(deliveries, name, fail)
            write(new_incident(1))
            caplog.clear()
            assert deliver_soon() == {}
            assert "Skipped the delivery; it follows later: " in caplog.text
            assert "the disk is full" in caplog.text


def test_deliver_soon_spends_twenty_seconds_of_a_process_and_minute(store, bzctrl, monkeypatch):
    """Sixty callbacks in one process wait no longer than one."""
    add(store, 1)
    now = 1000.0
    budget = runner.Budget()
    assert budget.remaining_s(now) == 20
    budget.spend(19.8)
    monkeypatch.setattr(runner, "budget", budget)
    monkeypatch.setattr(runner.time, "monotonic", lambda: now + 59)
    assert deliver_soon() == {}
    assert bzctrl.batches == []
    assert budget.remaining_s(now + 60) == 20


def test_who_writes_while_another_delivers_is_delivered_by_it(store, bzctrl, monkeypatch):
    """Of twenty that write and deliver at the same moment each incident is created once, and none waits."""
    monkeypatch.setattr(runner.Budget, "remaining_s", lambda *_: 20)
    incidents = [new_incident(number, todo_type="TASK") for number in range(20)]

    def fail(incident):
        write(incident)
        deliver_soon()

    for _ in range(3):
        with ThreadPoolExecutor(10) as pool:
            list(pool.map(fail, incidents))
        assert not read(store, "waiting", "sending")
        assert len(bzctrl.titles) == len(set(bzctrl.titles)) == len(incidents)
        add_more = [new_incident(len(incidents) + number, todo_type="TASK") for number in range(10)]
        incidents = [*incidents, *add_more]


def test_is_scheduled_for_five_minutes_after_the_delivery_dag(clock):
    """A paused or broken delivery DAG does not keep callbacks from delivering."""
    assert not is_scheduled()
    note_scheduled()
    for passed_s, expected in ((0, True), (299, True), (300, False)):
        clock.now += passed_s
        assert is_scheduled() is expected
        clock.now -= passed_s
    deliver()
    clock.now += 300
    deliver()
    assert not is_scheduled(), "a delivery by hand is not the DAG"


def test_is_scheduled_without_a_store_does_not_raise(monkeypatch, caplog):
    """The callback then delivers by itself."""

    def fail():
        raise StoreError("away")

    monkeypatch.setattr(runner, "database", fail)
    assert not is_scheduled()
    assert "away" in caplog.text


@pytest.fixture
def failed_run(store, monkeypatch):
    """Note a failed run, of which Airflow knows nothing more."""
    monkeypatch.setattr(raiser, "read_run_state", lambda *_: "failed")
    monkeypatch.setattr(raiser, "find_last_successful_run", lambda _: None)
    run = FailedRun(dag_id="customs", run_id="r", why="timed_out", run_type="scheduled")
    with store.transaction() as tx:
        failed_runs.add(tx, run)
    return run


def count_undecided(store):
    with store.transaction() as tx:
        return failed_runs.count_undecided(tx)[0]


def test_deliver_raises_the_incidents_of_failed_runs_first(store, bzctrl, failed_run):
    """They are sent by the same delivery, once."""
    for number in (1, 0):
        assert len(deliver().created) == number
    (todo,) = bzctrl.created
    assert todo["title"] == "customs: the run timed out"
    assert count_undecided(store) == 0


def test_deliver_soon_leaves_failed_runs_to_the_delivery_dag(store, bzctrl, failed_run):
    """A worker's callback has no time for them, and may not ask for the state of another run."""
    add(store, 1)
    assert len(deliver_soon()) == 1
    assert count_undecided(store) == 1


def test_deliver_sends_what_waits_if_failed_runs_cannot_be_decided(
    store, bzctrl, failed_run, monkeypatch, caplog
):
    """The log has the error, and the next delivery tries again."""

    def fail(*_):
        raise StoreError("the table is gone")

    monkeypatch.setattr(raiser, "raise_incidents", fail)
    add(store, 1)
    assert len(deliver().created) == 1
    assert "Skipped the incidents of failed runs; they follow later" in caplog.text
    assert count_undecided(store) == 1


def test_deliver_without_time_decides_about_no_failed_run(store, bzctrl, failed_run):
    """A delivery with a limit begins nothing after it."""
    deliver(limit_s=0)
    assert count_undecided(store) == 1


def test_deliver_leaves_a_heartbeat_and_forgets_old_runs(store, bzctrl, failed_run, clock):
    """`bzctrl check` sees by it that somebody raises the incidents of failed runs."""
    deliver()
    with store.transaction() as tx:
        assert failed_runs.find_heartbeat(tx, "delivery") == clock.now
    clock.now += 8 * DAY
    deliver()
    with store.transaction() as tx:
        failed_runs.add(tx, failed_run)
    assert count_undecided(store) == 1
