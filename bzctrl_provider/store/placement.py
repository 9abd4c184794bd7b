"""Whether the database of the store fits the deployment: several machines need one database server."""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING

from airflow.providers.common.compat.sdk import conf

from bzctrl_provider.store.database import database

if TYPE_CHECKING:
    from collections.abc import Collection

log = logging.getLogger(__name__)

_LOCAL_EXECUTORS = frozenset({"LocalExecutor", "SequentialExecutor", "DebugExecutor"})

REMEDY = (
    "set database in the section [bzctrl] of Airflow's configuration to the URL of a database server, such as "
    "postgresql+psycopg2://user:password@host/bzctrl, in each component"
)

_warned: list[bool] = []


def find_problem(hosts: Collection[str] = ()) -> str | None:
    """Return why a file is the wrong place for the store of this deployment; None if it is not.

    :param hosts: of the running components, as far as they are known.
    """
    store = database()
    if not store.is_file:
        return None
    if len(hosts) > 1:
        why = f"Airflow's components run on {len(hosts)} hosts ({', '.join(sorted(hosts))})"
    elif executors := [name for name in _executors() if name not in _LOCAL_EXECUTORS]:
        why = f"the executor {executors[0]} runs tasks on other machines"
    else:
        return None
    return f"The store is the file {store}, and {why}: what is written on one of them is not delivered by another one."


def warn_of_a_file() -> None:
    """Log once in this process if a file is the wrong place for the store."""
    if _warned:
        return
    _warned.append(True)
    if problem := find_problem():
        log.warning("%s To fix it, %s.", problem, REMEDY)


def _executors() -> list[str]:
    names = conf.get("core", "executor", fallback="").split(",")
    # Such as "team:CeleryExecutor", "alias:module.of.Executor" or "module.of.Executor".
    return [name.strip().rpartition(":")[2].rpartition(".")[2] for name in names if name.strip()]
