"""DAGs whose incidents have the last lines of the logs of failed commands."""

from __future__ import annotations

import datetime as dt
import logging

from airflow.providers.common.compat.sdk import DAG, mask_secret, task

from bzctrl_provider.notifications.bzctrl import BzCtrlNotifier
from bzctrl_provider.operators.bzctrl import IncidentOnFailureOperator

try:
    from airflow.providers.standard.operators.bash import BashOperator
    from airflow.providers.standard.operators.empty import EmptyOperator
except ImportError:  # a fresh Airflow 2.11 has its own
    from airflow.operators.bash import BashOperator
    from airflow.operators.empty import EmptyOperator

ARGS = {"schedule": None, "start_date": dt.datetime(2026, 1, 1, tzinfo=dt.UTC)}
SECRET = "s3cret-of-a-command"
COMMAND = """
for i in $(seq 100); do
    [ $i = 97 ] && echo "line $i $TOKEN" || printf 'line %s \\033[31mred\\033[0m\\n' $i
done
exit 1
"""


def new_command(task_id: str) -> BashOperator:
    # As a task does that reads a connection; the command does not have it as text.
    return BashOperator(
        task_id=task_id,
        bash_command=COMMAND,
        env={"TOKEN": SECRET},
        append_env=True,
        pre_execute=lambda _: mask_secret(SECRET),
    )


with DAG("rolled_up", **ARGS) as rolled_up:
    [new_command("first"), new_command("second")] >> IncidentOnFailureOperator(
        task_id="raise_incident", include_log_lines=5
    )

with DAG("mapped_lines", **ARGS) as mapped_lines:
    BashOperator.partial(task_id="check").expand(
        bash_command=["echo good", "echo late; exit 1", "echo lost; exit 2"]
    ) >> IncidentOnFailureOperator(task_id="raise_incident", include_log_lines=2)

with DAG("rolled_up_by_option", **ARGS) as rolled_up_by_option:
    start = EmptyOperator(task_id="start")
    start >> new_command("check") >> IncidentOnFailureOperator(task_id="raise_incident")

with DAG("rolled_up_without", **ARGS) as rolled_up_without:
    new_command("check") >> IncidentOnFailureOperator(task_id="raise_incident", include_log_lines=0)

with DAG(
    "notified_of_task", **ARGS, default_args={"on_failure_callback": BzCtrlNotifier()}
) as notified_of_task:
    new_command("check")

with DAG("python", **ARGS) as python:

    @task
    def checks() -> None:
        log = logging.getLogger("customs")
        log.warning("%s%s of %d characters", "a line " * 1000, SECRET, 7000)
        log.debug("a detail")
        log.warning("read %d rows\n\nof two lines", 7)
        log.warning("100 %s")
        logging.getLogger("airflow.task").warning("3 rows are late\x00\u202e")
        raise ValueError("late")

    checks() >> IncidentOnFailureOperator(task_id="raise_incident", include_log_lines=50)
