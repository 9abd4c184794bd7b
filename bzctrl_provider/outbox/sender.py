"""The connection to BzCtrl as a delivery needs it; loaded only if something is to be sent."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Any

from bzctrl_provider.client.todo import complete_todo
from bzctrl_provider.field_checks import leave_out_of_format
from bzctrl_provider.hooks.bzctrl import BzCtrlHook
from bzctrl_provider.metrics import count_results

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from bzctrl_provider.client.todo import CreatedTodo
    from bzctrl_provider.exceptions import BzCtrlError

_CALL_MAX_S = 1800.0
"""The most that creating one todo may take here, whatever the connection allows."""


class Sender:
    """Create todos with one connection.

    :param conn_id: the Airflow connection.
    :param workers: how many requests at a time.
    :param ends_at: the time of ``time.monotonic()`` at which the last request has ended; None: no such time.
    :raises Exception: if the connection is missing or invalid.
    """

    def __init__(self, conn_id: str, *, workers: int, ends_at: float | None = None) -> None:
        self._client = BzCtrlHook(conn_id).get_conn()
        self._workers = workers
        self._ends_at = ends_at
        self._call_max_s = min(self._client.total_s, _CALL_MAX_S)

    def fit(self, fields: Mapping[str, Any]) -> dict[str, Any]:
        """Return the fields that the message format of the connection has; a note names the others."""
        return leave_out_of_format(fields, self._client.message_format)

    def check(self, fields: Mapping[str, Any]) -> dict[str, Any]:
        """Return the complete and checked fields of a todo.

        :raises BzCtrlValidationError: names every error of the todo.
        """
        return vars(complete_todo(fields, defaults=self._client.defaults))

    def authenticate(self) -> None:
        """Get a token, so that no todo is sent for which there is no time.

        :raises BzCtrlError: why there is none.
        """
        self._client.authenticate(limit_s=self._limit_s())

    def create_todos(self, todos: Sequence[Mapping[str, Any]]) -> list[CreatedTodo | BzCtrlError]:
        """Create todos, and return for each what was created or why it was not."""
        results = self._client.create_todos(todos, max_workers=self._workers, limit_s=self._limit_s())
        count_results(results, todo_types=[todo.get("todo_type") for todo in todos])
        return results

    def _limit_s(self) -> float:
        if self._ends_at is None:
            return self._call_max_s
        return min(self._call_max_s, self._ends_at - time.monotonic())

    def close(self) -> None:
        """Close the connections; the token stays with the process."""
        self._client.close()
