"""For a whole deployment: an incident for each failed run, without touching a DAG.

Airflow loads this module in every process that parses DAGs, so at its top it imports nothing of Airflow but the mark
for policies, and a DAG that is not meant costs a few microseconds.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import timedelta
from fnmatch import fnmatchcase
from functools import cache
from typing import TYPE_CHECKING, Any

from airflow.policies import hookimpl

if TYPE_CHECKING:
    from airflow.providers.common.compat.sdk import DAG, BaseOperator

_SECTION = "bzctrl"


@dataclass(frozen=True)
class Settings:
    """The ``[bzctrl]`` section of Airflow's configuration; the provider info describes each option."""

    incident_on_failed_run: bool
    remember_exceptions: bool
    conn_id: str
    include_tags: frozenset[str]
    exclude_tags: frozenset[str]
    include_dags: tuple[str, ...]
    exclude_dags: tuple[str, ...]
    domain_workspace: str | None
    priority: str | None
    dedup_window: timedelta | None

    def applies_to(self, dag_id: str, tags: frozenset[str]) -> bool:
        """Tell whether a DAG is included, by tag or by id, and not excluded by either."""
        if self.exclude_tags & tags or any(fnmatchcase(dag_id, pattern) for pattern in self.exclude_dags):
            return False
        if not self.include_tags and not self.include_dags:
            return True
        return bool(self.include_tags & tags) or any(
            fnmatchcase(dag_id, pattern) for pattern in self.include_dags
        )


@cache
def settings() -> Settings:
    """Read the configuration, once for each process."""
    from airflow.configuration import conf

    def words(option: str) -> tuple[str, ...]:
        text = conf.get(_SECTION, option, fallback="") or ""
        return tuple(word.strip() for word in text.split(",") if word.strip())

    return Settings(
        incident_on_failed_run=conf.getboolean(_SECTION, "incident_on_failed_run", fallback=False),
        remember_exceptions=conf.getboolean(_SECTION, "remember_exceptions", fallback=False),
        conn_id=conf.get(_SECTION, "conn_id", fallback="bzctrl_default"),
        include_tags=frozenset(words("include_tags")),
        exclude_tags=frozenset(words("exclude_tags")),
        include_dags=words("include_dags"),
        exclude_dags=words("exclude_dags"),
        domain_workspace=conf.get(_SECTION, "domain_workspace", fallback="") or None,
        priority=conf.get(_SECTION, "priority", fallback="") or None,
        dedup_window=timedelta(seconds=window_s)
        if (window_s := conf.getint(_SECTION, "dedup_window_s", fallback=0))
        else None,
    )


@hookimpl
def dag_policy(dag: DAG) -> None:
    """Add the notifier to a DAG that is meant, beside its own callbacks."""
    chosen = settings()
    if not chosen.incident_on_failed_run or not chosen.applies_to(dag.dag_id, frozenset(dag.tags)):
        return
    from bzctrl_provider.notifications.bzctrl import BzCtrlNotifier

    callbacks = _as_list(dag.on_failure_callback)
    if any(isinstance(callback, BzCtrlNotifier) for callback in callbacks):
        return
    notifier = BzCtrlNotifier(
        bzctrl_conn_id=chosen.conn_id,
        domain_workspace=chosen.domain_workspace,
        priority=chosen.priority,
        dedup_window=chosen.dedup_window,
    )
    notifier.covered_task_ids = _covered_task_ids(dag)
    dag.on_failure_callback = [*callbacks, notifier]
    # Airflow computed this when the DAG was made, and asks it before it looks at the callbacks.
    dag.has_on_failure_callback = True


@hookimpl
def task_policy(task: BaseOperator) -> None:
    """Keep the exceptions of tasks for the incident, where that is wanted."""
    if not settings().remember_exceptions:
        return
    from bzctrl_provider.failure import remember_exception

    callbacks = _as_list(task.on_failure_callback)
    if remember_exception not in callbacks:
        task.on_failure_callback = [remember_exception, *callbacks]


def _as_list(callbacks: Any) -> list[Any]:
    if callbacks is None:
        return []
    return list(callbacks) if isinstance(callbacks, list | tuple) else [callbacks]


def _covered_task_ids(dag: DAG) -> frozenset[str]:
    """Return the tasks before an IncidentOnFailureOperator of the DAG's own: a second incident would be a duplicate."""
    from bzctrl_provider.failure import with_all_before

    # By name: the module of the operators need not be loaded for a DAG that does not use it.
    told = {
        task_id
        for task in dag.tasks
        if any(
            base.__name__ == "IncidentOnFailureOperator"
            for base in getattr(task, "operator_class", type(task)).__mro__
        )
        for task_id in task.upstream_task_ids
    }
    return frozenset(with_all_before(dag, told))
