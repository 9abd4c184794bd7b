"""The DAG files of a storm, written into a folder because many of them differ only in their names.

Each failing DAG is there twice: ``plain_…``, to which the policy does not apply, and ``policy_…``; each DAG that misses a deadline
is there with a callback that does nothing, and with the notifier. So one run of the cluster compares them.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from pathlib import Path

KINDS = ("plain", "policy")

_FAILS = """
from datetime import UTC, datetime

from airflow.providers.common.compat.sdk import DAG, task


@task
def fails():
    raise ValueError("the warehouse is away")


@task
def never_runs(): ...


for dag_id in {dag_ids!r}:
    kind, _, number = dag_id.split("_")
    with DAG(dag_id, schedule=None, start_date=datetime(2026, 1, 1, tzinfo=UTC), tags=[kind]):
        # With all_success no other task can have failed. With another rule the provider has to ask for the states.
        rule = ("none_failed", "all_success")[int(number) % 2]
        fails() >> never_runs.override(trigger_rule=rule)()
"""

_CANARY = """
import os
import time
from datetime import UTC, datetime

from airflow.providers.common.compat.sdk import DAG, Variable, task


def ask(context):
    Variable.get("nothing", None)
    note(context)


def note(context):
    with open(os.environ["BZCTRL_TESTS_CANARY"], "a") as file:
        file.write(f"{{context['run_id']}} {{time.time()}}\\n")


@task
def fails():
    raise ValueError("the canary")


with DAG(
    {dag_id!r},
    schedule=None,
    start_date=datetime(2026, 1, 1, tzinfo=UTC),
    on_failure_callback={callback},
):
    fails()
"""

CANARIES = [f"canary_{number:02}" for number in range(12)]
"""The DAGs whose callbacks are timed, in files of their own: one process would run those of one file one after the other."""

_LATE = """
import asyncio
from datetime import UTC, datetime, timedelta

from airflow.providers.common.compat.sdk import DAG, task
from airflow.sdk.definitions.deadline import AsyncCallback, DeadlineAlert, DeadlineReference

from bzctrl_provider.notifications.bzctrl import BzCtrlNotifier


@task(pool="closed")
def never_runs(): ...


callbacks = {{
    "plain": AsyncCallback("storm_probe.nothing"),
    "policy": AsyncCallback(BzCtrlNotifier, kwargs={{"title": "{{{{ dag_run.dag_id }}}} is late"}}),
}}

for dag_id in {dag_ids!r}:
    with DAG(
        dag_id,
        schedule=None,
        start_date=datetime(2026, 1, 1, tzinfo=UTC),
        deadline=DeadlineAlert(
            reference=DeadlineReference.DAGRUN_QUEUED_AT,
            interval=timedelta(seconds=3),
            callback=callbacks[dag_id.split("_")[1]],
        ),
    ):
        never_runs()
"""

_PROBE = """
import asyncio
import os
import time

from airflow.triggers.base import BaseTrigger, TriggerEvent


async def nothing(**kwargs): ...


class Probe(BaseTrigger):
    def __init__(self, seconds):
        super().__init__()
        self.seconds = seconds

    def serialize(self):
        return "storm_probe.Probe", {"seconds": self.seconds}

    async def run(self):
        loop, slowest_s = asyncio.get_running_loop(), 0.0
        ends_at = time.monotonic() + self.seconds
        while time.monotonic() < ends_at:
            began_at = time.monotonic()
            await loop.getaddrinfo("localhost", 80)
            await asyncio.to_thread(int)
            slowest_s = max(slowest_s, time.monotonic() - began_at)
            await asyncio.sleep(0.1)
        with open(os.environ["BZCTRL_TESTS_CANARY"] + ".probe", "w") as file:
            file.write(str(slowest_s))
        yield TriggerEvent(slowest_s)
"""

_PROBING = """
from datetime import UTC, datetime

from airflow.providers.common.compat.sdk import DAG, BaseOperator
from storm_probe import Probe


class ProbeOperator(BaseOperator):
    def execute(self, context):
        self.defer(trigger=Probe({seconds}), method_name="end")

    def end(self, context, event=None):
        return event


with DAG("probe", schedule=None, start_date=datetime(2026, 1, 1, tzinfo=UTC)):
    ProbeOperator(task_id="probe")
"""

PROBE_S = 30
"""The seconds for which a trigger measures how quickly others get a name looked up, and a thread."""

_DELIVERY = """
# Airflow looks for DAGs in files with this word only.
from bzctrl_provider.outbox import create_delivery_dag

delivery_dag = create_delivery_dag()
"""


def failing(kind: str, count: int) -> list[str]:
    """Return the DAGs of a kind that fail: half of them are in one file, the others in files of their own."""
    shared = (count + 1) // 2
    return [
        *(f"{kind}_shared_{number:03}" for number in range(shared)),
        *(f"{kind}_own_{number:03}" for number in range(count - shared)),
    ]


def late(kind: str, count: int) -> list[str]:
    """Return the DAGs that miss a deadline: with the notifier, or with a callback that does nothing."""
    return [f"late_{kind}_{number:03}" for number in range(count)]


def write_dags(folder: Path, *, fail_count: int, late_count: int, has_delivery_dag: bool) -> int:
    """Write the DAG files into an existing folder, and return the number of DAGs."""
    files = {
        **{f"{dag_id}.py": _CANARY.format(dag_id=dag_id, callback="note") for dag_id in CANARIES},
        "first_request.py": _CANARY.format(dag_id="first_request", callback="ask"),
        "late.py": _LATE.format(dag_ids=[*late("policy", late_count), *late("plain", late_count)]),
        "storm_probe.py": _PROBE,
        "probing.py": _PROBING.format(seconds=PROBE_S),
    }
    for dag_ids in zip(*(failing(kind, fail_count) for kind in KINDS), strict=True):
        if "own" in dag_ids[0]:
            files[f"{dag_ids[0].removeprefix('plain_')}.py"] = _FAILS.format(dag_ids=list(dag_ids))
    for kind in KINDS:
        shared = [dag_id for dag_id in failing(kind, fail_count) if "shared" in dag_id]
        files[f"{kind}_shared.py"] = _FAILS.format(dag_ids=shared)
    if has_delivery_dag:
        files["delivery.py"] = _DELIVERY
    for name, text in files.items():
        (folder / name).write_text(text)
    return len(KINDS) * (fail_count + late_count) + len(CANARIES) + 2 + has_delivery_dag
