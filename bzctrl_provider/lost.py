"""The last resort for an incident that could not be raised: the outbox, or the log with all of its fields."""

from __future__ import annotations

import logging
import time
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from airflow.providers.common.compat.sdk import redact

from bzctrl_provider.best_effort import best_effort
from bzctrl_provider.outbox.incident import format_time
from bzctrl_provider.outbox.writer import write
from bzctrl_provider.text import json_line

if TYPE_CHECKING:
    from collections.abc import Mapping

    from bzctrl_provider.store.incidents import Incident

log = logging.getLogger(__name__)


def queue_incident(incident: Incident, exc: Exception) -> bool:
    """Put an incident that could not be created into the outbox; return whether that was possible.

    :param exc: why it was not created.
    """
    # Another error than ours comes before any request, such as Airflow's for a missing connection.
    is_unknown = getattr(exc, "outcome_unknown", False)
    times = (format_time(time.time()),) if is_unknown else ()
    with best_effort("the outbox for the incident", level=logging.ERROR):
        reason = str(exc) or type(exc).__name__
        # Without its rules for repeats: by them it was decided before, that it is raised.
        write(replace(incident, reason=reason, unanswered=times, repeats=None))
        log.error(
            "BzCtrl did not take the incident, which waits in the outbox as %s and is created from there. %s",
            incident.identity,
            exc,
        )
        return True
    return False


def log_incident(fields: Mapping[str, Any]) -> None:
    """Log the fields of an incident that was not created, so that a person can create it."""
    log.error(
        "No incident was raised in BzCtrl; the next error says why. It would have been: %s",
        format_fields(fields),
    )


def format_fields(fields: Mapping[str, Any]) -> str:
    """Return the set fields of a todo as JSON on one line, in which Airflow's secrets are masked."""
    payload = {name: value for name, value in fields.items() if not isinstance(value, str | None) or value}
    # A template may have put a connection's password into a text. Value by value, because JSON writes some characters
    # of a password in another way; and as a whole, for texts in lists.
    return str(redact(json_line(redact(payload))))
