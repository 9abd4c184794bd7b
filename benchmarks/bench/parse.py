"""Parse and serialize a file with a hundred operators as the DAG processor does, in a fork of what its manager has loaded."""

from __future__ import annotations

import os
import time
from functools import partial
from pathlib import Path

import airflow.dag_processing.manager  # noqa: F401 - what is loaded when a file is parsed
from airflow.dag_processing.dagbag import BundleDagBag
from airflow.serialization.serialized_objects import DagSerialization

from bench.figures import ratios
from bench.worker import forked_rounds, run

_FILES = {
    "bash": ("airflow.providers.standard.operators.bash import BashOperator", "bash_command='true'"),
    "ours": ("bzctrl_provider.operators.bzctrl import CreateTodoOperator", ""),
}
"""An operator and its mandatory arguments."""

_TEXT = """\
from airflow.sdk import DAG
from {imported} as Operator

with DAG("bench", schedule=None):
    for number in range(100):
        Operator(task_id=f"task_{{number}}", {given})
"""


def _parse(file: Path) -> tuple[float, float]:
    """Return the CPU seconds of parsing and of serializing."""
    began = time.process_time()
    bag = BundleDagBag(dag_folder=file, bundle_path=file.parent, bundle_name="bench", load_op_links=False)
    parsed = time.process_time()
    (dag,) = bag.dags.values()
    DagSerialization.to_dict(dag)
    return parsed - began, time.process_time() - parsed


def main(rounds: int) -> dict[str, list[float]]:
    """Return the ratios of both steps."""
    contestants = {}
    for name, (imported, given) in _FILES.items():
        file = Path(os.environ["AIRFLOW_HOME"], f"{name}.py")
        file.write_text(_TEXT.format(imported=imported, given=given), encoding="utf-8")
        contestants[name] = partial(_parse, file)
    measured = forked_rounds(contestants, rounds)
    return {
        key: ratios([of[step] for of in measured["ours"]], [of[step] for of in measured["bash"]])
        for step, key in enumerate(("parse.first", "parse.serialize"))
    }


if __name__ == "__main__":
    run(main)
