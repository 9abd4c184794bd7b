"""The spool: incidents are written to files first, and delivered to BzCtrl by one deliverer at a time.

```ini
[bzctrl]
spool_path = s3://aws_default@my-bucket/bzctrl-spool
```

Writing needs no network for a local spool and loads no HTTP library. A delivery sends everything that waits;
``docs/spool.md`` says what that promises.
"""

from __future__ import annotations

import inspect
from typing import TYPE_CHECKING, Any

from bzctrl_provider.spool.entry import Entry, identify
from bzctrl_provider.spool.outbox import WriteResult, spool_path, spool_todo, write_entry
from bzctrl_provider.spool.runner import deliver, deliver_soon, replay_spool

if TYPE_CHECKING:
    from airflow.providers.common.compat.sdk import DAG

__all__ = [
    "Entry",
    "WriteResult",
    "create_delivery_dag",
    "deliver",
    "deliver_soon",
    "identify",
    "replay_spool",
    "spool_path",
    "spool_todo",
    "write_entry",
]


def create_delivery_dag(
    dag_id: str = "bzctrl_delivery", *, schedule: Any = "* * * * *", **dag_arguments: Any
) -> DAG:
    """Return a DAG that delivers the spool: one line in a DAG file.

    ```python
    from bzctrl_provider.spool import create_delivery_dag

    delivery_dag = create_delivery_dag()  # a DAG of Airflow
    ```

    Airflow looks for DAGs only in files that contain the words "airflow" and "dag": keep the comment.

    One run is active at a time. The run is skipped if nothing waits, and fails if an entry had to be kept or was
    rejected, after it has sent all others. It has the tag ``bzctrl_delivery``, which keeps the policy of
    ``incident_on_failed_run`` from raising incidents about it.

    :param dag_id: the id of the DAG.
    :param schedule: when it runs; default: every minute.
    :param dag_arguments: further arguments of the DAG, such as ``default_args={"queue": "…"}``.
    :return: the DAG, not paused when Airflow first finds it.
    """
    from bzctrl_provider.spool.dag import build

    dag = build(dag_id, schedule=schedule, **dag_arguments)
    # Of the DAG file, not of the module that makes the DAG: ``dag.test()`` looks for the DAG there.
    frame = inspect.currentframe()
    if frame and frame.f_back:
        dag.fileloc = frame.f_back.f_code.co_filename
    return dag
