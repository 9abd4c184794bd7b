"""The outbox: incidents are written into the store first, and delivered to BzCtrl by one deliverer at a time.

Writing needs no request to BzCtrl and loads no HTTP library. A delivery sends everything that waits; ``docs/outbox.md`` says
what that promises.
"""

from __future__ import annotations

import importlib
import inspect
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from airflow.providers.common.compat.sdk import DAG

    from bzctrl_provider.outbox.delivery import DeliveryResult
    from bzctrl_provider.outbox.runner import deliver, deliver_soon
    from bzctrl_provider.outbox.writer import NotRaised, identify, write
    from bzctrl_provider.store.incidents import Incident
    from bzctrl_provider.store.repeats import Repeats

_PLACES = {
    "DeliveryResult": "bzctrl_provider.outbox.delivery",
    "Incident": "bzctrl_provider.store.incidents",
    "NotRaised": "bzctrl_provider.outbox.writer",
    "Repeats": "bzctrl_provider.store.repeats",
    "deliver": "bzctrl_provider.outbox.runner",
    "deliver_soon": "bzctrl_provider.outbox.runner",
    "identify": "bzctrl_provider.outbox.writer",
    "write": "bzctrl_provider.outbox.writer",
}

__all__ = [
    "DeliveryResult",
    "Incident",
    "NotRaised",
    "Repeats",
    "create_delivery_dag",
    "deliver",
    "deliver_soon",
    "identify",
    "write",
]


def __getattr__(name: str) -> Any:
    # A DAG file with the delivery DAG is parsed without the store.
    if name not in _PLACES:
        raise AttributeError(f"module {__name__} has no attribute {name}")
    return getattr(importlib.import_module(_PLACES[name]), name)


def create_delivery_dag(
    dag_id: str = "bzctrl_delivery", *, schedule: Any = "* * * * *", **dag_arguments: Any
) -> DAG:
    """Return a DAG that delivers the outbox: one line in a DAG file.

    ```python
    from bzctrl_provider.outbox import create_delivery_dag

    delivery_dag = create_delivery_dag()  # a DAG of Airflow
    ```

    Airflow looks for DAGs only in files that contain the words "airflow" and "dag": keep the comment.

    One run is active at a time. The run is skipped if nothing waits, and fails if an incident had to be kept or was
    rejected, after it has sent all others. It has the tag ``bzctrl_delivery``, which keeps the policy of
    ``incident_on_failed_run`` from raising incidents about it.

    :param dag_id: the id of the DAG.
    :param schedule: when it runs; default: every minute.
    :param dag_arguments: further arguments of the DAG, such as ``default_args={"queue": "…"}``.
    :return: the DAG, not paused when Airflow first finds it.
    """
    from bzctrl_provider.outbox.dag import build

    dag = build(dag_id, schedule=schedule, **dag_arguments)
    # Of the DAG file, not of the module that makes the DAG: ``dag.test()`` looks for the DAG there.
    frame = inspect.currentframe()
    if frame and frame.f_back:
        dag.fileloc = frame.f_back.f_code.co_filename
    return dag
