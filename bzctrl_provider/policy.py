"""For a whole deployment: an incident for each failed run, without touching a DAG.

Airflow loads this module in every process that parses DAGs, so at its top it imports nothing of Airflow but the mark
for policies, and a DAG to which the policy does not apply costs a few microseconds.
"""

from __future__ import annotations

import copy
import logging
import sys
from typing import TYPE_CHECKING, Any

from airflow.policies import hookimpl

from bzctrl_provider.settings import settings

if TYPE_CHECKING:
    from collections.abc import Iterable

    from airflow.providers.common.compat.sdk import DAG, BaseOperator

    from bzctrl_provider.notifications.bzctrl import BzCtrlNotifier
    from bzctrl_provider.settings import Settings

log = logging.getLogger(__name__)

_DELIVERY_TAG = "bzctrl_delivery"
"""Of the DAG that delivers the spool: while BzCtrl is away, each of its failures would add an incident to the spool."""

_NOTIFIER = "bzctrl_provider.notifications.bzctrl", "BzCtrlNotifier"
_ROLL_UP = "bzctrl_provider.operators.bzctrl", "IncidentOnFailureOperator"

_shared: tuple[Settings, BzCtrlNotifier] | None = None
"""The notifier that DAGs share, and the options that it was made for."""

_failed_hooks: set[str] = set()
"""The hooks of which an exception was logged."""


@hookimpl
def dag_policy(dag: DAG) -> None:
    """Add the notifier to a DAG that the options choose, beside its own callbacks. Never raises."""
    try:
        _add_notifier(dag)
        _add_memory_to_dag(dag)
        _add_links(dag)
    except Exception as exc:  # noqa: BLE001 - Airflow would show it as an import error of every DAG
        _log_failure("dag_policy", exc)


@hookimpl
def task_policy(task: BaseOperator) -> None:
    """Keep the exceptions of tasks for the incident, if that is switched on. Never raises."""
    try:
        _add_memory_of_exceptions(task)
    except Exception as exc:  # noqa: BLE001 - as above
        _log_failure("task_policy", exc)


def _log_failure(hook: str, exc: Exception) -> None:
    """Log an exception of a hook, once per process."""
    if hook in _failed_hooks:
        return
    _failed_hooks.add(hook)
    log.error(
        "The %s of the BzCtrl provider failed: DAGs are parsed without it, so their failed runs may raise no incident.",
        hook,
        exc_info=exc,
    )


def _add_notifier(dag: DAG) -> None:
    options = settings()
    if (
        not options.incident_on_failed_run
        or not options.applies_to(dag.dag_id, dag.tags)
        or _DELIVERY_TAG in dag.tags
    ):
        return
    from bzctrl_provider._airflow_internals import enable_failure_callback

    # A call renders a copy of the notifier, so all DAGs without roll-ups share one: most of the policy's time is making it.
    notifier = _shared_notifier(options)
    callbacks = _as_list(dag.on_failure_callback)
    if any(isinstance(callback, type(notifier)) for callback in callbacks):
        return
    if roll_ups := _find_roll_ups(dag):
        notifier = copy.copy(notifier)
        notifier.roll_ups = roll_ups
    dag.on_failure_callback = [*callbacks, notifier]
    enable_failure_callback(dag)


def _shared_notifier(options: Settings) -> BzCtrlNotifier:
    """Return the notifier with the defaults of the deployment."""
    global _shared  # noqa: PLW0603 - of this process
    if _shared is None or _shared[0] is not options:
        from bzctrl_provider.notifications.bzctrl import BzCtrlNotifier

        notifier = BzCtrlNotifier()
        notifier.deployment_defaults = {
            "bzctrl_conn_id": options.conn_id,
            "domain_workspace": options.domain_workspace,
            "priority": options.priority,
            "dedup_window": options.dedup_window,
            "dedup_key": options.dedup_key,
            "consecutive_failures": options.consecutive_failures,
        }
        _shared = options, notifier
    return _shared[1]


def _add_memory_to_dag(dag: DAG) -> None:
    """Keep the exceptions of tasks whose failure raises an incident: of this DAG's notifier, or of a task after them."""
    # A DAG can only use them if they are loaded.
    notifier = _find_loaded(_NOTIFIER)
    roll_up = _find_loaded(_ROLL_UP)
    if notifier is None and roll_up is None:
        return
    if (
        notifier
        and settings().remember_exceptions
        and any(isinstance(callback, notifier) for callback in _as_list(dag.on_failure_callback))
    ):
        _add_memory(dag.tasks)
    for task in dag.tasks if roll_up else ():
        if _is_a(task, roll_up) and roll_up.remembers_exceptions(task):
            from bzctrl_provider.dag_graph import with_all_before

            _add_memory(map(dag.get_task, with_all_before(dag, task.upstream_task_ids)))


def _add_links(dag: DAG) -> None:
    """Give the tasks whose callback may raise an incident a link to it; the others would have an empty list of links.

    Airflow 2 would show a disabled button on each of them.
    """
    notifier = _find_loaded(_NOTIFIER)
    if notifier is None:
        return
    linked = [
        task
        for task in dag.tasks
        if any(
            isinstance(callback, notifier)
            for callback in (*_as_list(task.on_failure_callback), *_as_list(task.on_retry_callback))
        )
    ]
    if not linked:
        return
    from bzctrl_provider._airflow_internals import add_link
    from bzctrl_provider.links.bzctrl import BzCtrlIncidentLink
    from bzctrl_provider.version_compat import airflow_at_least

    if not airflow_at_least(3, 0):
        return
    link = BzCtrlIncidentLink()
    for task in linked:
        add_link(task, link)


def _find_loaded(place: tuple[str, str]) -> Any:
    module, name = place
    return getattr(sys.modules.get(module), name, None)


def _is_a(task: Any, operator: type) -> bool:
    kind = getattr(task, "operator_class", type(task))
    return isinstance(kind, type) and issubclass(kind, operator)


def _add_memory_of_exceptions(task: BaseOperator) -> None:
    options = settings()
    if not (options.remember_exceptions and "remember_exceptions" in options.configured):
        return
    _add_memory([task])


def _add_memory(tasks: Iterable[Any]) -> None:
    from bzctrl_provider.reasons import add_memory

    add_memory(tasks)


def _as_list(callbacks: Any) -> list[Any]:
    if callbacks is None:
        return []
    return list(callbacks) if isinstance(callbacks, list | tuple) else [callbacks]


def _find_roll_ups(dag: DAG) -> dict[str, frozenset[str]]:
    """Return the ids of the DAG's own IncidentOnFailureOperators, each with the ids of all tasks before it."""
    # By name: the module of the operators need not be loaded for a DAG that does not use it.
    roll_ups = [
        task
        for task in dag.tasks
        if any(base.__name__ == _ROLL_UP[1] for base in getattr(task, "operator_class", type(task)).__mro__)
    ]
    if not roll_ups:
        return {}
    from bzctrl_provider.dag_graph import with_all_before

    return {task.task_id: frozenset(with_all_before(dag, task.upstream_task_ids)) for task in roll_ups}
