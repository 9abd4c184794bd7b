from __future__ import annotations

import os
import threading

import pytest
from pydantic import SecretStr
from support.bzctrl import ACC
from support.clock import Clock

from bzctrl_provider.client import auth
from bzctrl_provider.client.auth import TokenSource, shared_source, token_ttl_s
from bzctrl_provider.client.config import ENVIRONMENTS, BzCtrlConfig
from bzctrl_provider.exceptions import BzCtrlAuthError, BzCtrlTransportError


class Bank:
    """Grants tokens and counts how often it was asked; with ``held``, only when the test releases it."""

    def __init__(self, expires_in=3600, error=None, *, held=False):
        self.expires_in = expires_in
        self.error = error
        self.asked = 0
        self.asking = threading.Event()
        self.may_answer = threading.Event()
        if not held:
            self.may_answer.set()

    def __call__(self):
        self.asked += 1
        self.asking.set()
        self.may_answer.wait(5)
        if self.error:
            raise self.error
        return SecretStr(f"token-{self.asked}"), self.expires_in


def get(source, bank, wait_s=5):
    return source.get(bank, wait_s=wait_s).get_secret_value()


def test_token_ttl_s_any_expires_in_ends_before_the_token():
    """A token is renewed a minute, or a tenth of a short life, before its end; the default life is five minutes."""
    table = {3600: 3540, "3600": 3540, 600: 540, 12: 10.8, 10: 10, 1: 10, 0: 10, "0": 10}
    for expires_in, seconds in table.items():
        assert token_ttl_s(expires_in) == pytest.approx(seconds), expires_in
    for expires_in in (None, "soon", [], -5, float("nan"), float("inf"), 10**400):
        assert token_ttl_s(expires_in) == 270.0, expires_in


def test_token_source_token_is_live_returns_it():
    """The second call asks nobody; after the lead time's beginning the next one does."""
    clock, bank = Clock(), Bank()
    source = TokenSource(clock)
    assert [get(source, bank) for _ in range(3)] == ["token-1"] * 3
    clock.now += 3541
    assert get(source, bank) == "token-2"
    assert bank.asked == 2


@pytest.mark.security
def test_token_source_life_of_zero_serves_ten_seconds():
    """A BzCtrl that grants tokens without a life costs one request in ten seconds, not one for each todo."""
    clock, bank = Clock(), Bank(expires_in=0)
    source = TokenSource(clock)
    assert [get(source, bank) for _ in range(100)] == ["token-1"] * 100
    clock.now += 10.1
    assert get(source, bank) == "token-2"


def test_token_source_two_threads_discard_one_token_fetch_one():
    """Two threads whose token was refused get the same new one."""
    source, bank = TokenSource(Clock()), Bank()
    first = source.get(bank, wait_s=1)
    source.discard(first)
    second = source.get(bank, wait_s=1)
    source.discard(first)
    assert source.get(bank, wait_s=1) is second
    assert bank.asked == 2


class Noticed:
    """A lock that reports each thread that is about to wait for it."""

    def __init__(self, lock, report):
        self.lock = lock
        self.report = report

    def acquire(self, timeout):
        self.report()
        return self.lock.acquire(timeout=timeout)

    def release(self):
        self.lock.release()


def share(bank, count):
    """Ask for a token in several threads while the first request is in progress, and return all results."""
    source, results = TokenSource(Clock()), []
    waiting = threading.Semaphore(0)

    def run():
        try:
            results.append(get(source, bank))
        except BzCtrlAuthError as exc:
            results.append(exc)

    threads = [threading.Thread(target=run) for _ in range(count)]
    threads[0].start()
    bank.asking.wait(5)
    source._lock = Noticed(source._lock, waiting.release)
    for thread in threads[1:]:
        thread.start()
    for _ in threads[1:]:
        waiting.acquire(timeout=5)
    bank.may_answer.set()
    for thread in threads:
        thread.join(5)
    return source, results


def test_token_source_threads_at_once_share_one_request():
    """While one thread asks, sixteen others wait for its answer."""
    bank = Bank(held=True)
    _, results = share(bank, 17)
    assert (results, bank.asked) == (["token-1"] * 17, 1)


def test_token_source_refused_password_is_tried_once():
    """The failure is shared as well, each thread with an error object of its own: no account is locked."""
    bank = Bank(error=BzCtrlAuthError("refused"), held=True)
    source, errors = share(bank, 9)
    assert [str(error) for error in errors] == ["refused"] * 9
    assert len({id(error) for error in errors}) == 9
    assert bank.asked == 1
    with pytest.raises(BzCtrlAuthError):
        get(source, bank)
    assert bank.asked == 2


def test_token_source_fetch_outlasts_wait_raises():
    """When another thread's request outlasts the wait, the error says so."""
    source, bank = TokenSource(Clock()), Bank(held=True)
    first = threading.Thread(target=get, args=[source, bank])
    first.start()
    bank.asking.wait(5)
    with pytest.raises(BzCtrlTransportError, match="another thread"):
        get(source, bank, wait_s=0.01)
    bank.may_answer.set()
    first.join(5)


def test_token_source_fetch_crashes_next_caller_fetches():
    """An error that is not ours reaches its own thread, and the next caller requests a token again."""
    source = TokenSource(Clock())
    with pytest.raises(KeyboardInterrupt):
        get(source, Bank(error=KeyboardInterrupt()))
    assert get(source, Bank()) == "token-1"


def make_source(endpoints=ACC, username="user", password="password"):
    return shared_source(BzCtrlConfig(endpoints, username, SecretStr(password)))


def test_shared_source_same_credentials_is_shared():
    """Address, username and password together are one set of credentials."""
    source = make_source()
    assert make_source() is source
    assert make_source(password="passwore") is not source
    assert make_source(ENVIRONMENTS["PROD"]) is not source
    assert make_source(username="user\0password", password="") is not source


@pytest.mark.filterwarnings("ignore:.*fork.*:DeprecationWarning")
def test_shared_source_in_forked_child_has_new_locks():
    """A lock that another thread holds at the fork does not hang the child."""
    with make_source()._lock:
        child = os.fork()
        if child == 0:
            os._exit(0 if get(make_source(), Bank()) == "token-1" else 1)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
    assert auth._sources


@pytest.mark.security
def test_token_repr_shows_no_secret():
    """Neither the token nor its source shows the secret."""
    source = TokenSource(Clock())
    token = source.get(lambda: (SecretStr("s3cret-token"), 3600), wait_s=1)
    assert "s3cret" not in repr(token) + repr(source) + repr(vars(source))
