"""Control a running sandbox, from Python or over HTTP."""

from __future__ import annotations

from typing import TYPE_CHECKING

from bzctrl_provider.sandbox.faults import DEFAULT_RANDOM_FAULTS, Fault, check_fault_list

if TYPE_CHECKING:
    from collections.abc import Sequence

    from bzctrl_provider.sandbox.faults import FaultName, FaultPlan, FaultTarget
    from bzctrl_provider.sandbox.state import State


class SandboxControls:
    """Control faults and state: the methods of ``Sandbox`` and the endpoints under ``/sandbox/``, for any thread.

    :param state: the todos, tokens and requests that ``reset`` removes.
    :param faults: the plan that faults are added to.
    """

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
        """Let the next requests fail. Faults wait in a queue and are injected in the order of the calls.

        A fault that is injected after the todo was created stays in the queue while requests are refused (401, 400).

        :param fault: an HTTP status from 300 to 599, or one of ``reset_before`` (the connection is reset, no todo is
            created), ``reset_after`` (it is reset after the todo was created), ``cut`` (the todo is created, the
            response ends half-way), ``html`` (status 200 with a page instead of JSON), ``empty`` (status 200 without
            a body), ``slow`` (the todo is created, the response is sent ``delay_s`` later).
        :param times: how many requests, 1 (default) to 10,000; no more than 10,000 faults wait at a time.
        :param on: which requests: ``create`` (default), ``token`` or ``any``. On a token request, read "the token is
            issued" for "the todo is created".
        :param retry_after_s: whole seconds for the Retry-After header of a status, 0 to 1,000,000,000; no header by
            default.
        :param retry_after_as_date: whether that header is an HTTP date instead of seconds, default false.
        :param delay_s: seconds before the response or the reset, 0 (default) to 86,400; ``slow`` needs it, any other
            fault may have it. Other requests do not wait.
        :param location: the Location header of a status from 300 to 399; by default the sandbox's page.
        :param after_creation: whether the todo is created before a status from 500 to 599, ``html`` or ``empty`` is
            sent, default false.
        :raises ValueError: naming every invalid argument and the values that are allowed.
        """
        planned = Fault(
            fault,
            on=on,
            retry_after_s=retry_after_s,
            retry_after_as_date=retry_after_as_date,
            delay_s=delay_s,
            location=location,
            after_creation=after_creation,
        )
        self._faults.add(planned, times=times)

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
        """Let requests fail at random, in the same way for the same seed and the same sequence of requests.

        Faults in the queue of ``fail_next`` come first. A second call replaces the first.

        :param rate: the share of requests that fail, from 0 (none: this ends it) to 1 (all).
        :param faults: statuses and names as in ``fail_next``, each equally likely, at most 100; by default 429, 500,
            503, ``reset_before`` and ``reset_after``.
        :param seed: a whole number that the random sequence starts from, default 0.
        :param on: which requests: ``create`` (default), ``token`` or ``any``.
        :param retry_after_s: whole seconds for the Retry-After header of the statuses; no header by default.
        :param delay_s: seconds before each of these responses, default 0; ``slow`` needs it.
        :raises ValueError: naming every invalid argument and the values that are allowed.
        """
        check_fault_list(faults)
        planned = [
            Fault(
                fault,
                on=on,
                # Only a status has the header, while the same list may hold names, too.
                retry_after_s=retry_after_s if isinstance(fault, int) else None,
                delay_s=delay_s,
            )
            for fault in faults
        ]
        self._faults.add_at_random(rate, faults=planned, seed=seed)

    def clear_faults(self) -> None:
        """Remove every fault, those in the queue and the random ones."""
        self._faults.clear()

    def expire_tokens(self) -> None:
        """Revoke every token: the next create request with one gets a 401."""
        self._state.tokens.revoke_all()

    def reset(self) -> None:
        """Remove todos (also those in a data file), tokens, requests and faults; keys start at 01 again."""
        self._faults.clear()
        self._state.tokens.revoke_all()
        self._state.todos.clear()
        self._state.requests.clear()
