"""The last resort for an incident that could not be raised: the spool, or the log with all of its fields."""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING, Any

from airflow.providers.common.compat.sdk import redact

from bzctrl_provider.best_effort import best_effort
from bzctrl_provider.spool import spool_todo
from bzctrl_provider.text import json_line

if TYPE_CHECKING:
    from collections.abc import Mapping

log = logging.getLogger(__name__)


def keep_incident(fields: Mapping[str, Any], exc: Exception, *, bzctrl_conn_id: str, may_spool: bool) -> None:
    """Put an incident into the spool if a later attempt may create it; otherwise log its fields.

    :param fields: of the todo.
    :param exc: why it was not created.
    :param bzctrl_conn_id: the connection to create it with.
    :param may_spool: whether a later attempt may create it.
    """
    if may_spool:
        with best_effort("the spool for the incident", level=logging.ERROR):
            address = _spool(fields, exc, bzctrl_conn_id)
            log.error(
                "No incident was raised in BzCtrl. It is in the spool as %s and is created from there: do not clear this "
                "task, which would raise a second one.",
                address,
            )
            return
    log_incident(fields)


def log_incident(fields: Mapping[str, Any]) -> None:
    """Log the fields of an incident that was not created, so that a person can create it."""
    log.error(
        "No incident was raised in BzCtrl; the next error says why. It would have been: %s",
        format_fields(fields),
    )


def _spool(fields: Mapping[str, Any], exc: Exception, bzctrl_conn_id: str) -> str:
    return spool_todo(
        fields,
        bzctrl_conn_id=bzctrl_conn_id,
        reason=str(exc) or type(exc).__name__,
        # Another error than ours comes before any request, such as Airflow's for a missing connection.
        outcome_unknown=getattr(exc, "outcome_unknown", False),
    )


def format_fields(fields: Mapping[str, Any]) -> str:
    """Return the set fields of a todo as JSON on one line, in which Airflow's secrets are masked."""
    payload = {name: value for name, value in fields.items() if not isinstance(value, str | None) or value}
    # A template may have put a connection's password into a text. Value by value, because JSON writes some characters
    # of a password in another way; and as a whole, for texts in lists.
    return str(redact(json_line(redact(payload))))
