"""Contexts as Airflow passes them to a task, to its callback and to a DAG's callback, made without a database."""

from __future__ import annotations

from types import SimpleNamespace


class TaskInstance(SimpleNamespace):
    """A task instance that keeps what is pushed to XCom, in ``pushed``; the task last succeeded at ``succeeded_at``."""

    def __init__(self, *, succeeded_at=None, **changes):
        values = {"task_id": "load", "map_index": -1, "state": "failed", "try_number": 1}
        values["log_url"] = "https://airflow.example.com/log"
        super().__init__(pushed=[], succeeded_at=succeeded_at, **{**values, **changes})

    def get_previous_ti(self, *, state, logical_date, map_index):
        assert (state, map_index) == ("success", self.map_index)
        return SimpleNamespace(end_date=self.succeeded_at) if self.succeeded_at else None

    def xcom_push(self, key, value):
        self.pushed.append((key, value))


def new_dag(dag_id="customs"):
    """Return a DAG as `airflow dags test` passes it: serialized, therefore without a Jinja environment."""
    return SimpleNamespace(dag_id=dag_id, owner="team", render_template_as_native_obj=False)


def new_task_context(state="failed", *, ti=None, **more):
    """Return the context of a task's failure callback.

    :param state: the state of the task instance.
    :param ti: another task instance than a new :class:`TaskInstance`.
    :param more: further keys, or other values.
    """
    ti = ti or TaskInstance(state=state)
    return {
        "dag": new_dag(),
        "ti": ti,
        "task": SimpleNamespace(task_id=ti.task_id, task_type="@task", upstream_task_ids=set()),
        "run_id": "r",
        "exception": OSError("disk full"),
        **more,
    }


def new_run_context(**more):
    """Return the context of a DAG's failure callback, which has no task instance."""
    return {"dag": new_dag(), "run_id": "r", "reason": "task_failure", **more}
