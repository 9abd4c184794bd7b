"""What a test may do to a running sandbox, whether it calls a method or an address."""

from __future__ import annotations

from typing import TYPE_CHECKING

from bzctrl_provider.sandbox.faults import DEFAULT_RANDOM_FAULTS, Fault

if TYPE_CHECKING:
    from collections.abc import Sequence

    from bzctrl_provider.sandbox.faults import FaultName, FaultPlan, FaultTarget
    from bzctrl_provider.sandbox.state import State


class Steering:
    """The acts behind the methods of `Sandbox` and the addresses under `/sandbox/`; any thread may call them."""

    def __init__(self, state: State, faults: FaultPlan) -> None:
        self._state = state
        self._faults = faults

    def fail_next(
        self,
        fault: int | FaultName,
        *,
        times: int = 1,
        on: FaultTarget = "create",
        retry_after_s: int | None = None,
        retry_after_as_date: bool = False,
        delay_s: float | None = None,
        location: str | None = None,
        after_creation: bool = False,
    ) -> None:
        """Let the next requests fail. Faults wait in a queue and happen in the order they were asked for.

        A fault that happens after the todo was made stays in the queue while requests are refused (401, 400).

        :param fault: an HTTP status from 300 to 599, or one of `reset_before` (the connection is reset, no todo was
            made), `reset_after` (it is reset after the todo was made), `cut` (the todo is made, the answer breaks off
            half-way), `html` (status 200 with a page instead of JSON), `empty` (status 200 with nothing), `slow`
            (the todo is made, the answer comes `delay_s` later).
        :param times: how many requests, default 1.
        :param on: which requests: `create` (default), `token` or `any`. On a token request, "the todo is made" reads
            "the token is made".
        :param retry_after_s: whole seconds for the Retry-After header of a status; no header by default.
        :param retry_after_as_date: whether that header is an HTTP date instead of seconds, default false.
        :param delay_s: seconds before the answer, or before the reset; `slow` needs them, any other fault may have
            them, default 0. Other requests do not wait.
        :param location: the Location header of a status from 300 to 399; by default the sandbox's page.
        :param after_creation: whether the todo is made before a status from 500 to 599, `html` or `empty` is
            answered, default false.
        :raises ValueError: naming every argument that does not fit and what is allowed.
        """
        failure = Fault(
            fault,
            on=on,
            retry_after_s=retry_after_s,
            retry_after_as_date=retry_after_as_date,
            delay_s=delay_s,
            location=location,
            after_creation=after_creation,
        )
        self._faults.add(failure, times=times)

    def fail_randomly(
        self,
        rate: float,
        *,
        faults: Sequence[int | FaultName] = DEFAULT_RANDOM_FAULTS,
        seed: int = 0,
        on: FaultTarget = "create",
        retry_after_s: int | None = None,
        delay_s: float | None = None,
    ) -> None:
        """Let requests fail by chance, in the same way for the same seed and the same sequence of requests.

        Faults that wait in the queue of `fail_next` come first. A second call replaces the first.

        :param rate: the share of requests that fail, from 0 (none: this ends it) to 1 (all).
        :param faults: statuses and names, as in `fail_next`, each equally likely; by default 429, 500, 503,
            `reset_before` and `reset_after`.
        :param seed: a whole number where chance begins, default 0.
        :param on: which requests: `create` (default), `token` or `any`.
        :param retry_after_s: whole seconds for the Retry-After header of the statuses; no header by default.
        :param delay_s: seconds before each of these answers, default 0; `slow` needs them.
        :raises ValueError: naming every argument that does not fit and what is allowed.
        """
        if isinstance(faults, str) or not hasattr(faults, "__iter__"):
            msg = f"faults must be a list of statuses and names, not {faults!r}"
            raise ValueError(msg)
        failures = [
            Fault(
                fault,
                on=on,
                # Only a status has the header, while the same list may well hold names.
                retry_after_s=retry_after_s if isinstance(fault, int) else None,
                delay_s=delay_s,
            )
            for fault in faults
        ]
        self._faults.add_at_random(rate, faults=failures, seed=seed)

    def clear_faults(self) -> None:
        """Let nothing go wrong any more, neither in order nor by chance."""
        self._faults.clear()

    def expire_tokens(self) -> None:
        """Make every token that was given out so far worthless: the next create request with one is answered 401."""
        self._state.tokens.revoke_all()

    def reset(self) -> None:
        """Forget todos (also those in a data file), tokens, requests and faults; keys begin at 01 again."""
        self._faults.clear()
        self._state.tokens.revoke_all()
        self._state.todos.clear()
        self._state.requests.clear()
