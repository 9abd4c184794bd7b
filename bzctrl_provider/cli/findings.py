"""The result of one check, and how it is printed."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass, field
from typing import TYPE_CHECKING, Any, Literal

from airflow.providers.common.compat.sdk import AirflowNotFoundException

from bzctrl_provider.exceptions import BzCtrlError
from bzctrl_provider.limits import TEXT_CHARS
from bzctrl_provider.reason_text import exception_text
from bzctrl_provider.store.database import StoreError
from bzctrl_provider.text import one_line

if TYPE_CHECKING:
    import argparse
    from collections.abc import Iterator, Mapping
    from typing import TextIO

Status = Literal["ok", "warning", "fault", "skipped", "held", "differed"]


@dataclass(frozen=True, kw_only=True)
class Finding:
    """The result of one check.

    :param check: the name of the check.
    :param status: ``ok``, ``warning``, ``fault``, or ``skipped`` if it could not be made because of another fault; for a
        statement about BzCtrl ``held``, ``differed`` or ``skipped``.
    :param message: one sentence; for a warning and a fault, with the remedy.
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
        yield f"{self.status:<8} {self.check:<11} {one_line(self.message, max_chars=TEXT_CHARS)}"
        for detail in self.details:
            yield f"           - {one_line(detail, max_chars=TEXT_CHARS)}"

    def as_dict(self) -> dict[str, Any]:
        """Return the same as plain JSON data."""
        return asdict(self)


def describe_error(error: BaseException) -> str:
    """Return the message of an error of this provider or of Airflow, redacted, on one line."""
    # The messages of these are sentences for users; of others, the type is needed as well.
    known = isinstance(error, BzCtrlError | StoreError | AirflowNotFoundException | ValueError | OSError)
    text = exception_text(str(error) if known and str(error) else error) or type(error).__name__
    return one_line(text, max_chars=TEXT_CHARS)


def fail(message: str, arguments: argparse.Namespace, out: TextIO) -> int:
    """Print why a command was not executed, and return 1.

    :param message: the reason.
    :param arguments: those of the command.
    :param out: gets the message.
    """
    print(json.dumps({"ok": False, "error": message}) if arguments.json else message, file=out)
    return 1


def format_age(seconds: float) -> str:
    """Return a time span in its largest unit, such as ``12 min``.

    :param seconds: its length; less than 0 counts as 0.
    """
    for unit, length_s in (("d", 86_400), ("h", 3600), ("min", 60)):
        if seconds >= length_s:
            return f"{int(seconds // length_s)} {unit}"
    return f"{max(0, int(seconds))} s"
