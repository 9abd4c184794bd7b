"""The decision: is an incident raised for an occurrence, and which? Operators, notifier and listeners all ask here."""

from __future__ import annotations

from typing import TYPE_CHECKING

from bzctrl_provider.fields import name_workspace
from bzctrl_provider.incidents.deployment import Silencing, find_silencing
from bzctrl_provider.incidents.fill import DEFAULT_CONN_ID, Filled, Wishes, complete, fill
from bzctrl_provider.metrics import Outcome, count_todos
from bzctrl_provider.outbox.writer import NotRaised, format_fields, identify
from bzctrl_provider.settings import settings
from bzctrl_provider.store.incidents import Incident
from bzctrl_provider.store.repeats import Repeats, key_of_failure
from bzctrl_provider.text import LINE_CHARS, list_names, one_line

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping
    from typing import Any

    from bzctrl_provider.failure.model import Failure, LazyFailure
    from bzctrl_provider.incidents.occurrence import Occurrence

    Record = Callable[[Incident], Incident | NotRaised]
    FindSilencing = Callable[[Failure | LazyFailure], Silencing]

_COUNTED_AS: dict[str, Outcome] = {
    "ignored": "ignored",
    "silenced": "silenced",
    "counted": "ignored",
    "represented": "deduplicated",
}
"""The counter of each outcome that has one."""

_WITHOUT_REPEATS = frozenset({"deadline", "import"})
"""The kinds of failures that are noticed in the triggerer and in the loop of the DAG processor, which cannot wait for a Variable.
Each of them is an occurrence of its own."""

_A_TEST = "this is a test run, from which callbacks send nothing to BzCtrl unless in_test_runs = True in the section [bzctrl] of Airflow's configuration; it would have been"


def decide(
    occurrence: Occurrence,
    wishes: Wishes,
    *,
    record: Record,
    find_silencing: FindSilencing = find_silencing,
) -> Incident | NotRaised:
    """Decide whether an incident is raised for an occurrence, and which.

    :param occurrence: what happened.
    :param wishes: what the DAG asks for.
    :param record: decides by what the store remembers, and notes it: ``write`` or ``claim`` of
        ``outbox.writer``. Its errors are raised.
    :param find_silencing: returns whether the failure is silenced, and counts it.
    """
    decision = _decide(occurrence, wishes, record, find_silencing)
    if isinstance(decision, NotRaised) and decision.outcome in _COUNTED_AS:
        count_todos(_COUNTED_AS[decision.outcome], todo_type=wishes.values.get("todo_type") or "INCIDENT")
    return decision


def _decide(
    occurrence: Occurrence, wishes: Wishes, record: Record, find_silencing: FindSilencing
) -> Incident | NotRaised:
    # The order matters: nothing is looked up for a try that is not the last; a silence counts only what no route ignores; and
    # what is only tested, ignored or silenced is no failure in a row, and neither opens a window.
    if occurrence.dismissed:
        return NotRaised(outcome="dismissed", why=occurrence.dismissed)
    if occurrence.handled_by:
        roll_ups = list_names(occurrence.handled_by)
        return NotRaised(outcome="covered", why=f"{roll_ups} handled each of the failed tasks")
    filled = fill(occurrence, wishes)
    if filled.routed.ignored_by:
        return NotRaised(outcome="ignored", why=filled.routed.ignored_by)
    may_repeat = occurrence.failure.kind not in _WITHOUT_REPEATS
    silenced = find_silencing(occurrence.failure) if may_repeat else Silencing()
    if silenced.silence:
        return NotRaised(outcome="silenced", why=str(silenced.silence))
    fields = complete(occurrence, wishes, filled, notes=[silenced.note])
    if occurrence.is_test_run and not settings().in_test_runs:
        return NotRaised(outcome="tested", why=f"{_A_TEST} {format_fields(fields)}")
    return record(_new_incident(occurrence, wishes, filled, fields, silenced))


def _new_incident(
    occurrence: Occurrence, wishes: Wishes, filled: Filled, fields: Mapping[str, Any], silenced: Silencing
) -> Incident:
    failure = occurrence.failure
    conn_id = str(filled.values.get("bzctrl_conn_id") or DEFAULT_CONN_ID)
    workspace = name_workspace(fields)
    place = conn_id, workspace, failure.kind, failure.dag_id, failure.run_id
    return Incident(
        identity=identify(*place, *occurrence.occasion, *wishes.templates),
        bzctrl_conn_id=conn_id,
        fields=fields,
        facts={
            "what": "task" if failure.kind == "checks" else failure.kind,
            "dag_id": failure.dag_id,
            "run_id": failure.run_id,
            "file": failure.file or "",
            # Of a DAG file, it is the address of Airflow.
            "run_url": (failure.run_url or "") if failure.run_id else "",
            "reason": one_line(failure.exception or failure.reason or "", max_chars=LINE_CHARS),
        },
        repeats=new_repeats(occurrence, filled.values, conn_id, workspace),
        forget=silenced.key,
    )


def new_repeats(
    occurrence: Occurrence, values: Mapping[str, Any], conn_id: str, workspace: str
) -> Repeats | None:
    """Return the rules for a failure that may repeat; None if each raises an incident."""
    failure = occurrence.failure
    window, number = values.get("dedup_window"), values.get("consecutive_failures") or 1
    if failure.kind in _WITHOUT_REPEATS or (not window and number == 1):
        return None
    return Repeats(
        key=key_of_failure(
            failure,
            bzctrl_conn_id=conn_id,
            workspace=workspace,
            key=values.get("dedup_key"),
            task_id=occurrence.task_id,
        ),
        occurrence=f"{failure.dag_id} {failure.run_id}",
        window_s=window.total_seconds() if window else 0,
        consecutive_failures=number,
        find_success=occurrence.find_success,
        source=occurrence.source,
        pass_key=occurrence.pass_key,
    )
