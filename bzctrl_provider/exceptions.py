"""Define the errors that this provider raises.

```text
BzCtrlError                      outcome_unknown, is_permanent, concerns, pause_s, errors
├── BzCtrlConfigError
├── BzCtrlValidationError        (also a ValueError)
├── BzCtrlAuthError
├── BzCtrlTransportError
├── BzCtrlOutcomeUnknownError
└── BzCtrlAPIError               status_code, body_excerpt
    ├── BzCtrlRejectedError
    ├── BzCtrlRateLimitError     retry_after_s
    ├── BzCtrlServerError
    └── BzCtrlBadAnswerError
```

A message says what was attempted, what came back and what to do. No message, attribute or ``repr`` ever
holds a password, a token or an Authorization header.

Each error answers itself what to do after it, so that no caller has to know the classes.
"""

from __future__ import annotations

from http import HTTPStatus
from typing import TYPE_CHECKING, Any, Literal, NamedTuple

if TYPE_CHECKING:
    from collections.abc import Iterable

Concern = Literal["todo", "connection"]


class FieldError(NamedTuple):
    """One error of a todo or a connection."""

    field: str
    """The field's name as the user writes it, for example ``financial_impact`` or ``extra.timeout_s``."""
    problem: str
    """The problem and the allowed values, for example ``must be HIGH, MEDIUM or LOW, not 'urgent'``."""

    def __str__(self) -> str:
        return f"{self.field}: {self.problem}"


class BzCtrlError(Exception):
    """A failure between Airflow and BzCtrl.

    :param message: the attempt, the response, and what to do.
    :param outcome_unknown: True if the todo may exist in BzCtrl all the same, because the request was
        sent and no usable response came. False (the default) if it does not exist.
    """

    is_permanent: bool = False
    """True if a retry cannot help: somebody has to change the connection or the todo."""
    errors: tuple[FieldError, ...] = ()
    """Every error of the input, in the order of the fields; empty if the input is not the reason."""
    pause_s: float | None = None
    """For how many seconds no request may be made over the connection; None if nothing says so."""
    _concerns_if_not_sent: Concern = "todo"

    def __init__(self, message: str, *, outcome_unknown: bool = False) -> None:
        super().__init__(message)
        self.outcome_unknown = outcome_unknown

    @property
    def concerns(self) -> Concern:
        """Return ``connection`` if other todos of the connection would have the same error, otherwise ``todo``."""
        # A todo that was sent may itself be the reason why no usable response came.
        return "todo" if self.outcome_unknown else self._concerns_if_not_sent


class _InvalidInputError(BzCtrlError):
    """All errors of an input at once."""

    is_permanent = True

    def __init__(self, headline: str, errors: Iterable[tuple[str, str]]) -> None:
        self.headline = headline
        self.errors = tuple(FieldError(*error) for error in errors)
        super().__init__("\n".join([headline, *(f"- {error}" for error in self.errors)]))

    def __reduce__(self) -> tuple[type[_InvalidInputError], tuple[str, tuple[FieldError, ...]]]:
        # The inherited method would call the class with only the finished message.
        return type(self), (self.headline, self.errors)


class BzCtrlConfigError(_InvalidInputError):
    """An Airflow connection that is incomplete or contradicts itself. Nothing was sent."""

    _concerns_if_not_sent = "connection"


class BzCtrlValidationError(_InvalidInputError, ValueError):
    """A todo that is incomplete or contradicts itself. Nothing was sent."""


class BzCtrlAuthError(BzCtrlError):
    """Credentials that BzCtrl refused, or a token that it refused just after granting it."""

    is_permanent = True
    # BzCtrl may lock an account after several refusals.
    pause_s = 60.0
    _concerns_if_not_sent = "connection"


class BzCtrlTransportError(BzCtrlError):
    """No response: not connected, certificate refused, timed out, or the connection broke."""

    _concerns_if_not_sent = "connection"


class BzCtrlOutcomeUnknownError(BzCtrlError):
    """An earlier attempt that may have created the todo; ``on_unknown_outcome="fail"`` forbids another one."""

    is_permanent = True


class BzCtrlAPIError(BzCtrlError):
    """A response that has no created todo.

    :param status_code: the HTTP status of the response.
    :param body_excerpt: the beginning of the body as text, without secrets; empty if there was none.
    """

    def __init__(
        self, message: str, *, status_code: int = 0, body_excerpt: str = "", outcome_unknown: bool = False
    ) -> None:
        super().__init__(message, outcome_unknown=outcome_unknown)
        self.status_code = status_code
        self.body_excerpt = body_excerpt


class BzCtrlRejectedError(BzCtrlAPIError):
    """A 3xx or 4xx response: the same request would be refused again. The todo was not created."""

    is_permanent = True

    @property
    def concerns(self) -> Concern:
        """Return ``connection`` for a status that says that its address is wrong: 3xx, 404, 405, 407."""
        is_wrong_address = self.status_code < HTTPStatus.BAD_REQUEST or self.status_code in (404, 405, 407)
        return "connection" if is_wrong_address else "todo"


class BzCtrlRateLimitError(BzCtrlAPIError):
    """A 429 on the last attempt. The todo was not created.

    :param retry_after_s: the seconds that BzCtrl asked to wait, None if it did not say.
    """

    _concerns_if_not_sent = "connection"

    def __init__(self, message: str, *, retry_after_s: float | None = None, **facts: Any) -> None:
        super().__init__(message, **facts)
        self.retry_after_s = self.pause_s = retry_after_s


class BzCtrlServerError(BzCtrlAPIError):
    """A 5xx response: BzCtrl failed. ``outcome_unknown`` says whether it may have created the todo before."""

    _concerns_if_not_sent = "connection"


class BzCtrlBadAnswerError(BzCtrlAPIError):
    """A 2xx response that is no JSON object or has no field of a todo, or is larger than 1 MiB."""
