"""What could not be raised is raised later.

The story: at night the network was down for an hour. A run failed in that hour, its callback could not reach BzCtrl, and a
callback has no second try. With ``[bzctrl] spool_path`` in Airflow's configuration the incident is not lost: the callback
writes it to a file there. This DAG looks every quarter of an hour, and creates what it finds, the oldest first.

Things to notice:

* The task is skipped where nothing waits. It fails where something had to be kept, after it has created all the others: the
  error tells each file with its reason, and somebody should look at it.
* An attempt without an answer may have created the todo. It is made again all the same, and the last line of its
  description says that it may be a duplicate.
* One run at a time: not every object store can keep two replays apart.
* It raises no incident about itself. Where ``[bzctrl] incident_on_failed_run`` is on, put it into ``exclude_dags``: each of
  its failures would add one more file to the spool.

It needs ``[bzctrl] spool_path``, and the connections that the files name.
"""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

from airflow.providers.common.compat.sdk import DAG, AirflowException, AirflowSkipException, task

from bzctrl_provider.spool import replay_spool, spool_path

with DAG(
    dag_id="replay_spool",
    schedule="*/15 * * * *",
    start_date=datetime(2026, 1, 1, tzinfo=UTC),
    catchup=False,
    max_active_runs=1,
    max_active_tasks=1,
    tags=["bzctrl", "example"],
    doc_md=__doc__,
) as dag:

    @task(retries=0)
    def replay() -> dict[str, Any]:
        """Create what waits in the spool, and fail where something is kept."""
        if spool_path() is None:
            raise AirflowSkipException("There is no spool: spool_path in the section [bzctrl] is not set.")
        result = replay_spool()
        if result.kept:
            kept = "\n".join(f"- {kept['file']}: {kept['reason']}" for kept in result.kept)
            raise AirflowException(
                f"{len(result.kept)} stay in the spool, {len(result.created)} were created.\n{kept}"
            )
        if not result.created:
            raise AirflowSkipException("Nothing waits in the spool.")
        return result.as_dict()

    replay()
