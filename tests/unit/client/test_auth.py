from __future__ import annotations

import os
import threading

import pytest
from pydantic import SecretStr
from support.clock import Clock

from bzctrl_provider.client import auth
from bzctrl_provider.client.auth import Token, TokenSource, shared_source, token_ttl_s
from bzctrl_provider.exceptions import BzCtrlAuthError, BzCtrlTransportError


class Bank:
    """Grants tokens and counts how often it was asked."""

    def __init__(self, expires_in=3600):
        self.expires_in = expires_in
        self.asked = 0

    def __call__(self):
        self.asked += 1
        return SecretStr(f"token-{self.asked}"), self.expires_in


@pytest.mark.parametrize(
    ("expires_in", "seconds"),
    [
        (3600, 3540.0),
        ("3600", 3540.0),
        (600, 540.0),
        (12, 10.8),
        (10, 10.0),
        (1, 10.0),
        (0, 10.0),
        ("0", 10.0),
        (None, 270.0),
        ("soon", 270.0),
        ([], 270.0),
        (True, 270.0),
        (-5, 270.0),
        (float("nan"), 270.0),
        (float("inf"), 270.0),
        (10**400, 270.0),
    ],
)
def test_token_ttl_s_any_expires_in_ends_before_the_token(expires_in, seconds):
    """A token is renewed a minute, or a tenth of a short life, before its end; the default life is five minutes."""
    assert token_ttl_s(expires_in) == pytest.approx(seconds)


def test_token_source_token_is_live_returns_it():
    """The second call asks nobody; after the lead time's beginning the next one does."""
    clock, bank = Clock(), Bank()
    source = TokenSource(clock)
    assert [source.get(bank, wait_s=1).value.get_secret_value() for _ in range(3)] == ["token-1"] * 3
    clock.now += 3541
    assert source.get(bank, wait_s=1).value.get_secret_value() == "token-2"
    assert bank.asked == 2


@pytest.mark.security
def test_token_source_life_of_zero_serves_ten_seconds():
    """A BzCtrl that grants tokens without a life costs one request in ten seconds, not one for each todo."""
    clock, bank = Clock(), Bank(expires_in=0)
    source = TokenSource(clock)
    assert [source.get(bank, wait_s=1).value.get_secret_value() for _ in range(100)] == ["token-1"] * 100
    clock.now += 10.1
    assert source.get(bank, wait_s=1).value.get_secret_value() == "token-2"


def test_token_source_two_threads_discard_one_token_fetch_one():
    """Two threads whose token was refused get the same new one."""
    source, bank = TokenSource(Clock()), Bank()
    first = source.get(bank, wait_s=1)
    source.discard(first)
    second = source.get(bank, wait_s=1)
    source.discard(first)
    assert source.get(bank, wait_s=1) is second
    assert bank.asked == 2


def in_threads(count, work):
    results = []

    def run():
        try:
            results.append(work())
        except Exception as exc:
            results.append(exc)

    threads = [threading.Thread(target=run) for _ in range(count)]
    for thread in threads:
        thread.start()
    return threads, results


def test_token_source_threads_at_once_share_one_request():
    """While one thread asks, sixteen others wait for its answer."""
    source, asked, may_answer, asking = TokenSource(Clock()), [], threading.Event(), threading.Event()

    def slow_bank():
        asked.append(1)
        asking.set()
        may_answer.wait(5)
        return SecretStr("the token"), 0

    threads, results = in_threads(17, lambda: source.get(slow_bank, wait_s=5).value)
    asking.wait(5)
    waiting = threading.Event()
    while threading.active_count() < 17 and not waiting.wait(0.01):
        pass
    may_answer.set()
    for thread in threads:
        thread.join(5)
    assert {result.get_secret_value() for result in results} == {"the token"}
    assert len(asked) == 1


def test_token_source_refused_password_is_tried_once():
    """The failure is shared as well, each thread with an error object of its own: no account is locked."""
    source, asked, asking, may_answer = TokenSource(Clock()), [], threading.Event(), threading.Event()
    waits = []

    def refusing_bank():
        asked.append(1)
        asking.set()
        may_answer.wait(5)
        raise BzCtrlAuthError("refused")

    first, results = in_threads(1, lambda: source.get(refusing_bank, wait_s=5))
    asking.wait(5)
    original = source._request.done.wait
    source._request.done.wait = lambda timeout: waits.append(1) or original(timeout)
    others, more = in_threads(8, lambda: source.get(refusing_bank, wait_s=5))
    while len(waits) < 8:
        threading.Event().wait(0.005)
    may_answer.set()
    for thread in first + others:
        thread.join(5)
    errors = results + more
    assert [str(error) for error in errors] == ["refused"] * 9
    assert len({id(error) for error in errors}) == 9
    assert len(asked) == 1
    with pytest.raises(BzCtrlAuthError):
        source.get(refusing_bank, wait_s=1)
    assert len(asked) == 2


def test_token_source_fetch_outlasts_wait_raises():
    """When another thread's request outlasts the wait, the error says so."""
    source, asking, may_answer = TokenSource(Clock()), threading.Event(), threading.Event()

    def slow_bank():
        asking.set()
        may_answer.wait(5)
        return SecretStr("t"), 3600

    threads, _ = in_threads(1, lambda: source.get(slow_bank, wait_s=5))
    asking.wait(5)
    with pytest.raises(BzCtrlTransportError, match="another thread"):
        source.get(slow_bank, wait_s=0.01)
    may_answer.set()
    threads[0].join(5)


def test_token_source_fetch_crashes_next_caller_fetches():
    """An error that is not ours reaches its own thread, and the next caller requests a token again."""
    source = TokenSource(Clock())

    def crash():
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        source.get(crash, wait_s=1)
    assert source.get(Bank(), wait_s=1).value.get_secret_value() == "token-1"


def make_source(url, username, password):
    return shared_source(url, username, SecretStr(password))


def test_shared_source_same_credentials_is_shared():
    """Address, username and password together are one set of credentials."""
    auth.forget_tokens()
    source = make_source("https://a/token", "user", "password")
    assert make_source("https://a/token", "user", "password") is source
    assert make_source("https://a/token", "user", "passwore") is not source
    assert make_source("https://b/token", "user", "password") is not source
    assert make_source("https://a/token", "user\0password", "") is not source


def test_shared_source_too_many_drops_the_oldest():
    """The one that was not used for longest is forgotten first."""
    auth.forget_tokens()
    first = make_source("https://a/token", "user", "0")
    for n in range(1, 64):
        make_source("https://a/token", "user", str(n))
    assert make_source("https://a/token", "user", "0") is first
    make_source("https://a/token", "user", "64")
    assert make_source("https://a/token", "user", "0") is first
    assert len(auth._sources) == 64


@pytest.mark.filterwarnings("ignore:.*fork.*:DeprecationWarning")
def test_shared_source_in_forked_child_has_new_locks():
    """A lock that another thread holds at the fork does not hang the child."""
    auth.forget_tokens()
    make_source("https://a/token", "user", "password")
    with auth._sources_lock:
        child = os.fork()
        if child == 0:
            os._exit(0 if make_source("https://a/token", "user", "password") else 1)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0


@pytest.mark.security
def test_token_repr_shows_no_secret():
    """Neither the token nor its source shows the secret."""
    source = TokenSource(Clock())
    token = source.get(lambda: (SecretStr("s3cret-token"), 3600), wait_s=1)
    assert "s3cret" not in repr(token) + repr(source) + repr(Token(SecretStr("s3cret-token"), 1.0))
