"""Parse and serialize a DAG file as Airflow's DAG processor does: in a fork of what has its manager loaded."""

from __future__ import annotations

import json
import sys
import time
from functools import partial
from pathlib import Path

import airflow.dag_processing.manager  # noqa: F401 - what is loaded when a file is parsed
from airflow.dag_processing.dagbag import BundleDagBag
from airflow.serialization.serialized_objects import DagSerialization

from bench.children.forked import forked, settle


def cpu_ms(file: Path) -> dict[str, float]:
    """Return the CPU milliseconds of the two steps."""
    began = time.process_time()
    bag = BundleDagBag(dag_folder=file, bundle_path=file.parent, bundle_name="bench", load_op_links=False)
    parsed = time.process_time()
    (dag,) = bag.dags.values()
    DagSerialization.to_dict(dag)
    return {"first": (parsed - began) * 1e3, "serialize": (time.process_time() - parsed) * 1e3}


def main(rounds: int, files: list[Path]) -> list[list[dict[str, float]]]:
    """Return the CPU milliseconds for each file, round by round."""
    for file in files:  # writes the bytecode that an installation has
        forked(partial(cpu_ms, file))
    settle()
    return [[forked(partial(cpu_ms, file)) for file in files] for _ in range(rounds)]


if __name__ == "__main__":
    print(json.dumps({"measured": main(int(sys.argv[1]), [Path(file) for file in sys.argv[2:]])}))
