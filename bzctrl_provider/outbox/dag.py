"""The DAG that delivers the outbox."""

from __future__ import annotations

import inspect
import logging
from collections import defaultdict
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any

from airflow.providers.common.compat.sdk import DAG, AirflowException, AirflowSkipException, BaseOperator

from bzctrl_provider.text import LIST_ITEMS, list_names

if TYPE_CHECKING:
    from airflow.providers.common.compat.sdk import Context

log = logging.getLogger(__name__)

DELIVERY_TAG = "bzctrl_delivery"
"""The policy leaves out DAGs with this tag: an incident about the delivery would wait for the delivery."""


class DeliverOutboxOperator(BaseOperator):
    """The task of a delivery: skipped if nothing waits, failed if something is kept or rejected."""

    def execute(self, context: Context) -> dict[str, Any]:
        """Send what waits for at most 5 minutes; the next run goes on."""
        del context
        from bzctrl_provider.outbox.runner import deliver, note_scheduled
        from bzctrl_provider.store.database import find_misplacement

        if misplacement := find_misplacement():
            log.warning("%s", misplacement)
        note_scheduled()
        result = deliver(limit_s=300)
        if result.busy:
            raise AirflowSkipException("Another process delivers.")
        by_reason: dict[str, list[str]] = defaultdict(list)
        for one in (*result.rejected, *result.kept):
            by_reason[one["reason"]].append(one["identity"])
        if by_reason:
            lines = [f"- {list_names(ids)}: {reason}" for reason, ids in by_reason.items()]
            if len(lines) > LIST_ITEMS:
                lines[LIST_ITEMS:] = [f"- and {len(lines) - LIST_ITEMS} more reasons"]
            raise AirflowException(
                f"{len(result.kept)} stay in the outbox, {len(result.rejected)} were rejected, "
                f"{len(result.created)} were created.\n" + "\n".join(lines)
            )
        if not result.created:
            raise AirflowSkipException("Nothing waits in the outbox.")
        return result.as_dict()


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
    tags = {DELIVERY_TAG, "bzctrl", *dag_arguments.pop("tags", ())}
    arguments: dict[str, Any] = {
        "start_date": datetime(2026, 1, 1, tzinfo=UTC),
        "catchup": False,
        "max_active_runs": 1,
        "max_active_tasks": 1,
        "is_paused_upon_creation": False,
        "description": "Delivers the incidents that wait in the outbox to BzCtrl.",
    }
    with DAG(dag_id=dag_id, schedule=schedule, tags=sorted(tags), **(arguments | dag_arguments)) as dag:
        DeliverOutboxOperator(
            task_id="deliver", retries=0, execution_timeout=timedelta(minutes=30), on_failure_callback=None
        )
    # Of the DAG file, not of this module: ``dag.test()`` looks for the DAG there.
    dag.fileloc = inspect.stack(context=0)[1].filename
    return dag
