"""The result of one check, and how it is printed."""

from __future__ import annotations

from dataclasses import asdict, dataclass, field
from typing import TYPE_CHECKING, Any, Literal

from bzctrl_provider.text import one_line

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

LINE_CHARS = 2000

Status = Literal["ok", "fault", "skipped"]


@dataclass(frozen=True, kw_only=True)
class Finding:
    """Hold the result of one check.

    :param check: the name of the check.
    :param status: ``ok``, ``fault``, or ``skipped`` if it could not be made because of another fault.
    :param message: one sentence; for a fault, with the remedy.
    :param details: further lines, such as each of several faults.
    :param facts: plain JSON data about it.
    """

    check: str
    status: Status = "ok"
    message: str
    details: tuple[str, ...] = ()
    facts: Mapping[str, Any] = field(default_factory=dict)

    def lines(self) -> Iterator[str]:
        """Yield the line of the check, and one for each detail."""
        yield f"{self.status:<8} {self.check:<11} {one_line(self.message, max_chars=LINE_CHARS)}"
        for detail in self.details:
            yield f"           - {one_line(detail, max_chars=LINE_CHARS)}"

    def as_dict(self) -> dict[str, Any]:
        """Return the same as plain JSON data."""
        return asdict(self)


def describe_error(error: BaseException) -> str:
    """Return the message of an error of this provider or of Airflow, redacted, on one line."""
    from airflow.providers.common.compat.sdk import AirflowNotFoundException

    from bzctrl_provider.exceptions import BzCtrlError
    from bzctrl_provider.reason_text import exception_text

    # The messages of these are sentences for users; of others, the type is needed as well.
    known = isinstance(error, BzCtrlError | AirflowNotFoundException | ValueError | OSError)
    text = exception_text(str(error) if known and str(error) else error) or type(error).__name__
    return one_line(text, max_chars=LINE_CHARS)
