"""The DAG that delivers the outbox."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any

from airflow.providers.common.compat.sdk import DAG, AirflowException, AirflowSkipException, BaseOperator

from bzctrl_provider.text import LIST_ITEMS

if TYPE_CHECKING:
    from airflow.providers.common.compat.sdk import Context

DELIVERY_TAG = "bzctrl_delivery"
"""The policy leaves out DAGs with this tag: an incident about the delivery would wait for the delivery."""


class DeliverOutboxOperator(BaseOperator):
    """The task of a delivery: skipped if nothing waits, failed if something is kept or rejected."""

    def execute(self, context: Context) -> dict[str, Any]:
        """Send what waits for at most 5 minutes; the next run goes on."""
        del context
        from bzctrl_provider.outbox.runner import deliver, note_scheduled
        from bzctrl_provider.store.database import warn_of_a_file
        from bzctrl_provider.text import list_names

        warn_of_a_file()
        note_scheduled()
        result = deliver(limit_s=300)
        if result.busy:
            raise AirflowSkipException("Another process delivers.")
        left = [*result.rejected, *result.kept]
        if left:
            by_reason: dict[str, list[str]] = {}
            for one in left:
                by_reason.setdefault(one["reason"], []).append(one["identity"])
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


def build(dag_id: str, *, schedule: Any, **dag_arguments: Any) -> DAG:
    """Return the DAG, see ``create_delivery_dag``."""
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
    return dag
