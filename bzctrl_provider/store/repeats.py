"""Windows and counts of failures that repeat: their data and arithmetic, with which ``outbox.writer`` decides. No storage.

Times are seconds since 1970.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

from bzctrl_provider.text import LINE_CHARS, LIST_ITEMS

if TYPE_CHECKING:
    from collections.abc import Callable

COUNTED_XCOM_KEY = "bzctrl_counted"
"""Of a roll-up that was skipped because more failures in a row are needed."""

CLAIM_S = 3600.0
"""How long a task may take to create the incident that it has announced: all its requests and retries."""


@dataclass(frozen=True, kw_only=True)
class Repeats:
    """The rules for a failure that may repeat.

    :param key: the same for failures that count as the same.
    :param occurrence: the name of this failure among those in a row, such as the ids of DAG and run.
    :param window_s: the seconds for which one incident represents the others; 0 for none.
    :param consecutive_failures: how many failures in a row raise an incident.
    :param find_success: returns when the last success before this failure was, by the clock of its source, or None. It may ask
        Airflow, and is called before the transaction. If it raises an error, the window counts as ended.
    :param source: names what has these successes. Several may share one key, and each success is compared with the earlier ones
        of the same source only: a success of another one may be newer and nevertheless be older than the first failure.
    :param pass_key: of the problem that has the last pass of a roll-up, in place of ``find_success`` and ``source``.
    """

    key: str
    occurrence: str
    window_s: float = 0
    consecutive_failures: int = 1
    find_success: Callable[[], float | None] | None = None
    source: str = ""
    pass_key: str | None = None


@dataclass(frozen=True, kw_only=True)
class Problem:
    """Failures that count as the same, as far as they are known.

    :param identity: the incident that represents the others; None if there is none.
    :param raised_at: when it was raised.
    :param count: how many failures it represents.
    :param until: the end of its window.
    :param counted: the identities of the failures that were counted last.
    :param in_a_row: failures without a success between them.
    :param since: when the first of them was seen.
    :param failed_at: when the last of them was seen.
    :param occurrences: the names of the last of them, such as the runs' ids.
    :param success_at: of one of its sources: the last success before the last failure, by the clock of the source.
    :param passed_at: when the checks of a roll-up last passed.
    """

    identity: str | None = None
    raised_at: float | None = None
    count: int = 0
    until: float | None = None
    counted: tuple[str, ...] = ()
    in_a_row: int = 0
    since: float | None = None
    failed_at: float | None = None
    occurrences: tuple[str, ...] = ()
    success_at: float | None = None
    passed_at: float | None = None

    def is_represented(self, *, now: float, window_s: float) -> bool:
        """Return whether its incident represents one more failure: its window has not ended."""
        return self.identity is not None and self.raised_at is not None and now - self.raised_at < window_s

    def ended(self) -> Problem:
        """Return it after a success, which ends the window and the count."""
        return replace(self, identity=None, in_a_row=0, occurrences=())

    def with_incident(self, identity: str, *, now: float, window_s: float) -> Problem:
        """Return it with a new incident, whose window begins now."""
        return replace(
            self, identity=identity, raised_at=now, count=1, until=now + window_s, counted=(identity,)
        )

    def with_represented(self, identity: str) -> Problem:
        """Return it with one more failure that its incident represents; the same one counts once."""
        if identity in self.counted:
            return self
        return replace(self, count=self.count + 1, counted=(*self.counted, identity)[-LIST_ITEMS:])

    def with_failure(self, occurrence: str, *, now: float) -> Problem:
        """Return it with one more failure in a row.

        The same occurrence counts once: Airflow may call a callback twice, and a run may be cleared.

        :param occurrence: the name of this failure, the same in a second call for it.
        :param now: the present time.
        """
        occurrence = occurrence[:LINE_CHARS]
        if occurrence in self.occurrences:
            return self
        return replace(
            self,
            in_a_row=self.in_a_row + 1,
            since=self.since if self.in_a_row else now,
            failed_at=now,
            occurrences=(*self.occurrences, occurrence)[-LIST_ITEMS:],
        )


def key_of_failure(
    failure: Any, *, bzctrl_conn_id: str, workspace: str, key: str | None, task_id: str = ""
) -> str:
    """Return the key that two failures share if they count as the same one.

    Failures of two connections or workspaces are never the same: the incident of one team must not suppress that of
    another.

    :param failure: the failure.
    :param workspace: of the todo.
    :param key: the user's own; default: the DAG, the task that raises the incident, and the ids of the failed tasks.
    :param task_id: the task that raises the incident; empty for a callback.
    """
    own = key or "/".join([failure.dag_id, task_id, *failure.task_ids])
    # A failure is never represented by the todo of a success, a skip or a warning.
    other = "" if failure.state in ("failed", "up_for_retry") else f":{failure.state}"
    return f"{bzctrl_conn_id}:{workspace}:{own}{other}"
