"""For a whole deployment: an incident for each failed run, without touching a DAG.

A listener in the scheduler notes the run, and the delivery raises its incident; the policy marks the DAGs of which the scheduler
has to know more, and keeps the exceptions of their tasks.

Airflow loads this module in every process that parses DAGs, so at its top it imports nothing of Airflow but the mark
for policies, and a DAG to which the policy does not apply costs a few microseconds.
"""

from __future__ import annotations

import logging
import sys
from typing import TYPE_CHECKING, Any

from airflow.policies import hookimpl

from bzctrl_provider.settings import settings

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from airflow.providers.common.compat.sdk import DAG, BaseOperator

log = logging.getLogger(__name__)

_NOTIFIER = "bzctrl_provider.notifications.bzctrl", "BzCtrlNotifier"
_ROLL_UP = "bzctrl_provider.operators.bzctrl", "IncidentOnFailureOperator"

_failed_hooks: set[str] = set()
"""The hooks of which an exception was logged."""


@hookimpl
def dag_policy(dag: DAG) -> None:
    """Mark a DAG that the options choose for the scheduler, and prepare its tasks. Never raises."""
    _run_steps("dag_policy", dag, _mark, _prepare_tasks, _prepare_notified)


@hookimpl
def task_policy(task: BaseOperator) -> None:
    """Keep the exceptions of tasks for the incident, if that is switched on. Never raises."""
    _run_steps("task_policy", task, _keep_reasons_if_configured)


def _run_steps(hook: str, subject: Any, *steps: Callable[[Any], None]) -> None:
    """Run the steps of a hook, and log an exception of it once per process."""
    try:
        for step in steps:
            step(subject)
    except Exception:  # Airflow would show it as an import error of every DAG
        if hook not in _failed_hooks:
            _failed_hooks.add(hook)
            log.exception(
                "The %s of the BzCtrl provider failed: DAGs are parsed without it, so their failed runs may raise no incident.",
                hook,
            )


def _is_chosen(dag: DAG) -> bool:
    options = settings()
    return options.incident_on_failed_run and options.applies_to(dag.dag_id, dag.tags)


def _mark(dag: DAG) -> None:
    """Note what the scheduler cannot see in a DAG: whether it has a notifier of its own, and its roll-ups."""
    if not _is_chosen(dag):
        return
    from bzctrl_provider.airflow_compat import mark_dag

    if _has_notifier(dag.on_failure_callback):
        mark_dag(dag, has_notifier=True)
    elif roll_ups := _find_roll_ups(dag):
        mark_dag(dag, roll_ups=sorted(task.task_id for task in roll_ups))


def _has_notifier(callbacks: Any) -> bool:
    """Return whether there is a notifier among callbacks; there can only be one if the module is loaded."""
    notifier = _find_loaded(*_NOTIFIER)
    if not notifier:
        return False
    from bzctrl_provider.failure.dag_graph import list_callbacks

    return any(isinstance(callback, notifier) for callback in list_callbacks(callbacks))


def _prepare_tasks(dag: DAG) -> None:
    """Prepare the tasks whose failure raises an incident, of their run, or of a roll-up after them.

    They keep their exceptions, and those directly before a roll-up do not skip it.
    """
    if settings().remember_exceptions and (_is_chosen(dag) or _has_notifier(dag.on_failure_callback)):
        _keep_reasons(dag.tasks)
    for roll_up in _find_roll_ups(dag):
        _prepare_before(dag, roll_up)


def _prepare_before(dag: DAG, roll_up: Any) -> None:
    """Do what a roll-up does when it is connected: a mapped one, and one that its task group connects, is not asked."""
    from bzctrl_provider.failure.dag_graph import keep_from_skipping, with_all_before
    from bzctrl_provider.failure.reasons import keep_reasons

    keep_from_skipping(map(dag.get_task, roll_up.upstream_task_ids), roll_up.task_id)
    operator = _find_loaded(*_ROLL_UP)
    if operator.get_option(roll_up, "remember_exceptions"):
        before = with_all_before(dag, roll_up.upstream_task_ids)
        keep_reasons(map(dag.get_task, before), log_lines=operator.get_option(roll_up, "include_log_lines"))


def _prepare_notified(dag: DAG) -> None:
    """Give the tasks whose callback may raise an incident a link to it, and let them keep the last lines of their logs.

    The others would have an empty list of links, and Airflow 2 would show a disabled button on each of them.
    """
    if not _find_loaded(*_NOTIFIER):
        return
    from bzctrl_provider.airflow_compat import add_link, airflow_at_least
    from bzctrl_provider.failure.reasons import keep_log_lines
    from bzctrl_provider.links.bzctrl import BzCtrlIncidentLink

    for task in dag.tasks:
        if _has_notifier(task.on_failure_callback) or _has_notifier(task.on_retry_callback):
            keep_log_lines(task, settings().include_log_lines)
            if airflow_at_least(3, 0):
                add_link(task, BzCtrlIncidentLink())


def _find_loaded(module: str, name: str) -> Any:
    return getattr(sys.modules.get(module), name, None)


def _keep_reasons_if_configured(task: BaseOperator) -> None:
    options = settings()
    if options.remember_exceptions and "remember_exceptions" in options.configured:
        _keep_reasons([task])


def _keep_reasons(tasks: Iterable[Any]) -> None:
    from bzctrl_provider.failure.reasons import keep_reasons

    keep_reasons(tasks, log_lines=settings().include_log_lines)


def _find_roll_ups(dag: DAG) -> list[Any]:
    """Return the DAG's own IncidentOnFailureOperators; a DAG can only use them if their module is loaded."""
    operator = _find_loaded(*_ROLL_UP)
    # A mapped task has the class of its instances.
    return [
        task
        for task in (dag.tasks if operator else ())
        if issubclass(getattr(task, "operator_class", type(task)), operator)
    ]
